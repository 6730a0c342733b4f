"""The fixtures of every test: a backend, an app on it, a client of the app.

A test that takes `client`, `app`, `server` or `settings` runs twice, on both backends, unless
`@pytest.mark.only("production")` or `only("embedded")` restricts it. The app and its database live
as long as the worker, so tests make accounts and items of their own and never count on being
alone; one that needs an empty database takes `clean_database` as well, and has its own app.
"""

import gc
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from fastapi import FastAPI

from app.security import passwords
from app.settings import Settings
from tests.backends import Backend, Foundation, Place, Run, fresh_place, places
from tests.live_server import LiveServer, running, serving
from tests.one_at_a_time import hold_to_it
from tests.patience import PATIENCE
from tests.services import ServiceUnavailable

# A machine that is busy with tests is slow, and no property is about that.
hypothesis.settings.register_profile("kingpost", deadline=None)
hypothesis.settings.load_profile("kingpost")


MakeApp = Callable[..., Awaitable[FastAPI]]
MakeClient = Callable[..., httpx.AsyncClient]
MakeSettings = Callable[..., Settings]

RUN = pytest.StashKey[Run]()
HANDED_OVER = "kingpost_foundation"  # what xdist's controller gives each worker
_CHEAP = passwords.CONTEXT.copy(argon2__memory_cost=8, argon2__time_cost=1)  # in KiB, and passes
SECRET_KEY = "tests-only-8f0c2b7e5d1a49d6b3c4e7f1a2058d6c"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; keep the developer's own settings out of the tests."""
    hold_to_it()
    config.addinivalue_line(
        "markers", 'only(backend): run on this backend alone, "embedded" or "production"'
    )
    config.addinivalue_line("markers", "long: takes the longest of all, and so goes first")
    config.addinivalue_line("markers", "costly_hashes: hash passwords at production's cost")
    for name in Settings.model_fields:
        os.environ.pop(name.upper(), None)
        os.environ.pop(f"{name.upper()}_FILE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of pytest-xdist what it builds on; the servers are started once, here."""
    node.workerinput[HANDED_OVER] = asdict(_run(node.config).foundation())


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers."""
    if RUN in config.stash:
        config.stash[RUN].close()


def _run(config: pytest.Config) -> Run:
    if RUN not in config.stash:
        try:
            config.stash[RUN] = Run()
        except ServiceUnavailable as error:
            pytest.exit(str(error), returncode=3)
    return config.stash[RUN]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes longest go first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Let garbage be looked for as in the service (`app.main`), and not in what is imported.

    Otherwise it takes a tenth of the suite's time, and seconds more when pytest ends.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that touches a backend on both, or on the one that it is marked with."""
    if "backend" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("only")
    chosen = [Backend(name) for name in marker.args] if marker else list(Backend)
    metafunc.parametrize("backend", chosen, indirect=True, ids=str)


@pytest.fixture(autouse=True)
def _cost_of_hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash at argon2id's least cost: at production's, half of the suite's time was hashing.

    A test about that cost is marked `costly_hashes`, and has an app of its own.
    """
    if not request.node.get_closest_marker("costly_hashes"):
        monkeypatch.setattr(passwords, "CONTEXT", _CHEAP)


@pytest.fixture(scope="session")
def foundation(request: pytest.FixtureRequest) -> Foundation:
    """The servers and templates, from xdist's controller or started now."""
    handed_over = getattr(request.config, "workerinput", {}).get(HANDED_OVER)
    if handed_over is not None:
        return Foundation(**handed_over)
    return _run(request.config).foundation()


@pytest.fixture(scope="session")
def shared_place(
    foundation: Foundation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Backend], Place]]:
    """The worker's own databases, each made when first asked for."""
    with places(foundation, tmp_path_factory.mktemp) as place_of:
        yield place_of


@pytest.fixture(scope="session")
async def shared_app() -> AsyncIterator[Callable[[Settings], Awaitable[FastAPI]]]:
    """The worker's own apps, each started when first asked for."""
    apps: dict[Path, FastAPI] = {}
    async with AsyncExitStack() as stack:

        async def app_of(settings: Settings) -> FastAPI:
            if settings.data_dir not in apps:
                app = await stack.enter_async_context(running(new_app(settings)))
                apps[settings.data_dir] = app
            return apps[settings.data_dir]

        yield app_of


@pytest.fixture(scope="session")
async def shared_server() -> AsyncIterator[Callable[[FastAPI], Awaitable[LiveServer]]]:
    """The worker's own servers, each started when first asked for."""
    servers: dict[int, LiveServer] = {}
    async with AsyncExitStack() as stack:

        async def server_of(app: FastAPI) -> LiveServer:
            if id(app) not in servers:
                servers[id(app)] = await stack.enter_async_context(serving(app))
            return servers[id(app)]

        yield server_of


