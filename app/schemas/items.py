"""Items on the wire: what a client sends, and what it gets back, in both versions."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import to_json

from app.errors import Unprocessable
from app.models.items import Visibility
from app.schemas.base import Input, Line, Output, ResourceId, Text
from app.schemas.validation import field_errors

MAX_METADATA_BYTES = 4096
MAX_TAGS = 20
MAX_BULK = 1000


def _distinct(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


def _bounded(metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        encoded = to_json(metadata, inf_nan_mode="constants")
    except ValueError as error:
        raise ValueError("must be plain JSON") from error
    if len(encoded) > MAX_METADATA_BYTES:
        raise ValueError(f"must take at most {MAX_METADATA_BYTES} bytes as JSON")
    if not _is_storable(metadata):
        raise ValueError("must not contain NUL characters, NaN or infinities")
    return metadata


def _is_storable(value: Any) -> bool:
    match value:
        case str():
            return "\x00" not in value
        case float():
            return isfinite(value)
        case dict():
            return all(_is_storable(key) and _is_storable(each) for key, each in value.items())
        case list():
            return all(map(_is_storable, value))
        case _:
            return True


Name = Annotated[Line, Field(min_length=1, max_length=100, examples=["Oak desk"])]
Description = Annotated[Text, Field(max_length=2000, examples=["Solid oak, 160 × 80 cm."])]
Price = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2, examples=[349.0])]
Percent = Annotated[Decimal, Field(ge=0, le=100, decimal_places=2, max_digits=5, examples=[15])]
Tag = Annotated[Line, Field(min_length=1, max_length=40)]
Tags = Annotated[
    list[Tag],
    Field(max_length=MAX_TAGS, examples=[["office", "wood"]]),
    AfterValidator(_distinct),
]
Metadata = Annotated[
    dict[str, Any], AfterValidator(_bounded), Field(examples=[{"supplier": {"sku": "OD-160"}}])
]


class ItemIn(Input):
    """An item as a client describes it whole: for POST and PUT."""

    name: Name
    description: Description | None = None
    price: Price
    discount_percent: Percent = Decimal(0)
    tags: Tags = []
    visibility: Visibility = Visibility.PUBLIC


class ItemInV2(ItemIn):
    """An item as a client of v2 describes it: with a display name and free metadata."""

    display_name: Annotated[Line, Field(min_length=1, max_length=200)] | None = None
    metadata: Metadata = {}


class ItemPatch(Input):
    """A JSON merge patch (RFC 7396) of an item: fields left out stay, null removes."""

    name: Name | None = None
    description: Description | None = None
    price: Price | None = None
    discount_percent: Percent | None = None
    tags: Tags | None = None
    visibility: Visibility | None = None


class ItemPatchV2(ItemPatch):
    """A JSON merge patch (RFC 7396) of an item in v2."""

    display_name: Annotated[Line, Field(min_length=1, max_length=200)] | None = None
    metadata: dict[str, Any] | None = None  # null members inside remove; checked when merged


class ItemOut(Output):
    """An item."""

    id: int = Field(examples=[42])
    name: str = Field(examples=["Oak desk"])
    description: str | None = Field(examples=["Solid oak, 160 × 80 cm."])
    price: float = Field(examples=[349.0], description="Exact to two decimals.")
    discount_percent: float = Field(examples=[15.0])
    discounted_price: float = Field(
        examples=[296.65], description="Computed; rounded half up to the cent."
    )
    on_sale: bool = Field(description="True where there is a discount.")
    tags: list[str] = Field(examples=[["office", "wood"]])
    visibility: Literal["public", "private"]
    owner_id: int = Field(examples=[7])
    version: int = Field(examples=[1], description="Rises by one with each change.")
    created_at: datetime
    updated_at: datetime


class ItemOutV2(ItemOut):
    """An item in v2."""

    display_name: str = Field(examples=["Oak desk, large"], description="Its name by default.")
    metadata: dict[str, Any]


class ItemPage(Output):
    """A page by offset."""

    items: list[ItemOut]
    total: int = Field(description="How many items the whole list has.", examples=[1])
    skip: int = Field(examples=[0])
    limit: int = Field(examples=[20])


class ItemCursorPage(Output):
    """A page by cursor."""

    items: list[ItemOut]
    next_cursor: str | None = Field(description="Send as `cursor` for the next page.")
    has_more: bool


class Sort(StrEnum):
    """What a list of items can be ordered by; `-` for descending."""

    ID = "id"
    ID_DESC = "-id"
    NAME = "name"
    NAME_DESC = "-name"
    PRICE = "price"
    PRICE_DESC = "-price"
    CREATED_AT = "created_at"
    CREATED_AT_DESC = "-created_at"

    @classmethod
    def _missing_(cls, value: object) -> "Sort | None":
        """Read what v2 calls a field."""
        return {"createdAt": cls.CREATED_AT, "-createdAt": cls.CREATED_AT_DESC}.get(str(value))


class BulkCreate(Input):
    """Create an item."""

    op: Literal["create"]
    item: ItemIn


class BulkUpdate(Input):
    """Change an item by merge patch; with `version`, only if it is still that version."""

    op: Literal["update"]
    id: ResourceId
    changes: ItemPatch
    version: int | None = None


class BulkDelete(Input):
    """Delete an item; with `version`, only if it is still that version."""

    op: Literal["delete"]
    id: ResourceId
    version: int | None = None


def _keep_refusal(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Keep an entry's errors as its value: the other entries may still be wanted."""
    try:
        return validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        for each in errors:  # the discriminator's value is no field that the client sent
            if each["loc"] and each["loc"][0] in ("create", "update", "delete"):
                each["loc"] = each["loc"][1:]
        return Unprocessable(errors=field_errors(errors))


BulkOperation = Annotated[BulkCreate | BulkUpdate | BulkDelete, Field(discriminator="op")]


class BulkIn(Input):
    """Up to 1,000 operations, carried out in order."""

    operations: Annotated[
        list[Annotated[BulkOperation, WrapValidator(_keep_refusal)]],
        Field(min_length=1, max_length=MAX_BULK),
    ]


class BulkError(Output):
    """Why an entry was refused."""

    error_code: str
    detail: str
    errors: list[dict[str, str]] = []


class BulkResult(Output):
    """What became of one entry; `status` is what the single call would have answered."""

    index: int
    status: int
    item: ItemOut | None = None
    error: BulkError | None = None


class BulkOut(Output):
    """What became of every entry, in order."""

    succeeded: int
    failed: int
    results: list[BulkResult]


class TagCount(Output):
    """How many items have a tag."""

    tag: str
    count: int


class DayCount(Output):
    """How many items were created on a day (UTC)."""

    day: str = Field(examples=["2026-11-21"])
    count: int


class PriceStats(Output):
    """The spread of prices; null where there are no items."""

    min: float | None
    max: float | None
    average: float | None
    sum: float | None


class ItemStats(Output):
    """Figures over all items that are not deleted."""

    total: int
    public: int
    private: int
    on_sale: int
    owners: int
    price: PriceStats
    by_tag: list[TagCount] = Field(description="The 20 commonest.")
    by_day: list[DayCount] = Field(description="The last 30 days that have any.")


SUCCESSORS: dict[type, type] = {ItemIn: ItemInV2, ItemPatch: ItemPatchV2, ItemOut: ItemOutV2}
"""What v2 has richer models for; every other model only changes its spelling."""
