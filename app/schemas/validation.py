"""Turns pydantic's errors into the fields of a 422, in one place, and never with the input."""

from collections.abc import Iterable, Mapping
from typing import Any

_PLACES = frozenset({"body", "query", "path", "header", "cookie"})


def field_errors(errors: Iterable[Mapping[str, Any]], prefix: str = "") -> list[dict[str, str]]:
    """Return `{field, message, type}` for each error, `field` as a dotted path.

    A leading `body` is left out; so is the place of a parameter, whose name says enough.
    """
    found = []
    for error in errors:
        location = [str(part) for part in error.get("loc", ())]
        if location and location[0] in _PLACES:
            location = location[1:]
        found.append(
            {
                "field": ".".join([*([prefix] if prefix else []), *location]),
                "message": str(error.get("msg", "Invalid")).removeprefix("Value error, "),
                "type": str(error.get("type", "value_error")),
            }
        )
    return found
