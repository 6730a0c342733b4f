"""The tables. Importing this package makes all of them known to `metadata`."""

from app.models.base import metadata
from app.models.events import events
from app.models.idempotency import idempotency_keys
from app.models.items import items
from app.models.users import login_failures, one_time_tokens, sessions, users

__all__ = [
    "events",
    "idempotency_keys",
    "items",
    "login_failures",
    "metadata",
    "one_time_tokens",
    "sessions",
    "users",
]
