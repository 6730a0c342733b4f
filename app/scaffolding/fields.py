"""The fields of a new resource: their kinds, and what each is called in each room."""

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
# Every resource has these.
_OWN = frozenset({"id", "owner_id", "version", "created_at", "updated_at"})
# What the classes are written with, and what their fields' types would be called like.
_MEANT = frozenset({"str", "int", "float", "bool", "list", "date", "datetime", "self"})
_CLASSES = frozenset({"in", "out", "patch", "page", "cursor_page"})
_TAKEN = _OWN | _MEANT | _CLASSES | {*dir(BaseModel), *dir(tuple)}


class Refused(ValueError):
    """A name or field that cannot be; says why."""


@dataclass(frozen=True)
class Kind:
    """What a kind of field is: as a column, in Python, as a schema, and as examples."""

    column: str
    migration: str
    python: str
    schema: str
    example: str
    other: str  # another valid value
    bad: str  # one that is refused
    answer: str = ""  # how answers have it, where that is not as in Python


KINDS = {
    "str": Kind(
        "String(200)",
        "sa.String(200)",
        "str",
        'Annotated[Line, Field(min_length=1, max_length=200, examples=["Oak"])]',
        '"Oak"',
        '"Elm"',
        '"\\x00"',
    ),
    "text": Kind(
        "Text",
        "sa.Text()",
        "str",
        'Annotated[Text, Field(max_length=2000, examples=["Two lines.\\nOr three."])]',
        '"Two lines.\\nOr three."',
        '"One line."',
        '"\\x00"',
    ),
    "int": Kind(
        "BigInteger",
        "sa.BigInteger()",
        "int",
        "Annotated[int, Field(ge=-(2**63), le=2**63 - 1, examples=[3])]",
        "3",
        "4",
        '"many"',
    ),
    "money": Kind(
        "Money",
        "sa.BigInteger()",
        "Decimal",
        "Annotated[Decimal, Field(max_digits=12, decimal_places=2, examples=[349.5])]",
        "349.5",
        "-0.07",
        "0.001",
        "float",
    ),
    "bool": Kind(
        "Boolean",
        "sa.Boolean()",
        "bool",
        "Annotated[bool, Field(examples=[True])]",
        "True",
        "False",
        '"perhaps"',
    ),
    "date": Kind(
        "Date",
        "sa.Date()",
        "date",
        'Annotated[date, Field(examples=["2026-11-21"])]',
        '"2026-11-21"',
        '"2026-12-24"',
        '"tomorrow"',
    ),
    "datetime": Kind(
        "UtcDateTime",
        "sa.DateTime(timezone=True)",
        "datetime",
        'Annotated[Moment, Field(examples=["2026-11-21T09:30:00Z"])]',
        '"2026-11-21T09:30:00Z"',
        '"2026-12-24T18:00:00Z"',
        '"9999-12-31T23:59:59-12:00"',
    ),
}


@dataclass(frozen=True)
class FieldOf:
    """A field of a new resource."""

    name: str
    kind: Kind


def parse_fields(texts: Sequence[str]) -> list[FieldOf]:
    """Read `name:kind` words; `str` where no kind is given.

    Raises:
        Refused: a name or kind cannot be, or a name comes twice.
    """
    fields: list[FieldOf] = []
    for text in texts:
        name, _, kind = text.partition(":")
        check_name(name)
        if name in _TAKEN or name in [each.name for each in fields]:
            raise Refused(f"{name!r} is taken")
        if (kind or "str") not in KINDS:
            raise Refused(f"{kind!r} is no kind of field; there are {', '.join(KINDS)}")
        fields.append(FieldOf(name, KINDS[kind or "str"]))
    return fields


def check_name(name: str) -> None:
    """Refuse what cannot name a module, a table and a column.

    Raises:
        Refused: it is not snake_case, or means something in Python.
    """
    if not _NAME.fullmatch(name) or name.endswith("_") or "__" in name:
        raise Refused(f"{name!r} is not a name in snake_case")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise Refused(f"{name!r} is a word of Python")
