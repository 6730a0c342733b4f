"""What the tests run on: the embedded parts, or PostgreSQL and Redis; migrated once, then copied.

A run has one `Foundation`: the servers and a migrated, empty database of each kind. Every worker
of pytest-xdist takes its own copies from it, so that nothing is shared between two tests that run
at the same time.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from alembic.command import upgrade
from alembic.config import Config
from redis import Redis

from tests.services import start_postgres, start_redis

ROOT = Path(__file__).resolve().parents[1]

T = TypeVar("T")


class Backend(StrEnum):
    """The two ways to run the service; every API test runs on both unless it says otherwise."""

    EMBEDDED = "embedded"
    PRODUCTION = "production"


@dataclass(frozen=True)
class Foundation:
    """What one worker copies from; plain strings and numbers, which xdist can hand over."""

    postgres_url: str  # of the maintenance database
    template: str  # the migrated database on that server
    redis_url: str
    redis_number: int  # this logical database and the next are the worker's own
    sqlite: str  # path of the migrated file


@dataclass(frozen=True)
class Place:
    """Where one app keeps what it stores."""

    database_url: str | None
    redis_url: str | None
    data_dir: Path


class Run:
    """The servers and templates of one test run; closed at its end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._workers = 0
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="kingpost-tests-"))
            self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._postgres_url = self._open_postgres()
            self._template = f"kingpost_template_{secrets.token_hex(4)}"
            self._stack.callback(drop_database, self._postgres_url, self._template)
            create_database(self._postgres_url, self._template)
            run_alembic(upgrade, database_url(self._postgres_url, self._template), "head")
            self._sqlite = self._folder / "template.db"
            run_alembic(upgrade, f"sqlite:///{self._sqlite}", "head")
        except BaseException:
            self._stack.close()
            raise

    def _open_postgres(self) -> str:
        url = os.environ.get("TEST_DATABASE_URL")
        if not url:
            server = start_postgres()
            self._stack.callback(server.stop)
            url = server.url
        return url

    def foundation(self) -> Foundation:
        """Return what the next worker builds on.

        Each worker has a Redis process of its own where we start them: publish and subscribe know
        no logical databases, so one worker's messages would reach another's sockets.
        """
        url, number = os.environ.get("TEST_REDIS_URL"), 2 * self._workers
        if not url:
            server = start_redis()
            self._stack.callback(server.stop)
            url, number = server.url, 0
        self._workers += 1
        return Foundation(self._postgres_url, self._template, url, number, str(self._sqlite))

    def close(self) -> None:
        """Stop what was started, remove what was made."""
        self._stack.close()


@contextmanager
def fresh_place(
    backend: Backend, foundation: Foundation, data_dir: Path, *, redis_offset: int = 0
) -> Iterator[Place]:
    """Lend an empty, migrated place, about 10 ms after being asked."""
    if backend is Backend.EMBEDDED:
        shutil.copyfile(foundation.sqlite, data_dir / "kingpost.db")
        yield Place(None, None, data_dir)
        return
    redis_url = urlunsplit(
        urlsplit(foundation.redis_url)._replace(path=f"/{foundation.redis_number + redis_offset}")
    )
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()
    with fresh_database(foundation.postgres_url, foundation.template) as database:
        yield Place(database, redis_url, data_dir)


@contextmanager
def places(
    foundation: Foundation, folder_of: Callable[[str], Path], *, redis_offset: int = 0
) -> Iterator[Callable[[Backend], Place]]:
    """Lend what returns a backend's place, which is made when it is first asked for."""
    made: dict[Backend, Place] = {}
    with ExitStack() as stack:

        def place_of(backend: Backend) -> Place:
            if backend not in made:
                place = fresh_place(
                    backend, foundation, folder_of(backend), redis_offset=redis_offset
                )
                made[backend] = stack.enter_context(place)
            return made[backend]

        yield place_of


@contextmanager
def fresh_database(server_url: str, template: str = "template0") -> Iterator[str]:
    """Lend the URL of a copy of a database; empty where no other template is named."""
    name = f"kingpost_test_{secrets.token_hex(6)}"
    create_database(server_url, name, template=template)
    try:
        yield database_url(server_url, name)
    finally:
        drop_database(server_url, name)


def database_url(server_url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def create_database(server_url: str, name: str, *, template: str = "template0") -> None:
    """Make a database as a copy of another one."""
    run_statement(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


def drop_database(server_url: str, name: str) -> None:
    """Remove a database and close whatever is still connected to it."""
    run_statement(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def run_statement(url: str, statement: str) -> None:
    """Run one statement outside a transaction."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    run_aside(run())


def run_alembic(command: Callable[..., Any], url: str, *arguments: str) -> None:
    """Run one of Alembic's commands on a database."""
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = async_url(url)
    with ThreadPoolExecutor(1) as thread:  # migrations/env.py runs a loop of its own
        thread.submit(command, config, *arguments).result()


def async_url(url: str) -> str:
    """Name the drivers that the service uses."""
    scheme, separator, rest = url.partition("://")
    postgres = "postgresql+asyncpg"
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": postgres, "postgres": postgres}
    return f"{drivers.get(scheme, scheme)}{separator}{rest}"


def run_aside(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop and thread of its own, from wherever we are."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
