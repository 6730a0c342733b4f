"""A line of an import: an item as POST takes it, with what an export wrote beside."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.schemas.items import ItemIn, ItemInV2

# What is computed or given by the service: an export has it, so an import takes it, and no notice.
_Unheeded = Annotated[Any, Field(exclude=True)]
UNHEEDED = (
    "id",
    "discounted_price",
    "on_sale",
    "owner_id",
    "version",
    "created_at",
    "updated_at",
)


class ItemLine(ItemIn):
    """An item of an import in v1."""

    id: _Unheeded = None
    discounted_price: _Unheeded = None
    on_sale: _Unheeded = None
    owner_id: _Unheeded = None
    version: _Unheeded = None
    created_at: _Unheeded = None
    updated_at: _Unheeded = None


class ItemLineV2(ItemInV2):
    """An item of an import in v2; names of fields may be written in either way."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    id: _Unheeded = None
    discounted_price: _Unheeded = None
    on_sale: _Unheeded = None
    owner_id: _Unheeded = None
    version: _Unheeded = None
    created_at: _Unheeded = None
    updated_at: _Unheeded = None
