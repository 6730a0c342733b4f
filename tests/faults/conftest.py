"""A production of two workers whose PostgreSQL and Redis stand behind proxies that can fail."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import pytest

from app.settings import Settings
from tests.api.test_production_start import environment, settings_of
from tests.backends import Backend, Place
from tests.conftest import MakeSettings
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.lending import Lending, is_well, lending
from tests.live_server import LiveServer
from tests.patience import PATIENCE, LoopClock
from tests.processes import WORKERS, Service, gunicorn

STARTED = "Application startup complete"  # what each worker says
SHARED: dict[str, Any] = {
    "RATE_LIMITS_ENABLED": "true",
    "RATE_LIMIT_DEFAULT": "1000000/minute",
    "RATE_LIMIT_LOGIN": "1000000/minute",
    "RATE_LIMIT_REGISTER": "1000000/minute",
    "DATABASE_STATEMENT_TIMEOUT": "4",  # a network gone silent is waited for so long
}


@dataclass
class Production:
    """The service, and what may fail under it."""

    service: Service
    postgres: FaultProxy
    redis: FaultProxy

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.service.url

    def client(self) -> httpx.AsyncClient:
        """Return a client to use in `async with`."""
        return LiveServer(self.url).client()

    async def heal(self) -> bool:
        """Let everything through again, and wait until all is well; False if it has ended."""
        self.postgres.heal()
        self.redis.heal()
        return await is_well(self.service)


@dataclass
class Load:
    """What a load saw: statuses, and how long the slowest answer of each took, by its own loop."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest: dict[int, float] = field(default_factory=dict)
    without_retry_after: int = 0
    cut_off: int = 0

    @property
    def share_of_success(self) -> float:
        """The share of answers that are 2xx."""
        good = sum(count for status, count in self.statuses.items() if status < 300)
        return good / max(1, self.statuses.total())

    async def has_seen(self, status: int, count: int = 1) -> None:
        """Wait until there were so many answers of a status."""
        async with asyncio.timeout(PATIENCE):
            while self.statuses[status] < count:
                await asyncio.sleep(0.01)


class Served(Protocol):
    """What has clients: a production of processes, or one of containers."""

    def client(self) -> httpx.AsyncClient:
        """Return a client to use in `async with`."""


@asynccontextmanager
async def loading(
    production: Served, path: str, *, clients: int = 4, pause: float = 0.01
) -> AsyncIterator[Load]:
    """Read a path again and again while the block runs, with pauses of so many seconds."""
    load, stop, clock = Load(), asyncio.Event(), LoopClock()

    async def read() -> None:
        async with production.client() as client:
            while not stop.is_set():
                started = clock.seconds
                try:
                    answer = await client.get(path)
                except httpx.TransportError:
                    load.cut_off += 1
                    continue
                status = answer.status_code
                load.statuses[status] += 1
                load.slowest[status] = max(load.slowest.get(status, 0), clock.seconds - started)
                load.without_retry_after += status == 503 and "retry-after" not in answer.headers
                await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as tasks:
        ticking = tasks.create_task(clock.run())
        readers = [tasks.create_task(read()) for _ in range(clients)]
        try:
            yield load
        finally:
            stop.set()
            await asyncio.wait(readers)
            ticking.cancel()


def through(url: str, proxy: FaultProxy) -> str:
    """Return a URL whose port is the proxy's."""
    port = urlsplit(url).port
    return url.replace(f":{port}", f":{proxy.port}", 1) if port else url


@asynccontextmanager
async def producing(
    settings: Settings, *, workers: int = WORKERS, app: str = "app.main:app", **variables: str
) -> AsyncIterator[Production]:
    """Serve a production on the places of these settings, with some variables changed."""
    environ = environment(settings)
    async with AsyncExitStack() as stack:
        proxies = []
        for name in ("DATABASE_URL", "REDIS_URL"):
            port = urlsplit(environ[name]).port
            assert port
            proxies.append(await stack.enter_async_context(fault_proxy(port)))
            environ[name] = through(environ[name], proxies[-1])
        # Started in a thread: the proxies that it starts through live on this loop.
        manager = gunicorn("kingpost", app, environ | variables, workers=workers)
        service = await asyncio.to_thread(manager.__enter__)
        try:
            async with asyncio.timeout(60):
                while service.log().count(STARTED) < workers:
                    await asyncio.sleep(0.05)
            yield Production(service, *proxies)
        finally:
            for proxy in proxies:
                proxy.heal()
            await asyncio.to_thread(manager.__exit__, None, None, None)


@pytest.fixture(scope="module")
async def lent_production(
    shared_place: Callable[[Backend], Place],
) -> AsyncIterator[Lending[Production]]:
    """The one of a module, which `production` lends to its tests."""
    settings = settings_of(shared_place(Backend.PRODUCTION))
    async with lending(lambda: producing(settings, **SHARED), Production.heal) as lent:
        yield lent


@pytest.fixture
async def production(
    lent_production: Lending[Production], request: pytest.FixtureRequest
) -> AsyncIterator[Production]:
    """A production that is well; whatever fails under it is healed at the end of the test."""
    async with lent_production.turn(request.session) as production:
        yield production


@pytest.fixture
async def own_production(
    make_settings: MakeSettings, request: pytest.FixtureRequest
) -> AsyncIterator[Production]:
    """One of this test's own; the variables that are changed are its parameter."""
    async with producing(make_settings(), **getattr(request, "param", {})) as production:
        yield production
