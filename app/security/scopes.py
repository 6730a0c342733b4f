"""What an API key must have been given for each operation: the one place that says so.

An operation that does not stand here takes no API key at all. That is the safe default, and meant
for everything under `/auth`: whoever holds a key must not be able to make it into more.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache


class Scope(StrEnum):
    """What a key may be used for; never more than its owner may do."""

    ITEMS_READ = "items:read"
    ITEMS_WRITE = "items:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    EVENTS_READ = "events:read"


LIVE = "WS /ws"

NEEDED: Mapping[str, Scope] = {
    "GET /items": Scope.ITEMS_READ,
    "GET /items/stats": Scope.ITEMS_READ,
    "GET /items/export": Scope.ITEMS_READ,
    "GET /items/{item_id}": Scope.ITEMS_READ,
    "POST /items": Scope.ITEMS_WRITE,
    "POST /items/bulk": Scope.ITEMS_WRITE,
    "POST /items/import": Scope.ITEMS_WRITE,
    "PUT /items/{item_id}": Scope.ITEMS_WRITE,
    "PATCH /items/{item_id}": Scope.ITEMS_WRITE,
    "DELETE /items/{item_id}": Scope.ITEMS_WRITE,
    "POST /items/{item_id}/restore": Scope.ITEMS_WRITE,
    "GET /items/{item_id}/files": Scope.ITEMS_READ,
    "POST /items/{item_id}/files": Scope.ITEMS_WRITE,
    "POST /items/{item_id}/files/presign": Scope.ITEMS_WRITE,
    "POST /items/{item_id}/files/confirm": Scope.ITEMS_WRITE,
    "GET /files/{file_id}": Scope.ITEMS_READ,
    "GET /files/{file_id}/thumbnail": Scope.ITEMS_READ,
    # A link outlives the key: reading alone is not enough to make one.
    "POST /files/{file_id}/url": Scope.ITEMS_WRITE,
    "DELETE /files/{file_id}": Scope.ITEMS_WRITE,
    "GET /users": Scope.USERS_READ,
    "GET /users/me": Scope.USERS_READ,
    "GET /users/{user_id}": Scope.USERS_READ,
    "GET /users/{user_id}/items": Scope.ITEMS_READ,
    "PATCH /users/me": Scope.USERS_WRITE,
    "DELETE /users/me": Scope.USERS_WRITE,
    "PATCH /users/{user_id}": Scope.USERS_WRITE,
    "DELETE /users/{user_id}": Scope.USERS_WRITE,
    "GET /events": Scope.EVENTS_READ,
    # The same as the events of one's jobs bring.
    "GET /jobs": Scope.EVENTS_READ,
    "GET /jobs/{job_id}": Scope.EVENTS_READ,
    "GET /jobs/{job_id}/rejected": Scope.EVENTS_READ,
    LIVE: Scope.EVENTS_READ,
}
"""By method and path without its version: both versions need the same."""

_VERSION = re.compile(r"^/api/v\d+(?=/)")


@lru_cache(maxsize=1024)  # one entry for each route and method
def needed_scope(method: str, path: str) -> Scope | None:
    """Return the scope that an operation needs, by its route's path; None where no key may."""
    return NEEDED.get(f"{method} {_VERSION.sub('', path)}")
