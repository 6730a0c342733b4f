"""Turns pydantic's errors into the fields of a 422, in one place, and never with the input."""

from collections.abc import Iterable, Mapping
from typing import Any

_PLACES = frozenset({"body", "query", "path", "header", "cookie"})
_OF_THE_BODY = {  # pydantic speaks of dictionaries
    "missing": "A body is required",
    "model_attributes_type": "The body must be a JSON object",
    "string_unicode": "The body holds text that is no Unicode",
}


def field_errors(errors: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return `{field, message, type}` for each error, `field` as a dotted path.

    A leading `body` is left out, unless all of it is wrong; so is the place of a parameter, whose
    name says enough.
    """
    found = []
    for error in errors:
        location = [str(part) for part in error.get("loc", ())]
        kind = str(error.get("type", "value_error"))
        message = str(error.get("msg", "Invalid")).removeprefix("Value error, ")
        if location == ["body"]:
            message = _OF_THE_BODY.get(kind, message)
        elif location and location[0] in _PLACES:
            location = location[1:]
        found.append({"field": ".".join(location), "message": message, "type": kind})
    return found
