"""The catalogue."""

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from app.models.base import Id, JsonObject, StringList, UtcDateTime, metadata

# Byte order on both databases, so that a page sorted by name is the same page everywhere.
_SORTABLE_NAME = String(100, collation="C").with_variant(String(100), "sqlite")
_LIVE = text("deleted_at IS NULL")
_ON_SALE = text("deleted_at IS NULL AND discount_basis_points > 0")
_GONE = text("deleted_at IS NOT NULL")


class Visibility(StrEnum):
    """Who may read an item: anyone, or its owner and admins."""

    PUBLIC = "public"
    PRIVATE = "private"


items = Table(
    "items",
    metadata,
    Column("id", Id, primary_key=True),
    Column("owner_id", Id, ForeignKey("users.id"), nullable=False),
    Column("name", _SORTABLE_NAME, nullable=False),
    Column("description", Text),
    Column("price_cents", BigInteger, nullable=False),
    Column("discount_basis_points", Integer, nullable=False, server_default=text("0")),
    Column("tags", StringList, nullable=False),
    Column("visibility", String(16), nullable=False),
    Column("display_name", String(200)),
    Column("metadata", JsonObject, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    # The words that full-text search sees, split and folded by us: one behaviour on both databases.
    Column("search_text", Text, nullable=False, server_default=text("''")),
    CheckConstraint("price_cents > 0", name="price_positive"),
    CheckConstraint("discount_basis_points BETWEEN 0 AND 10000", name="discount_in_range"),
    CheckConstraint("visibility IN ('public', 'private')", name="visibility_known"),
    Index("ix_items_owner_id_id", "owner_id", "id", postgresql_where=_LIVE, sqlite_where=_LIVE),
    Index("ix_items_deleted", "owner_id", "id", postgresql_where=_GONE, sqlite_where=_GONE),
    Index("ix_items_name_id", "name", "id", postgresql_where=_LIVE, sqlite_where=_LIVE),
    Index(
        "ix_items_price_cents_id", "price_cents", "id", postgresql_where=_LIVE, sqlite_where=_LIVE
    ),
    Index("ix_items_created_at_id", "created_at", "id", postgresql_where=_LIVE, sqlite_where=_LIVE),
    # Where much is on sale, a list goes along the index of its order; where little is, along this.
    Index("ix_items_on_sale", "id", postgresql_where=_ON_SALE, sqlite_where=_ON_SALE),
    Index("ix_items_deleted_at", "deleted_at"),
    sqlite_autoincrement=True,
)


class Item(NamedTuple):
    """A row of `items`; money is counted in cents and percent in basis points, so it is exact."""

    id: int
    owner_id: int
    name: str
    description: str | None
    price_cents: int
    discount_basis_points: int
    tags: list[str]
    visibility: str
    own_display_name: str | None
    metadata: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    @property
    def display_name(self) -> str:
        """What to call it in front of people: its own display name, else its name."""
        return self.own_display_name or self.name

    @property
    def price(self) -> float:
        """The price; the nearest double to a two-decimal number prints as exactly that number."""
        return self.price_cents / 100

    @property
    def discount_percent(self) -> float:
        """The discount in percent, 0 to 100."""
        return self.discount_basis_points / 100

    @property
    def discounted_cents(self) -> int:
        """The price after the discount, rounded half up to the cent."""
        return (self.price_cents * (10_000 - self.discount_basis_points) + 5_000) // 10_000

    @property
    def discounted_price(self) -> float:
        """The price after the discount."""
        return self.discounted_cents / 100

    @property
    def on_sale(self) -> bool:
        """True where there is a discount."""
        return self.discount_basis_points > 0