def new_app(settings: Settings) -> FastAPI:
    """Create an app that leaves the logging to pytest; `running` starts it."""
    from app.main import create_app  # importing it takes longer than many a unit test

    with _logging_kept():
        return create_app(settings)


@contextmanager
def _logging_kept() -> Iterator[None]:
    """Undo what an app does to the process's logging: pytest listens there."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """What this run of the test stands on."""
    return Backend(request.param)


@pytest.fixture
def version(backend: Backend) -> str:
    """One version on each backend: they are faces of the same handlers."""
    return "v1" if backend is Backend.PRODUCTION else "v2"


@pytest.fixture
def clean_database(backend: Backend, foundation: Foundation, tmp_path: Path) -> Iterator[Place]:
    """An empty database for this test alone; `settings`, `app`, `client` and `server` use it."""
    with fresh_place(backend, foundation, tmp_path, redis_offset=1) as place:
        yield place


@pytest.fixture
def lent_place(request: pytest.FixtureRequest, backend: Backend) -> Place:
    """Where this test's apps keep what they store."""
    if "clean_database" in request.fixturenames:
        own_place: Place = request.getfixturevalue("clean_database")
        return own_place
    shared_place: Callable[[Backend], Place] = request.getfixturevalue("shared_place")
    return shared_place(backend)


@pytest.fixture
def make_settings(lent_place: Place) -> MakeSettings:
    """Make settings on the test's backend, with some of them changed."""
    return partial(settings_in, lent_place)


def settings_in(place: Place, **overrides: Any) -> Settings:
    """Return the usual settings of the tests, with some of them changed."""
    values: dict[str, Any] = {
        "environment": "test",
        "database_url": place.database_url,
        "redis_url": place.redis_url,
        "data_dir": place.data_dir,
        "secret_key": SECRET_KEY,
        "rate_limits_enabled": False,
        "run_jobs": "inline",
        # A machine that is busy with tests answers late, and no test is about that.
        "redis_timeout": 30.0,
        "database_pool_timeout": PATIENCE,
        "database_statement_timeout": PATIENCE,
        # The receivers of the tests are here, and have no days.
        "webhooks_allow_private": True,
        "webhooks_wait_scale": 0.001,
    }
    return Settings(_env_file=None, **(values | overrides))


# To look for every setting in every source takes 2 ms, and nearly all tests want the usual ones.
_usual_settings = lru_cache(maxsize=8)(settings_in)


@pytest.fixture
def settings(lent_place: Place) -> Settings:
    """The settings of `app`: this backend, no rate limits."""
    return _usual_settings(lent_place)


@pytest.fixture
async def app(
    settings: Settings,
    shared_app: Callable[[Settings], Awaitable[FastAPI]],
    request: pytest.FixtureRequest,
) -> AsyncIterator[FastAPI]:
    """The service, started."""
    if "clean_database" in request.fixturenames:
        async with running(new_app(settings)) as own_app:
            yield own_app
    else:
        yield await shared_app(settings)


@pytest.fixture
async def client(app: FastAPI, make_client: MakeClient) -> httpx.AsyncClient:
    """A client of the service without a network between."""
    return make_client(app)


@pytest.fixture
async def server(
    app: FastAPI,
    shared_server: Callable[[FastAPI], Awaitable[LiveServer]],
    request: pytest.FixtureRequest,
) -> AsyncIterator[LiveServer]:
    """The service behind a real socket: `.url`, `.ws_url`, `.client()`."""
    if "clean_database" in request.fixturenames:
        async with serving(app) as own_server:
            yield own_server
    else:
        yield await shared_server(app)


@pytest.fixture
async def make_app(make_settings: MakeSettings) -> AsyncIterator[MakeApp]:
    """Start another app on the test's database: `await make_app(rate_limits_enabled=True)`."""
    async with AsyncExitStack() as stack:

        async def make(**overrides: Any) -> FastAPI:
            app = new_app(make_settings(**overrides))
            return await stack.enter_async_context(running(app))

        yield make


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    """Make a client of an app: `make_client(app, address="203.0.113.7", headers=…)`."""
    async with AsyncExitStack() as stack:

        def make(app: FastAPI, *, address: str = "127.0.0.1", **options: Any) -> httpx.AsyncClient:
            transport = httpx.ASGITransport(app, client=(address, 50_000))
            client = httpx.AsyncClient(transport=transport, base_url="http://testserver", **options)
            stack.push_async_callback(client.aclose)
            return client

        yield make
