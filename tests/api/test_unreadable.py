"""Requests that no parser reads: the app never sees them, and still a client is told why."""

import asyncio
import json
from typing import Any

import pytest

from app.http_protocol import MAX_HEAD_BYTES
from tests.live_server import LiveServer

DEADLINE = 20.0
GET = b"GET /api/v1/items"
POST = b"POST /api/v1/auth/register HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"


async def answer_to(server: LiveServer, *pieces: bytes) -> tuple[int, dict[str, str], Any]:
    """Send what a client library would not, and return status, headers and body."""
    host, _, port = server.url.rpartition("//")[2].rpartition(":")
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        except ConnectionError:  # it has heard enough
            pass
        answer = await reader.read()
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body)


@pytest.mark.parametrize(
    ("pieces", "status", "code", "instance"),
    [
        ((b"what is this\r\n\r\n",), 400, "BAD_REQUEST", ""),
        ((b"BREW /api/v1/items HTTP/1.1\r\n\r\n",), 400, "BAD_REQUEST", ""),
        ((GET + b"?q=1 HTTP/1.1\r\nBad Name: 1\r\n\r\n",), 400, "BAD_REQUEST", "/api/v1/items"),
        ((POST + b"Content-Length: abc\r\n\r\n",), 400, "BAD_REQUEST", "/api/v1/auth/register"),
        ((GET + b"?q=" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",), 414, "URI_TOO_LONG", ""),
    ],
)
async def test_a_request_that_cannot_be_read_is_a_problem(
    server: LiveServer, pieces: tuple[bytes, ...], status: int, code: str, instance: str
) -> None:
    got, headers, body = await answer_to(server, *pieces)
    assert (got, body["status"], body["error_code"]) == (status, status, code)
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == body["request_id"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["connection"] == "close"
    assert body["instance"] == instance


@pytest.mark.parametrize(
    "beginning",
    [
        GET + b" HTTP/1.1\r\nX-Endless: ",
        GET,
        POST + b"Transfer-Encoding: chunked\r\n\r\n1;",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
    ],
)
async def test_a_head_without_end_is_refused_before_it_fills_the_memory(
    server: LiveServer, beginning: bytes
) -> None:
    # No byte more than it takes, or the connection would be reset before the answer is read.
    status, _, body = await answer_to(server, beginning, b"a" * MAX_HEAD_BYTES)
    assert (status, body["error_code"]) in ((431, "HEADERS_TOO_LARGE"), (414, "URI_TOO_LONG"))
