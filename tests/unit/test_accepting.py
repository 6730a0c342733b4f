"""Many who connect at once do not wait for as many turns of a busy loop."""

import asyncio
import socket
import time

import pytest
import uvicorn

from app.server import LingeringServer
from tests.bench.floor import hello
from tests.unit.test_lingering import begun

uvloop = pytest.importorskip("uvloop")

CLIENTS = 64
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def turns_until_all_are_answered(server: uvicorn.Server) -> int:
    """Connect and ask before the loop can look, and count its turns until all have answers."""
    turns = 0
    with socket.create_server(("127.0.0.1", 0), backlog=CLIENTS) as listener:
        async with begun(server, listener):
            clients = [socket.create_connection(listener.getsockname()) for _ in range(CLIENTS)]
            for client in clients:
                client.setblocking(False)
                client.send(REQUEST)
            waiting, deadline = set(clients), time.monotonic() + 20
            while waiting and time.monotonic() < deadline:
                turns += 1
                await asyncio.sleep(0)
                waiting = {client for client in waiting if not is_answered(client)}
            for client in clients:
                client.close()
            await server.shutdown(sockets=[listener])
    return turns if not waiting else 0


def is_answered(client: socket.socket) -> bool:
    try:
        return client.recv(16, socket.MSG_PEEK).startswith(b"HTTP/1.1 200")
    except BlockingIOError:
        return False


def test_a_crowd_is_taken_in_within_few_turns_of_the_loop() -> None:
    config = uvicorn.Config(hello, http="httptools", log_config=None, timeout_graceful_shutdown=1)
    turns = uvloop.run(turns_until_all_are_answered(LingeringServer(config, 0)))
    assert 0 < turns < CLIENTS / 2
