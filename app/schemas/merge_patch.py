"""JSON merge patch (RFC 7396, section 2)."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import Unprocessable
from app.schemas.validation import field_errors

Model = TypeVar("Model", bound=BaseModel)


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` changed by `patch`: objects merge, null removes, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def patched(model: type[Model], current: Mapping[str, Any], changes: BaseModel) -> Model:
    """Return what a merge patch makes of `current`, checked by the same rules as a new one.

    Raises:
        Unprocessable: the result would not be valid.
    """
    merged = merge_patch(current, changes.model_dump(exclude_unset=True))
    try:
        return model.model_validate(merged, by_alias=False, by_name=True)
    except ValidationError as error:
        raise Unprocessable(errors=field_errors(error.errors(include_url=False))) from error
