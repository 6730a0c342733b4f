"""The dependency: who is counted, what is told, on every answer of the route."""

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.adapters.limits import RateLimiter
from app.dependencies.limits import (
    caller_key,
    check,
    client_key,
    rate_limit,
    rate_limit_headers,
)
from app.errors import DomainError, RateLimited
from app.security.principal import Principal
from app.settings import Settings


class Headers:
    """The outermost middleware, as far as it concerns limits."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *rate_limit_headers(scope)]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def create_app(**settings: Any) -> FastAPI:
    app = FastAPI()
    app.state.resources = SimpleNamespace(settings=Settings(**settings), limiter=RateLimiter(None))
    app.add_middleware(Headers)

    @app.exception_handler(DomainError)
    async def problem(_: Request, error: DomainError) -> JSONResponse:
        return JSONResponse({"error_code": error.error_code}, error.status, error.headers)

    @app.get("/login", dependencies=[Depends(rate_limit("login", key=client_key))])
    async def login(number: int = 0) -> int:
        if number < 0:
            raise HTTPException(404)
        return number

    @app.get("/open")
    async def unlimited() -> int:
        return 1

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        try:
            await check(websocket, "login")
        except RateLimited:
            await websocket.close(1008)
        else:
            await websocket.accept()
            await websocket.close()

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(rate_limit_login="3/minute")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        yield client


@pytest.fixture
def sync_client() -> Iterator[TestClient]:
    with TestClient(create_app(rate_limit_login="3/minute")) as client:
        yield client


async def test_every_answer_of_the_route_tells_the_limit(client: httpx.AsyncClient) -> None:
    answers = [await client.get("/login", params={"number": n}) for n in ("1", "-1", "x", "1")]
    assert [a.status_code for a in answers] == [200, 404, 422, 429]
    assert [a.headers["RateLimit-Remaining"] for a in answers] == ["2", "1", "0", "0"]
    assert {a.headers["RateLimit-Limit"] for a in answers} == {"3"}
    assert answers[3].headers["Retry-After"] == answers[3].headers["RateLimit-Reset"]
    assert answers[3].json()["error_code"] == "RATE_LIMITED"


async def test_an_unlimited_route_tells_nothing(client: httpx.AsyncClient) -> None:
    assert "RateLimit-Limit" not in (await client.get("/open")).headers


async def test_limits_can_be_turned_off() -> None:
    app = create_app(rate_limit_login="1/minute", rate_limits_enabled=False)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        answers = [await client.get("/login") for _ in range(3)]
    assert {a.status_code for a in answers} == {200}
    assert "RateLimit-Limit" not in answers[0].headers


async def test_a_made_up_forwarded_address_changes_nothing(client: httpx.AsyncClient) -> None:
    answers = [
        await client.get("/login", headers={"X-Forwarded-For": f"10.0.0.{n}"}) for n in range(4)
    ]
    assert answers[3].status_code == 429


def test_websocket_handshakes_count_with_the_requests(sync_client: TestClient) -> None:
    assert sync_client.get("/login").headers["RateLimit-Remaining"] == "2"
    with sync_client.websocket_connect("/ws"), sync_client.websocket_connect("/ws"):
        pass
    assert sync_client.get("/login").status_code == 429


def test_a_name_without_a_setting_is_refused_when_the_route_is_made() -> None:
    with pytest.raises(ValueError, match="rate_limit_nothing"):
        rate_limit("nothing")


def connection(address: str, **state: object) -> HTTPConnection:
    return HTTPConnection(
        {"type": "http", "client": (address, 1), "headers": [], "state": dict(state)}
    )


def test_a_signed_in_caller_is_counted_by_user_and_others_by_address() -> None:
    principal = Principal(user_id=7, session_id=1, roles=frozenset())
    assert caller_key(connection("10.0.0.1", principal=principal)) == "user:7"
    assert caller_key(connection("10.0.0.1")) == "10.0.0.1"
    assert client_key(connection("10.0.0.1", principal=principal)) == "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_an_ipv6_client_is_its_network(address: str, key: str) -> None:
    assert client_key(connection(address)) == key
