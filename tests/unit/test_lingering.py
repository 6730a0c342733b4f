"""The end of a server: whoever has connected already is served."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn

from app.server import LingeringServer
from tests.bench.floor import hello
from tests.patience import PATIENCE

CLIENTS = 20
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def begun(server: uvicorn.Server, listener: socket.socket) -> AsyncIterator[None]:
    """Start what `serve` starts, without the signals of the process."""
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup(sockets=[listener])
    yield
    await server.lifespan.shutdown()


async def answers_of_late_comers(server: uvicorn.Server) -> list[bytes]:
    """Connect, end the server before it could notice, and ask only then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with begun(server, listener):
            clients = [socket.create_connection(listener.getsockname()) for _ in range(CLIENTS)]
            ending = asyncio.create_task(server.shutdown(sockets=[listener]))
            answers = await asyncio.gather(*map(ask, clients))
            await ending
    return answers


async def ask(client: socket.socket) -> bytes:
    await asyncio.sleep(0.05)
    answer = b""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(sock=client)
        writer.write(REQUEST)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
    return answer[:15]


def config() -> uvicorn.Config:
    return uvicorn.Config(hello, http="httptools", log_config=None, timeout_graceful_shutdown=1)


async def test_whoever_stands_in_the_queue_is_served() -> None:
    answers = await answers_of_late_comers(LingeringServer(config(), 0.5))
    assert answers == [b"HTTP/1.1 200 OK"] * CLIENTS


async def test_uvicorn_s_own_server_resets_them() -> None:
    answers = await answers_of_late_comers(uvicorn.Server(config()))
    if b"HTTP/1.1 200 OK" in answers:
        pytest.fail("Uvicorn serves them by itself now: ours is not needed any more")
