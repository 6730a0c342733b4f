"""`Idempotency-Key` on creating requests: a repeat gets the first one's answer.

The answer is stored in the transaction of the change itself, so that a crash leaves either both
or neither. Only successes are stored: a refused request changed nothing and may be tried again.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute

from app.adapters.database import Database
from app.adapters.driver import LockHeld
from app.clock import now
from app.dependencies.auth import authenticate, default_limit
from app.dependencies.limits import RateLimit
from app.errors import IdempotencyInProgress, IdempotencyKeyReused, Unprocessable
from app.models.idempotency import StoredAnswer
from app.repositories.idempotency import IdempotencyRepository, lock_number
from app.resources import Resources
from app.services.retention import ANSWERS_KEPT_FOR

MAX_KEY = 255
_POLL_SECONDS = 0.05
_POLLS = 60  # 3 s: longer than our creating requests take; then 409

# What an answer says of itself, beside its body; everything else is made anew by the middleware.
_KEPT_HEADERS = ("content-type", "location", "etag")

KEY_PARAMETER: Mapping[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeat with it gets the first answer; kept for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "title": "Idempotency-Key"},
}
REPLAYED_HEADER: Mapping[str, Any] = {
    "Idempotency-Replayed": {
        "description": "`true` where this is the answer to an earlier request with the same key.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
IsSame = Callable[[str], bool]  # whether the request is the one that was kept under its key


class IdempotentRoute(APIRoute):
    """A route whose POST honours `Idempotency-Key` (IETF draft, Stripe's rules).

    A subclass names fields of the answer that are too secret to be kept: a repeat has null there.
    """

    unkept_fields: frozenset[str] = frozenset()

    def get_route_handler(self) -> Handler:
        """Wrap the route's own handler where it creates something."""
        handler = super().get_route_handler()
        if "POST" not in (self.methods or ()):
            return handler

        limits = [
            each.dependency for each in self.dependencies if isinstance(each.dependency, RateLimit)
        ]

        async def idempotent(request: Request) -> Response:
            key = request.headers.get("idempotency-key")
            if key is None:
                return await handler(request)
            await default_limit(request)
            for limit in limits:  # for a repeat the handler, which would count, is not called
                await limit(request)
            return await _once(handler, request, key)

        return idempotent


class SecretOnceRoute(IdempotentRoute):
    """Keeps the answer for a repeat without the secret that is shown once."""

    unkept_fields = frozenset({"secret"})


async def _once(handler: Handler, request: Request, key: str) -> Response:
    _require_acceptable(key)
    return await answer_once(request, key, await _fingerprint(request), lambda: handler(request))


async def answer_once(
    request: Request, key: str, fingerprint: str, answer: Callable[[], Awaitable[Response]]
) -> Response:
    """Return the answer of the first request with this key; make and store it if this is it.

    `fingerprint` is what makes two requests the same; it is kept as a keyed digest. `answer` is not
    called for a repeat.

    Raises:
        IdempotencyKeyReused: the first request was another one.
        IdempotencyInProgress: the first still runs.
    """
    resources: Resources = request.app.state.resources
    db, fingerprints = resources.db, resources.fingerprints
    caller = await authenticate(request)
    scope = f"user:{caller.user_id}" if caller else "anonymous"
    is_same = partial(fingerprints.matches, content=fingerprint)
    stored = await _find(db, scope, key)
    if stored is not None:
        return _replay(stored, is_same)
    try:
        async with db.unit_of_work(lock=lock_number(scope, key)) as unit:
            response = await answer()
            if unit.begun is not None and response.status_code < 300:
                kept = _kept(request, response, scope, key, fingerprints.of(fingerprint))
                await IdempotencyRepository(unit.begun).store(
                    kept, replacing_before=now() - ANSWERS_KEPT_FOR
                )
    except (LockHeld, IdempotencyInProgress):
        return await _wait_for_first(db, scope, key, is_same)
    return response


async def idempotency_key(
    key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description="A repeat with it gets the first answer."),
    ] = None,
) -> str | None:
    """Return the key of a request whose body is not to be read whole.

    Raises:
        Unprocessable: it has another form.
    """
    if key is not None:
        _require_acceptable(key)
    return key


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]


def _require_acceptable(key: str) -> None:
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable() or not key.isascii():
        raise Unprocessable.field(
            "Idempotency-Key", f"It must have 1 to {MAX_KEY} printable ASCII characters"
        )


def _kept(
    request: Request, response: Response, scope: str, key: str, fingerprint: str
) -> StoredAnswer:
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    body = _kept_body(request, response)
    return StoredAnswer(scope, key, fingerprint, response.status_code, headers, body, now())


async def _wait_for_first(db: Database, scope: str, key: str, is_same: IsSame) -> Response:
    """Give the first request a moment to end, holding no connection meanwhile."""
    for _ in range(_POLLS):
        await asyncio.sleep(_POLL_SECONDS)
        stored = await _find(db, scope, key)
        if stored is not None:
            return _replay(stored, is_same)
    raise IdempotencyInProgress


async def _find(db: Database, scope: str, key: str) -> StoredAnswer | None:
    async with db.read() as connection:
        stored = await IdempotencyRepository(connection).find(scope, key)
    return stored if stored and stored.created_at > now() - ANSWERS_KEPT_FOR else None


def _kept_body(request: Request, response: Response) -> bytes:
    """Return the answer's body without what its route says is too secret to be kept."""
    body = bytes(response.body)
    unkept: frozenset[str] = getattr(request.scope["route"], "unkept_fields", frozenset())
    if not unkept:
        return body
    return json.dumps(json.loads(body) | dict.fromkeys(unkept)).encode()


async def _fingerprint(request: Request) -> str:
    """Return what makes two requests the same: method, address and body."""
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    digest.update(await request.body())
    return digest.hexdigest()


def _replay(stored: StoredAnswer, is_same: IsSame) -> Response:
    if not is_same(stored.fingerprint):
        raise IdempotencyKeyReused
    headers = {**stored.headers, "Idempotency-Replayed": "true"}
    return Response(stored.body, status_code=stored.status, headers=headers)
