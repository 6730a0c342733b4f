"""Reads lines as items, by the rules of POST; what is wrong with a line is told by line."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from app.errors import Unprocessable
from app.schemas.items import ItemIn
from app.schemas.items_import import UNHEEDED, ItemLine, ItemLineV2
from app.schemas.json_depth import JsonDepth
from app.schemas.validation import field_errors
from app.services.formulas import unguard
from app.services.import_lines import Line

MAX_ERRORS = 20  # of one line; more help nobody
_MAX_NAME = 100  # characters of a field's name that are told, as the client chose it
_TEXT = frozenset({"name", "description", "display_name"})
_PLACE = re.compile(r" at line 1 column (\d+)")

Errors = list[dict[str, str]]
_ReadOne = Callable[[bytes], ItemIn]


class Refused(Exception):
    """A line that cannot be taken, and why."""

    def __init__(self, errors: Errors) -> None:
        super().__init__("refused")
        self.errors = errors

    @classmethod
    def whole(cls, message: str, kind: str) -> "Refused":
        """Return the refusal of a line as a whole."""
        return cls([{"field": "", "message": message, "type": kind}])


class BadHeader(Exception):
    """The header of a CSV file names columns that make no items of its records."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A line that was refused."""

    line: int
    errors: Errors


@dataclass(frozen=True, slots=True)
class Reader:
    """How the lines of one file are read."""

    is_csv: bool
    is_v2: bool
    max_depth: int

    def read(
        self, lines: Iterable[Line], columns: Sequence[str] | None
    ) -> tuple[list[ItemIn], list[Rejection]]:
        """Return the items of these lines, and the lines that are none; blank lines are neither."""
        items: list[ItemIn] = []
        rejections: list[Rejection] = []
        read_one = self._csv(columns or ()) if self.is_csv else self._ndjson()
        for line in lines:
            content = line.content.removesuffix(b"\r")
            if not content.strip() and not line.defect:
                continue
            try:
                if line.defect:
                    raise Refused.whole(line.defect, "line_unreadable")
                items.append(read_one(content))
            except Refused as refused:
                rejections.append(Rejection(line.number, refused.errors))
        return items, rejections

    def header(self, line: Line) -> list[str]:
        """Return the fields that the columns of a CSV file stand for.

        Raises:
            BadHeader: one is unknown or there twice, or one that is needed is missing.
        """
        try:
            if line.defect:
                raise Refused.whole(line.defect, "line_unreadable")
            cells = _cells(_decoded(line.content.removesuffix(b"\r")))
        except Refused as refused:
            raise BadHeader(refused.errors[0]["message"]) from refused
        known = _fields(is_v2=self.is_v2)
        columns = [cell.strip() for cell in cells]
        unknown = [column[:_MAX_NAME] for column in columns if column not in known]
        if unknown:
            raise BadHeader(f"The header names unknown columns: {', '.join(unknown[:MAX_ERRORS])}")
        fields = [known[column] for column in columns]
        if len(set(fields)) < len(fields):
            raise BadHeader("The header names a column twice")
        if not {"name", "price"} <= set(fields):
            raise BadHeader("The header must name the columns name and price")
        return fields

    def _ndjson(self) -> _ReadOne:
        adapter = _adapter(is_v2=self.is_v2)

        def read_one(content: bytes) -> ItemIn:
            _decoded(content)
            if content.count(b"{") + content.count(b"[") > self.max_depth:
                _require_shallow(content, self.max_depth)
            try:
                return adapter.validate_json(content)
            except ValidationError as error:
                raise Refused(_told(error)) from error

        return read_one

    def _csv(self, columns: Sequence[str]) -> _ReadOne:
        adapter = _adapter(is_v2=self.is_v2)

        def read_one(content: bytes) -> ItemIn:
            cells = _cells(_decoded(content))
            if len(cells) != len(columns):
                raise Refused.whole(
                    f"The record has {len(cells)} cells, the header {len(columns)}", "cell_count"
                )
            given = dict(self._given(zip(columns, cells, strict=True)))
            try:
                return adapter.validate_python(given)
            except ValidationError as error:
                raise Refused(_told(error)) from error

        return read_one

    def _given(self, cells: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        """Yield what the cells say; an empty cell says nothing, like a field that is left out."""
        for field, cell in cells:
            if not cell or field in UNHEEDED:
                continue
            if field in _TEXT:
                yield field, unguard(cell)
            elif field == "tags":
                yield field, self._json(field, cell) if cell.startswith("[") else _split(cell)
            elif field == "metadata":
                yield field, self._json(field, cell)
            else:
                yield field, cell

    def _json(self, field: str, cell: str) -> Any:
        content = cell.encode()
        _require_shallow(content, self.max_depth - 1)
        try:
            return from_json(content)
        except ValueError as error:
            message = "It must be JSON"
            raise Refused([{"field": field, "message": message, "type": "json_invalid"}]) from error


def _adapter(*, is_v2: bool) -> TypeAdapter[ItemIn]:
    return TypeAdapter(ItemLineV2 if is_v2 else ItemLine)


def _fields(*, is_v2: bool) -> dict[str, str]:
    """Return the names that a column may have, each with the field that it stands for."""
    names = (ItemLineV2 if is_v2 else ItemLine).model_fields
    known = {name: name for name in names}
    return known | {to_camel(name): name for name in names} if is_v2 else known


def _cells(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise Refused.whole("The record is not CSV as RFC 4180 has it", "csv_invalid") from error


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        message = f"The line is not UTF-8 at its byte {error.start + 1}"
        raise Refused.whole(message, "not_utf8") from error


def _require_shallow(content: bytes, limit: int) -> None:
    try:
        JsonDepth(limit).feed(content)
    except Unprocessable as error:
        raise Refused.whole(error.detail, "too_deep") from error


def _split(cell: str) -> list[str]:
    return [tag for tag in cell.split(";") if tag.strip()]


def _told(error: ValidationError) -> Errors:
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        {
            "field": each["field"][:_MAX_NAME],
            "message": _PLACE.sub(r" at character \1", each["message"]),
            "type": each["type"],
        }
        for each in field_errors(errors[:MAX_ERRORS])
    ]
