"""A real server on a real socket, for what cannot be tested without one: WebSockets and streams."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from app.server import OPTIONS
from tests.patience import PATIENCE


@dataclass(frozen=True)
class LiveServer:
    """Where a server listens."""

    url: str

    @property
    def ws_url(self) -> str:
        """The same address for WebSockets."""
        return self.url.replace("http://", "ws://", 1)

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Return a client to use in `async with`."""
        options.setdefault("timeout", PATIENCE)
        # A TLS context takes 15 ms to make, and nothing here speaks TLS.
        return httpx.AsyncClient(base_url=self.url, verify=False, **options)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave Ctrl-C to pytest."""
        yield


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[FastAPI]:
    """Run the app's lifespan around what is inside.

    It has a task of its own: pytest enters and leaves a fixture in two different tasks, which a
    task group in the lifespan would refuse.
    """
    ready, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.router.lifespan_context(app):
            ready.set()
            await stop.wait()

    task = asyncio.create_task(live())
    started = asyncio.create_task(ready.wait())
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        started.cancel()
        await task
    try:
        yield app
    finally:
        stop.set()
        await task


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[LiveServer]:
    """Serve an app, whose lifespan is run elsewhere, on a free port of the loopback interface."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        timeout_graceful_shutdown=1,
        **OPTIONS,
    )
    server = _Server(config)
    # By this number asyncio knows that small frames are not to wait for one another (TCP_NODELAY).
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(PATIENCE):
            while not server.started:
                await asyncio.sleep(0.002)
        try:
            yield LiveServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            await task
