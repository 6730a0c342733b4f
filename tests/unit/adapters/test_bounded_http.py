"""HTTP to others: whatever they send, no more than the bound is taken, and nothing is unpacked."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from app.adapters.bounded_http import BoundedTransport
from tests.live_server import LiveServer, serving

BOUND = 10_000


class Peer:
    """A server that sends what it is asked for, and counts it."""

    def __init__(self) -> None:
        self.sent = 0
        self.accepts = ""
        self.app = FastAPI()
        for path, endpoint in (
            ("/bytes/{size:int}", self.bytes),
            ("/packed", self.packed),
            ("/away", self.away),
        ):
            self.app.router.add_route(path, endpoint)

    async def bytes(self, request: Request) -> Response:
        self.accepts = request.headers["accept-encoding"]
        size = request.path_params["size"]

        async def chunks() -> AsyncIterator[bytes]:
            while self.sent < size:
                self.sent += 1000
                yield b"x" * 1000
                await asyncio.sleep(0)  # or nobody would hear that the client has gone

        return StreamingResponse(chunks())

    async def packed(self, _request: Request) -> Response:
        return Response(gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})

    async def away(self, _request: Request) -> Response:
        return RedirectResponse("/bytes/1000", 302)


@pytest.fixture
def peer() -> Peer:
    """A server of this test's own."""
    return Peer()


@pytest.fixture
async def server(peer: Peer) -> AsyncIterator[LiveServer]:
    """Where it listens."""
    async with serving(peer.app) as running:
        yield running


@pytest.fixture
async def client(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client behind the bound."""
    transport = BoundedTransport(BOUND)
    async with httpx.AsyncClient(transport=transport, base_url=server.url) as bounded:
        yield bounded
    await transport.close()


async def test_an_answer_up_to_the_bound_is_taken(client: httpx.AsyncClient, peer: Peer) -> None:
    assert len((await client.get(f"/bytes/{BOUND}")).content) == BOUND
    assert peer.accepts == "identity"


async def test_a_larger_one_is_given_up_at_the_bound(client: httpx.AsyncClient, peer: Peer) -> None:
    with pytest.raises(httpx.DecodingError, match="too large"):
        await client.get("/bytes/1000000000")
    assert peer.sent < 100_000_000  # the connection was cut: nobody reads the rest
    peer.sent = 0
    assert (await client.get("/bytes/1000")).status_code == 200


async def test_what_is_packed_is_not_unpacked(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.DecodingError, match="compressed"):
        await client.get("/packed")


async def test_a_redirect_is_not_followed(client: httpx.AsyncClient, peer: Peer) -> None:
    assert (await client.get("/away")).status_code == 302
    assert peer.sent == 0


async def test_a_client_that_ends_leaves_the_pool_to_the_others(server: LiveServer) -> None:
    transport = BoundedTransport(BOUND)
    for _ in range(2):
        async with httpx.AsyncClient(transport=transport, base_url=server.url) as one:
            assert (await one.get("/bytes/1000")).status_code == 200
    await transport.close()
