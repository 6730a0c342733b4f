"""Who may call what: the rules that `test_authorization` holds every operation to.

A resource of its own has a file here, which is found by itself: `kingpost new-resource` writes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

WHO = ("nobody", "owner", "stranger", "analyst", "admin", "ended")

# What each caller gets: P for passed (whatever the answer then is, no 401, 403 or 404), else the
# status. In the order of WHO; `ended` is somebody whose session is over.
EVERYONE = "P P P P P 401"
SIGNED_IN = "401 P P P P 401"
ADMINS = "401 403 403 403 P 401"
ANALYSTS = "401 403 403 P P 401"
OWN = "401 P 403 403 P 401"
OWN_PRIVATE = "401 P 404 404 P 401"
PRIVATE = "404 P 404 404 P 401"


@dataclass(frozen=True)
class Rules:
    """The rules of one resource's operations, and what they are called with."""

    operations: Mapping[str, str]
    bodies: Mapping[str, Any] = field(default_factory=dict)
    # Which operation makes what a parameter of a path names; an item's may have {item_id} itself.
    made_by: Mapping[str, str] = field(default_factory=dict)
    ending: frozenset[str] = frozenset()  # after these, somebody or their session is gone
    uncalled: frozenset[str] = frozenset()  # they stream for ever, say; held by a test of their own


@dataclass(frozen=True)
class Form:
    """A body of files, as multipart/form-data: the name and the content of each field's."""

    files: Mapping[str, tuple[str, bytes]]


def sent(body: Any) -> dict[str, Any]:
    """Return how httpx is told to send a body."""
    return {"files": body.files} if isinstance(body, Form) else {"json": body}


def found() -> list[Rules]:
    """Return the rules of every file here."""
    names = [module.name for module in iter_modules(__path__)]
    return [import_module(f"{__name__}.{name}").rules for name in sorted(names)]
