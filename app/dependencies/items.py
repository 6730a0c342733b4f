"""What a list of items is asked for: filters and sort, and pages by offset or by cursor."""

from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from app.dependencies.pages import CursorPage, OffsetPage
from app.models.items import Item
from app.repositories.item_lists import ItemFilter, Position, sort_value
from app.schemas.base import Line
from app.schemas.items import MAX_TAGS, Sort
from app.security.signing import CursorSigner

_Money = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
_Id = Annotated[int, Field(ge=1, le=2**63 - 1)]


class ItemListQuery(BaseModel):
    """Which items a list shows, and in which order."""

    model_config = ConfigDict(hide_input_in_errors=True, allow_inf_nan=False)

    q: Annotated[Line, Field(max_length=200)] | None = Field(
        None, description="Full-text search: each word must start a word of the item."
    )
    min_price: _Money | None = Field(None, description="Lowest price, inclusive.")
    max_price: _Money | None = Field(None, description="Highest price, inclusive.")
    on_sale: bool | None = Field(None, description="Only those with (or without) a discount.")
    tag: Annotated[list[Line], Field(max_length=MAX_TAGS)] = Field(
        [], description="Only those with this tag; repeatable, all must be there."
    )
    owner_id: _Id | None = Field(None, description="Only what this account owns.")
    sort: Sort = Field(Sort.ID, description="Order; `-` for descending.")

    def filter(self) -> ItemFilter:
        """Return the filter as the repository knows it."""
        return ItemFilter(
            q=self.q or None,
            min_price_cents=_cents(self.min_price),
            max_price_cents=_cents(self.max_price),
            on_sale=self.on_sale,
            tags=tuple(self.tag),
            owner_id=self.owner_id,
        )


def _cents(price: Decimal | None) -> int | None:
    return None if price is None else int(price * 100)


class OffsetQuery(ItemListQuery, OffsetPage):
    """A page of items by offset."""


class CursorQuery(ItemListQuery, CursorPage):
    """A page of items by cursor."""


OffsetListQuery = Annotated[OffsetQuery, Query()]
CursorListQuery = Annotated[CursorQuery, Query()]


def cursor_scope(query: ItemListQuery) -> str:
    """Return what a cursor is tied to: the filter and the sort."""
    return _scope(query.filter(), query.sort)


@lru_cache(1024)
def _scope(wanted: ItemFilter, sort: str) -> str:
    return f"items:{sort}:{sorted(asdict(wanted).items())}"


def read_cursor(signer: CursorSigner, query: CursorQuery) -> Position | None:
    """Return the position that a request's cursor stands for.

    Raises:
        InvalidCursor: it was not made by us, or for another filter or sort.
    """
    if query.cursor is None:
        return None
    payload = signer.decode(query.cursor, cursor_scope(query))
    value: Any = payload["v"]
    if query.sort.lstrip("-") == "created_at":
        value = datetime.fromisoformat(value)
    direction: Literal["after", "before"] = "before" if payload.get("d") else "after"
    return Position(value, int(payload["i"]), direction)


def write_cursor(
    signer: CursorSigner, query: CursorQuery, item: Item, *, before: bool = False
) -> str:
    """Return the cursor of the place beside an item."""
    value = sort_value(item, query.sort)
    if isinstance(value, datetime):
        value = value.isoformat()
    payload = {"v": value, "i": item.id, **({"d": 1} if before else {})}
    return signer.encode(payload, cursor_scope(query))
