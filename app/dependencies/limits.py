"""A route's rate limit: `Depends(rate_limit("login"))`, or `check` for a WebSocket handshake.

The limit's text comes from the setting `rate_limit_<name>`. What the client is told stays in the
scope's state, from where one ASGI hook (`rate_limit_headers`) puts it on every answer of the
route, refusals and errors included.
"""

import ipaddress
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from fastapi.requests import HTTPConnection
from slowapi.util import get_remote_address
from starlette.requests import Request

from app.adapters.limits import Decision, RateLimiter, parse_limits
from app.errors import RateLimited
from app.security.principal import Principal
from app.settings import Settings

STATE_KEY = "rate_limit"
_COUNTED_KEY = "counted_limits"
IPV6_HOST_BITS = 64  # one customer has at least a whole /64, so a single address says nothing

Scope = MutableMapping[str, Any]
KeyFunction = Callable[[HTTPConnection], str]


def client_key(connection: HTTPConnection) -> str:
    """Return the client's address; behind a trusted proxy, the one that the server believed."""
    address = get_remote_address(cast("Request", connection))
    return _network(address) if ":" in address else address


def caller_key(connection: HTTPConnection) -> str:
    """Return the API key or user that was found before, else the client's address."""
    principal = connection.scope.get("state", {}).get("principal")
    if isinstance(principal, Principal):
        if principal.key is not None:
            return f"key:{principal.key.key_id}"
        return f"user:{principal.user_id}"
    return client_key(connection)


@dataclass(frozen=True)
class RateLimit:
    """A dependency that counts each call against the setting `rate_limit_<name>`."""

    name: str
    key: KeyFunction

    async def __call__(self, connection: HTTPConnection) -> None:
        """Count the call.

        Raises:
            RateLimited: the limit is used up.
        """
        await check(connection, self.name, key=self.key)


def rate_limit(name: str, *, key: KeyFunction = caller_key) -> RateLimit:
    """Return the dependency of the setting `rate_limit_<name>`.

    Raises:
        ValueError: there is no such setting.
    """
    _setting(name)
    return RateLimit(name, key)


async def check(connection: HTTPConnection, name: str, *, key: KeyFunction = caller_key) -> None:
    """Count a request or handshake against a limit and remember what the client is told.

    It is counted once for each key, whoever asks: a request under an `Idempotency-Key` is counted
    before it is known to be a repeat, and not again if it is none.

    Raises:
        RateLimited: the limit is used up; carries `Retry-After` and the `RateLimit-*` fields.
    """
    resources = connection.app.state.resources
    settings: Settings = resources.settings
    if not settings.rate_limits_enabled:
        return
    state = connection.scope.setdefault("state", {})
    counted: set[tuple[str, KeyFunction]] = state.setdefault(_COUNTED_KEY, set())
    if (name, key) in counted:
        return
    counted.add((name, key))
    limiter: RateLimiter = resources.limiter
    limits = parse_limits(getattr(settings, _setting(name)))
    decision = await limiter.hit(name, limits, key(connection))
    earlier: Decision | None = state.get(STATE_KEY)
    if earlier is None or decision.remaining <= earlier.remaining:
        state[STATE_KEY] = decision
    if not decision.allowed:
        raise RateLimited(retry_after=decision.retry_after)


def rate_limit_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the `RateLimit-*` fields for an answer, none where nothing was limited.

    Names and meaning are those of draft-ietf-httpapi-ratelimit-headers-06.
    """
    decision: Decision | None = scope.get("state", {}).get(STATE_KEY)
    if decision is None:
        return []
    return [
        (b"ratelimit-limit", b"%d" % decision.limit),
        (b"ratelimit-remaining", b"%d" % decision.remaining),
        (b"ratelimit-reset", b"%d" % decision.reset_seconds),
    ]


@lru_cache(maxsize=64)
def _setting(name: str) -> str:
    field = f"rate_limit_{name}"
    if field not in Settings.model_fields:
        raise ValueError(f"there is no setting {field}")
    return field


@lru_cache(maxsize=4096)
def _network(address: str) -> str:
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), 128 - IPV6_HOST_BITS), strict=False))
