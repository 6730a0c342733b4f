"""Whatever an item is, its line of an export is read as the same item, and is no formula."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.models.items import Item
from app.services import item_export
from app.services.formulas import guard, unguard
from app.services.import_lines import Lines, Records
from app.services.import_parsing import Reader
from app.services.item_export import TextFormat
from app.services.items import stored_values

MOMENT = datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC)
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
    | st.sampled_from("'=+-@,\"")
)
LINE = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("'=+-@,;\"["), min_size=1
).map(lambda text: text[:40].strip())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ITEMS = st.fixed_dictionaries(
    {
        "name": LINE.filter(bool),
        "description": st.none() | TEXT.map(lambda text: text[:2000]),
        "price_cents": st.integers(1, 10**12 - 1),
        "discount_basis_points": st.integers(0, 10_000),
        "tags": st.lists(LINE.filter(bool), max_size=5, unique=True),
        "visibility": st.sampled_from(["public", "private"]),
        "display_name": LINE.filter(bool),
        "metadata": st.dictionaries(TEXT, JSON, max_size=3),
    }
)


def row(item: dict[str, Any]) -> tuple[Any, ...]:
    """Return an item as the database gives it."""
    described = {**item, "own_display_name": item["display_name"]}
    del described["display_name"]
    given: dict[str, Any] = {
        "id": 7,
        "owner_id": 8,
        "version": 1,
        "created_at": MOMENT,
        "updated_at": MOMENT,
    }
    return Item(**given, deleted_at=None, **described)


@pytest.mark.parametrize("text_format", TextFormat)
@pytest.mark.parametrize("is_v2", [False, True])
@settings(max_examples=60)
@given(items=st.lists(ITEMS, min_size=1, max_size=2))
def test_an_exported_line_is_read_as_the_same_item(
    text_format: TextFormat, is_v2: bool, items: list[dict[str, Any]]
) -> None:
    encode = item_export.encoder(text_format, is_v2=is_v2)
    file = item_export.head(text_format, is_v2=is_v2) + encode([row(item) for item in items])
    reader = Reader(is_csv=text_format is TextFormat.CSV, is_v2=is_v2, max_depth=32)
    splitter = Lines()
    lines = [*splitter.feed(file), *splitter.finish()]
    columns = None
    if reader.is_csv:
        lines = Records().join(lines, is_last=True)
        columns = reader.header(lines.pop(0))
    read, rejections = reader.read(lines, columns)
    assert rejections == []
    kept = [k for k in items[0] if is_v2 or k not in ("display_name", "metadata")]
    assert [stored_values(item) for item in read] == [{k: i[k] for k in kept} for i in items]


@settings(max_examples=60)
@given(st.lists(ITEMS, min_size=1, max_size=2))
def test_no_cell_of_csv_is_a_formula_and_money_is_exact(items: list[dict[str, Any]]) -> None:
    file = item_export.encoder(TextFormat.CSV, is_v2=True)([row(item) for item in items])
    records = list(csv.reader(io.StringIO(file.decode(), newline=""), strict=True))
    assert not [cell for record in records for cell in record if cell[:1] in set("=+-@\t\r")]
    for record, item in zip(records, items, strict=True):
        assert Decimal(record[3]) * 100 == item["price_cents"]
        assert Decimal(record[4]) * 100 == item["discount_basis_points"]


@given(st.text(st.sampled_from("'=+-@\t\r\na＝")))  # noqa: RUF001
def test_guarding_a_cell_loses_nothing(text: str) -> None:
    assert unguard(guard(text)) == text
