"""A line of an import: an item as POST takes it, with what an export wrote beside."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.schemas.items import ItemIn, ItemInV2

_Unheeded = Annotated[Any, Field(exclude=True)]


class _Exported(BaseModel):
    """What the service computes or gives: an export has it, an import takes no notice."""

    id: _Unheeded = None
    discounted_price: _Unheeded = None
    on_sale: _Unheeded = None
    owner_id: _Unheeded = None
    version: _Unheeded = None
    created_at: _Unheeded = None
    updated_at: _Unheeded = None


UNHEEDED = frozenset(_Exported.model_fields)


class ItemLine(ItemIn, _Exported):
    """An item of an import in v1."""


class ItemLineV2(ItemInV2, _Exported):
    """An item of an import in v2; names of fields may be written in either way."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )
