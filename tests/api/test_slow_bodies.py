"""A body that is begun has to go on: nobody is waited for for ever, also with no proxy in front."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx import AsyncClient

from app import http_protocol
from app.http_protocol import LEAST_BYTES
from tests.api.test_events import stream
from tests.factories import create_item, new_user
from tests.live_server import LiveServer
from tests.patience import PATIENCE, in_some_round
from tests.raw_socket import RawSocket, connection, request

pytestmark = pytest.mark.only("embedded")  # what is behind it makes no difference

SECONDS = 0.3
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LONG = {"Content-Length": "100000"}
CHUNKED = {"Transfer-Encoding": "chunked"}


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "CLIENT_SECONDS", SECONDS)


@asynccontextmanager
async def posting(
    server: LiveServer, path: str, headers: dict[str, str]
) -> AsyncIterator[RawSocket]:
    """Send the head of a request."""
    async with asyncio.timeout(PATIENCE), connection(server.url) as raw:
        raw.write(request(f"/api/v1{path}", headers, method="POST"))
        yield raw


def must_be_late(answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    headers = head.lower()
    assert b"content-type: application/problem+json" in headers
    assert b"connection: close" in headers
    told: dict[str, Any] = json.loads(body)
    assert told["error_code"] == "REQUEST_TIMEOUT"
    assert b"x-request-id: " + told["request_id"].encode() in headers


@pytest.mark.parametrize(
    ("path", "headers", "begun"),
    [
        pytest.param("/auth/register", {**JSON, **LONG}, b"", id="nothing"),
        pytest.param("/auth/register", {**JSON, **LONG}, b'{"name', id="a part"),
        pytest.param("/auth/register", {**JSON, **LONG}, b" " * 20_000, id="much"),
        pytest.param("/auth/register", {**JSON, **CHUNKED}, b"2\r\n{}\r\n", id="no last chunk"),
        pytest.param("/auth/token", {**FORM, **LONG}, b"username=", id="a form"),
    ],
)
async def test_a_body_that_stops_is_not_waited_for(
    server: LiveServer, path: str, headers: dict[str, str], begun: bytes
) -> None:
    async with posting(server, path, headers) as raw:
        raw.write(begun)
        must_be_late(await raw.reader.read())


async def test_a_body_with_a_key_is_not_waited_for_either(
    server: LiveServer, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    headers = {**JSON, **LONG, **tokens.headers, "Idempotency-Key": "slow"}
    async with posting(server, "/items", headers) as raw:
        must_be_late(await raw.reader.read())


async def test_a_body_that_trickles_is_ended(server: LiveServer) -> None:
    async with posting(server, "/auth/register", {**JSON, **LONG}) as raw:
        reading = asyncio.create_task(raw.reader.read())
        while not reading.done():
            raw.write(b" ")
            await asyncio.sleep(SECONDS / 20)
        with contextlib.suppress(ConnectionError):  # by a byte that came behind the end
            must_be_late(await reading)


@in_some_round
async def test_a_slow_body_that_keeps_coming_is_taken_in(server: LiveServer) -> None:
    length = {"Content-Length": str(10 * LEAST_BYTES + 2), "Connection": "close"}
    async with posting(server, "/auth/register", {**JSON, **length}) as raw:
        for _ in range(10):
            raw.write(b" " * LEAST_BYTES)
            await asyncio.sleep(SECONDS / 5)
        raw.write(b"{}")
        assert (await raw.reader.read()).startswith(b"HTTP/1.1 422 ")


async def test_a_stream_whose_request_had_an_empty_body_goes_on(
    server: LiveServer, client: AsyncClient
) -> None:
    tokens = await new_user(client)
    async with stream(server, "channel=items", **{"Content-Length": "0"}) as live:
        await asyncio.sleep(SECONDS * 1.5)
        item = await create_item(client, tokens)
        while (await live.next())["data"]["id"] != item["id"]:
            pass
