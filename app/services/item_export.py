"""Items as lines of NDJSON or CSV, made from rows without a model between: a million are a lot.

An NDJSON line is what `GET /items/{id}` answers; a CSV record has the same values as text, money
with exactly two decimals.
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from json.encoder import encode_basestring as quoted
from typing import Any

from pydantic.alias_generators import to_camel
from pydantic_core import to_json

from app.services.formulas import guard

V1_FIELDS = (
    "id",
    "name",
    "description",
    "price",
    "discount_percent",
    "discounted_price",
    "on_sale",
    "tags",
    "visibility",
    "owner_id",
    "version",
    "created_at",
    "updated_at",
)
V2_FIELDS = tuple(to_camel(name) for name in (*V1_FIELDS, "display_name", "metadata"))

Row = Sequence[Any]
"""The columns of an item, in the order of `app.models.items.Item`."""

Encode = Callable[[Iterable[Row]], bytes]


class TextFormat(StrEnum):
    """How a file has one item a line."""

    NDJSON = "ndjson"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        """The media type of such a file."""
        return "application/x-ndjson" if self is TextFormat.NDJSON else "text/csv"


def head(text_format: TextFormat, *, is_v2: bool) -> bytes:
    """Return what a file begins with: the header record of CSV."""
    fields = V2_FIELDS if is_v2 else V1_FIELDS
    return b"" if text_format is TextFormat.NDJSON else (",".join(fields) + "\r\n").encode()


def encoder(text_format: TextFormat, *, is_v2: bool) -> Encode:
    """Return the function that turns rows into a piece of the file."""
    if text_format is TextFormat.CSV:
        return _csv_v2 if is_v2 else _csv_v1
    return _ndjson_v2 if is_v2 else _ndjson_v1


def _ndjson_v1(rows: Iterable[Row]) -> bytes:
    return "".join([_json_line(row, V1_FIELDS) + "}\n" for row in rows]).encode()


def _ndjson_v2(rows: Iterable[Row]) -> bytes:
    return "".join([_json_line(row, V2_FIELDS) + _json_end(row) for row in rows]).encode()


def _json_line(row: Row, names: Sequence[str]) -> str:
    (item_id, owner_id, name, description, cents, points, tags, visibility) = row[:8]
    (version, created_at, updated_at) = row[10:13]
    (_, _, _, n_price, n_percent, n_discounted, n_sale, _, _, n_owner, _, n_made, n_changed) = (
        names[:13]
    )
    return (
        f'{{"id":{item_id},"name":{quoted(name)},'
        f'"description":{"null" if description is None else quoted(description)},'
        f'"{n_price}":{cents / 100},"{n_percent}":{points / 100},'
        f'"{n_discounted}":{_discounted(cents, points) / 100},'
        f'"{n_sale}":{"true" if points else "false"},'
        f'"tags":[{",".join(map(quoted, tags))}],"visibility":"{visibility}",'
        f'"{n_owner}":{owner_id},"version":{version},'
        f'"{n_made}":"{_moment(created_at)}","{n_changed}":"{_moment(updated_at)}"'
    )


def _json_end(row: Row) -> str:
    name, display_name, metadata = row[2], row[8], row[9]
    return f',"displayName":{quoted(display_name or name)},"metadata":{_json(metadata)}}}\n'


def _csv_v1(rows: Iterable[Row]) -> bytes:
    return _records([_cells(row) for row in rows])


def _csv_v2(rows: Iterable[Row]) -> bytes:
    return _records([[*_cells(row), guard(row[8] or row[2]), _json(row[9])] for row in rows])


def _records(records: list[list[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(records)
    return out.getvalue().encode()


def _cells(row: Row) -> list[Any]:
    (item_id, owner_id, name, description, cents, points, tags, visibility) = row[:8]
    (version, created_at, updated_at) = row[10:13]
    return [
        item_id,
        guard(name),
        "" if description is None else guard(description),
        _money(cents),
        _money(points),
        _money(_discounted(cents, points)),
        "true" if points else "false",
        f"[{','.join(map(quoted, tags))}]",
        visibility,
        owner_id,
        version,
        _moment(created_at),
        _moment(updated_at),
    ]


def _discounted(cents: int, points: int) -> int:
    """Return the price after the discount; the same sum as `Item.discounted_cents`."""
    return (cents * (10_000 - points) + 5_000) // 10_000


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _moment(moment: datetime) -> str:
    return moment.isoformat().removesuffix("+00:00") + "Z"


def _json(value: dict[str, Any]) -> str:
    return to_json(value).decode() if value else "{}"
