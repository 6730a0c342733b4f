"""Whoever begins a request has to go on with it, also with no proxy in front."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.middleware import Middleware
from starlette.requests import Request

from app import http_protocol
from app.http_protocol import LEAST_BYTES
from app.middleware.limits import InputLimits
from app.server import OPTIONS, LingeringServer
from tests.live_server import LiveServer, serving
from tests.patience import PATIENCE, in_some_round
from tests.raw_socket import HANDSHAKE, Opcode, RawSocket, connection, frame, request
from tests.unit.test_lingering import begun

SECONDS = 0.3
STEP = SECONDS / 20  # between two bytes: a deadline for each byte would never pass
KEEP_ALIVE = 0.8
LARGE = 2**25  # bytes: more than the kernel takes in for anybody
GET = request("/", {})
HALF = GET[:20]
ROOT = Path(__file__).resolve().parents[2]


def make_app() -> FastAPI:
    bounds = Middleware(
        InputLimits,
        max_body_bytes=2**20,
        max_query_bytes=100,
        max_header_count=100,
        max_json_depth=10,
    )
    app = FastAPI(middleware=[bounds])

    @app.get("/")
    @app.post("/early")
    async def answer() -> PlainTextResponse:
        return PlainTextResponse("here")

    @app.post("/")
    async def count(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    @app.api_route("/later", methods=["GET", "POST"])
    async def count_later(request: Request) -> PlainTextResponse:
        await asyncio.sleep(SECONDS * 1.5)
        return PlainTextResponse(str(len(await request.body())))

    @app.get("/long")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            for _ in range(3):
                await asyncio.sleep(SECONDS / 2)
                yield "piece"
            yield "end"

        return StreamingResponse(pieces())

    @app.get("/large")
    async def large() -> PlainTextResponse:
        return PlainTextResponse("l" * LARGE)

    @app.websocket("/ws")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    return app


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LiveServer]:
    monkeypatch.setattr(http_protocol, "CLIENT_SECONDS", SECONDS)
    monkeypatch.setitem(OPTIONS, "timeout_keep_alive", KEEP_ALIVE)
    async with serving(make_app()) as server:
        yield server


@asynccontextmanager
async def talking_to(url: str) -> AsyncIterator[RawSocket]:
    async with asyncio.timeout(PATIENCE), connection(url) as raw:
        yield raw


async def ended(raw: RawSocket, data: bytes) -> bytes:
    """Send a byte at a time until the connection ends; return what was answered until then."""
    reading = asyncio.create_task(raw.reader.read())
    for at in range(len(data)):
        if reading.done():
            break
        raw.write(data[at : at + 1])
        await asyncio.sleep(STEP)
    with contextlib.suppress(ConnectionError):  # for what was sent and is read by nobody
        return await reading
    return b""


async def answer_of(raw: RawSocket) -> bytes:
    """Return the next answer, whose body is "here"."""
    return await raw.reader.readuntil(b"here")


def must_be_late(answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert json.loads(body)["error_code"] == "REQUEST_TIMEOUT"


async def test_a_connection_that_says_nothing_is_closed_without_a_word(server: LiveServer) -> None:
    async with talking_to(server.url) as raw:
        assert await raw.reader.read() == b""


@in_some_round
@pytest.mark.parametrize("before", [b"", GET], ids=["the first", "a later one"])
async def test_a_head_that_trickles_is_ended_while_others_are_served(
    server: LiveServer, before: bytes
) -> None:
    async with server.client() as other, talking_to(server.url) as raw:
        raw.write(before)
        if before:
            await answer_of(raw)
        trickling = asyncio.create_task(ended(raw, GET[:-2] + b"X: y\r\n" * 1000))
        others = 0
        while not trickling.done():
            others += (await other.get("/")).status_code == 200
        must_be_late(await trickling)
    assert others


async def test_empty_lines_before_a_request_put_nothing_off(server: LiveServer) -> None:
    async with talking_to(server.url) as raw:
        assert await ended(raw, b"\r\n" * 1000) == b""


@in_some_round
async def test_a_head_in_pieces_is_served_when_it_is_whole_in_time(server: LiveServer) -> None:
    async with talking_to(server.url) as raw:
        for _ in range(3):
            raw.write(HALF)
            await asyncio.sleep(STEP)
            raw.write(GET[len(HALF) :])
            await answer_of(raw)
        await asyncio.sleep(SECONDS * 1.5)  # idle between two requests it may be for longer
        raw.write(GET)
        await answer_of(raw)


@in_some_round
@pytest.mark.parametrize("goes_on", [True, False])
async def test_half_a_head_behind_a_whole_request_waits_for_its_answer(
    server: LiveServer, *, goes_on: bool
) -> None:
    async with talking_to(server.url) as raw:
        raw.write(request("/long", {}) + GET + HALF)
        text = await raw.reader.readuntil(b"here")
        assert b"end" in text
        raw.write(GET[len(HALF) :] + HALF)
        await answer_of(raw)
        if goes_on:
            raw.write(GET[len(HALF) : -1])
        must_be_late(await raw.reader.read())


@in_some_round
async def test_a_body_that_the_app_has_not_asked_for_is_not_late(server: LiveServer) -> None:
    headers = {"Content-Length": "4", "Expect": "100-continue", "Connection": "close"}
    async with talking_to(server.url) as raw:
        raw.write(request("/later", headers, method="POST"))
        assert (await raw.head()).startswith("HTTP/1.1 100 ")
        raw.write(b"body")
        assert (await raw.reader.read()).endswith(b"\r\n\r\n4")


@in_some_round
async def test_a_body_behind_an_answer_that_takes_long_is_not_late(server: LiveServer) -> None:
    headers = {"Content-Length": "4", "Connection": "close"}
    async with talking_to(server.url) as raw:
        raw.write(request("/later", {}) + request("/", headers, method="POST"))
        await asyncio.sleep(STEP)
        raw.write(b"body")  # not read yet: nobody reads ahead of two requests
        assert (await raw.reader.read()).endswith(b"\r\n\r\n4")


async def test_a_body_that_trickles_behind_its_answer_is_ended(server: LiveServer) -> None:
    async with talking_to(server.url) as raw:
        raw.write(request("/early", {"Content-Length": "100000"}, method="POST"))
        await answer_of(raw)
        assert await ended(raw, b"b" * 1000) == b""


@in_some_round
async def test_a_body_that_comes_behind_its_answer_is_let_come(server: LiveServer) -> None:
    piece = b"b" * LEAST_BYTES
    async with talking_to(server.url) as raw:
        raw.write(request("/early", {"Content-Length": str(10 * len(piece))}, method="POST"))
        await answer_of(raw)
        for _ in range(10):
            raw.write(piece)
            await asyncio.sleep(SECONDS / 5)
        raw.write(GET)
        await answer_of(raw)


@in_some_round
@pytest.mark.parametrize("before", [b"", GET], ids=["at once", "after a request"])
async def test_a_websocket_stays_open(server: LiveServer, before: bytes) -> None:
    async with talking_to(server.url) as raw:
        raw.write(before)
        if before:
            await answer_of(raw)
        raw.write(HALF[:1])
        await asyncio.sleep(STEP)
        raw.write(request("/ws", HANDSHAKE)[1:])
        assert (await raw.head()).startswith("HTTP/1.1 101 ")
        await asyncio.sleep(KEEP_ALIVE + SECONDS)
        raw.write(frame(Opcode.TEXT, b"still here"))
        assert (await raw.read()).payload == b"still here"


async def test_a_head_that_was_begun_holds_up_no_end() -> None:
    config = uvicorn.Config(make_app(), lifespan="off", timeout_graceful_shutdown=60, **OPTIONS)
    server = LingeringServer(config, 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with begun(server, listener), talking_to(url) as raw:
            raw.write(HALF)
            while not any(vars(each)["scope"] for each in server.server_state.connections):
                await asyncio.sleep(0.01)
            async with asyncio.timeout(http_protocol.CLIENT_SECONDS / 2):
                await server.shutdown(sockets=[listener])
            assert await raw.reader.read() == b""


async def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "READER_SECONDS", SECONDS)
    config = uvicorn.Config(make_app(), lifespan="off", timeout_graceful_shutdown=60, **OPTIONS)
    server = LingeringServer(config, 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with begun(server, listener), talking_to(url) as raw:
            raw.write(request("/large", {}))
            await raw.head()  # and no more: the reader's own buffer is full by then
            while server.server_state.connections:
                await asyncio.sleep(STEP)


@in_some_round
async def test_a_slow_reader_that_goes_on_is_given_all(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "READER_SECONDS", SECONDS)
    async with talking_to(server.url) as raw:
        raw.write(request("/large", {"Connection": "close"}))
        await raw.head()
        came = 0
        while piece := await raw.reader.read(2**18):
            came += len(piece)
            await asyncio.sleep(STEP / 2)
    assert came == LARGE


def test_the_edge_has_the_same_deadlines() -> None:
    shipped = (ROOT / "docker/nginx/nginx.conf").read_text(encoding="utf-8")
    seconds = dict(re.findall(r"client_(header|body)_timeout (\d+)s;", shipped))
    assert float(seconds["header"]) == http_protocol.CLIENT_SECONDS
    assert float(seconds["body"]) == http_protocol.CLIENT_SECONDS
