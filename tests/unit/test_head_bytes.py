"""The head of a request has an end, also with no proxy in front: nothing of it is kept beyond."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.requests import Request

from app.http_protocol import MAX_HEAD_BYTES as MAX_HEAD
from tests.live_server import LiveServer, serving

LINE = b"POST / HTTP/1.1\r\nHost: x\r\n"
LENGTH_OF_BODY = 3 * MAX_HEAD
PIECE = MAX_HEAD // 13
MANY_CHUNKS = 2**16
ONE_READ = 2**18  # how much more may come before it is counted


@pytest.fixture
async def server() -> AsyncIterator[LiveServer]:
    app = FastAPI()

    @app.post("/")
    async def count(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async with serving(app) as server:
        yield server


async def ask(server: LiveServer, *parts: bytes) -> list[bytes]:
    """Send parts, each read before the next comes; return the answers until the connection ends."""
    port = int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(20):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        try:
            answers = await reader.read()
        except ConnectionError:  # what was sent behind the end of the connection
            answers = b""
    writer.close()
    return answers.split(b"HTTP/1.1 ")[1:]


def field(size: int, name: bytes = b"X") -> bytes:
    return name + b": " + b"a" * (size - len(name) - 4) + b"\r\n"


CLOSE = b"Connection: close\r\n"
BODY = b"Content-Length: %d\r\n\r\n" % LENGTH_OF_BODY + b"b" * LENGTH_OF_BODY
EMPTY = b"Content-Length: 0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([LINE + field(MAX_HEAD + ONE_READ) + EMPTY], id="at once"),
        pytest.param(
            [LINE + field(MAX_HEAD // 2), field(MAX_HEAD // 2 + ONE_READ) + EMPTY], id="in two"
        ),
        pytest.param([LINE + b"X: ", *[b"a" * PIECE] * 14], id="a value without end"),
        pytest.param([LINE, *[field(100) * (PIECE // 100)] * 14], id="fields without end"),
        pytest.param(
            [LINE + CHUNKED, *[field(100) * (PIECE // 100)] * 14], id="trailers without end"
        ),
    ],
)
async def test_too_large_a_head_is_refused_and_the_connection_over(
    server: LiveServer, parts: list[bytes]
) -> None:
    (answer,) = await ask(server, *parts)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"431 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["error_code"] == "HEADERS_TOO_LARGE"


async def write_without_end(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"a" * MAX_HEAD)
        await writer.drain()


async def test_what_never_ends_is_cut_off(server: LiveServer) -> None:
    port = int(server.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(LINE + b"X: ")
    async with asyncio.timeout(20):
        with pytest.raises(ConnectionError):
            await write_without_end(writer)


async def test_as_much_as_may_be_is_read_and_bodies_are_another_matter(server: LiveServer) -> None:
    nearly = field(MAX_HEAD - 200)
    small_chunks = (
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nb\r\n" * MANY_CHUNKS + b"0\r\n\r\n"
    )
    answers = await ask(
        server,
        LINE + nearly + EMPTY,
        LINE + nearly + BODY,
        LINE + BODY + LINE + BODY,
        (LINE + EMPTY) * 2000,
        LINE + small_chunks,
        LINE + CLOSE + nearly + EMPTY,
    )
    lengths = [int(answer.rpartition(b"\r\n")[2]) for answer in answers]
    assert lengths == [0, *[LENGTH_OF_BODY] * 3, *[0] * 2000, MANY_CHUNKS, 0]
