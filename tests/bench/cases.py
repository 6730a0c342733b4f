"""What is measured: the requests, and which floor each is held against."""

import json
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.services.seeding import PASSWORD
from tests.bench.load import UNIQUE
from tests.processes import Service

ITEMS, USERS = 10_000, 100
_DEPTH = 9_900
_NEW = json.dumps(
    {"name": "Oak desk", "price": 349.5, "tags": ["wood"], "description": "A very fine desk."}
)


@dataclass(frozen=True)
class Case:
    """One kind of request; `floor` is the same one to the floor's app, where it has it."""

    name: str
    requests: Sequence[bytes]
    floor: Sequence[bytes] = ()
    connections: int = 16
    status: str = "200"
    goal: str = ""  # of the first landing, server CPU or rate
    adds_items: bool = False


def cases(service: Service) -> list[Case]:
    """Return every case, signed in to a running service."""
    token = _sign_in(service)
    some = [1 + 97 * number % ITEMS for number in range(100)]
    plain = [_get(f"/api/v1/items/{item}") for item in some]
    return [
        Case("live", [_get("/health/live")], [_get("/trivial")], goal="≤ 180 µs"),
        Case("GET item, public", plain, plain, goal="≤ 620 µs"),
        Case(
            "GET item, signed in",
            [_get(f"/api/v1/items/{item}", token) for item in some],
            plain,
            goal="≤ 620 µs",
        ),
        Case(
            "GET item, signed in, v2",
            [_get(f"/api/v2/items/{item}", token) for item in some],
            plain,
            goal="≤ 620 µs",
        ),
        # Refused alike; all that differs is how many routes stand before.
        Case("401, an early route", [_get("/api/v1/items/stats")], status="401"),
        Case("401, a late route", [_get("/api/v2/users/me")], status="401", goal="early + 20 µs"),
        Case("list of 20, v1", [_get("/api/v1/items", token)], [_get("/api/v1/items")]),
        Case(
            "list of 20, v2",
            [_get("/api/v2/items", token)],
            [_get("/api/v1/items")],
            goal="≤ 780 µs",
        ),
        Case(
            f"page at {_DEPTH:,}, v1",
            [_get(f"/api/v1/items?skip={_DEPTH}", token)],
            [_get(f"/api/v1/items?skip={_DEPTH}")],
        ),
        Case(
            f"page at {_DEPTH:,}, v2",
            [_get(f"/api/v2/items?{_deep_cursor(service, token)}", token)],
            [_get(f"/api/v1/items?skip={_DEPTH}")],
            goal="list v2 + 15 %",
        ),
        Case(
            "POST item",
            [_post(token)],
            [_post("")],
            status="201",
            goal="≤ 850 µs",
            adds_items=True,
        ),
        Case(
            "POST item, Idempotency-Key",
            [_post(token, UNIQUE)],
            [_post("")],
            status="201",
            adds_items=True,
        ),
        Case(
            "login (4 connections)", [_login(n) for n in range(1, 50)], connections=4, goal="≥ 60/s"
        ),
    ]


def _get(path: str, token: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{_bearer(token)}\r\n".encode()


def _post(token: str, key: str = "") -> bytes:
    idempotency = f"Idempotency-Key: {key}\r\n" if key else ""
    return (
        f"POST /api/v1/items HTTP/1.1\r\nHost: bench\r\n{_bearer(token)}{idempotency}"
        f"Content-Type: application/json\r\nContent-Length: {len(_NEW)}\r\n\r\n{_NEW}"
    ).encode()


def _login(number: int) -> bytes:
    form = urllib.parse.urlencode({"username": f"seed{number}", "password": PASSWORD})
    return (
        "POST /api/v1/auth/token HTTP/1.1\r\nHost: bench\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
        f"{form}"
    ).encode()


def _bearer(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n" if token else ""


def _sign_in(service: Service) -> str:
    form = urllib.parse.urlencode({"username": "seed1", "password": PASSWORD}).encode()
    return str(_json(service, "/api/v1/auth/token", data=form)["access_token"])


def _deep_cursor(service: Service, token: str) -> str:
    """Walk to the depth, as a client of cursors must."""
    query = "limit=100"
    for _ in range(_DEPTH // 100):
        page = _json(service, f"/api/v2/items?{query}", token)
        query = "limit=100&cursor=" + urllib.parse.quote(page["nextCursor"])
    return query.removeprefix("limit=100&")


def _json(service: Service, path: str, token: str = "", data: bytes | None = None) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{service.port}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.load(answer)
