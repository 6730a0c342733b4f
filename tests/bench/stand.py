"""What a measurement stands on: the servers, their data, and the services beside each other."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import asyncpg

from tests.backends import fresh_database
from tests.bench.cases import ITEMS, USERS
from tests.processes import Service, gunicorn
from tests.services import find_postgres, find_redis, start_postgres, start_redis


@dataclass(frozen=True)
class Stand:
    """The service and its floors, running on the same PostgreSQL and Redis."""

    ours: Service
    bare: Service
    hello: Service
    environment: Mapping[str, str]

    def restore(self) -> int:
        """Take away the items created, so that every round lists as many, and return how many."""
        return asyncio.run(_forget_items_after(ITEMS, self.environment["DATABASE_URL"]))


def build(stack: ExitStack) -> Stand:
    """Start everything, and let the stack end it."""
    environment = seeded(stack)
    return Stand(
        ours=stack.enter_context(gunicorn("kingpost", "app.main:app", environment)),
        bare=stack.enter_context(gunicorn("bare", "tests.bench.floor:bare", environment)),
        hello=stack.enter_context(gunicorn("hello", "tests.bench.floor:hello", environment)),
        environment=environment,
    )


def seeded(stack: ExitStack) -> dict[str, str]:
    """Start PostgreSQL and Redis, fill them, and return the variables of a production on them."""
    postgres, redis = start_postgres(), start_redis()
    stack.callback(postgres.stop)
    stack.callback(redis.stop)
    environment = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DATABASE_URL": stack.enter_context(fresh_database(postgres.url)),
        "REDIS_URL": redis.url,
        "LOG_FORMAT": "json",
        # On, and counted, but never reached.
        "RATE_LIMIT_DEFAULT": "100000000/minute",
        "RATE_LIMIT_LOGIN": "1000000/minute",
    }
    size = ("--users", str(USERS), "--items", str(ITEMS))
    for command in (("migrate",), ("seed", "--in-production", *size)):
        subprocess.run(
            [sys.executable, "-m", "app.cli", *command],
            env={**os.environ, **environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return environment


def start_seconds(stand: Stand) -> float:
    """Return how long the service takes to its first 200, as the median of three starts."""
    found = []
    for _ in range(3):
        with gunicorn("kingpost again", "app.main:app", stand.environment) as again:
            found.append(again.start_seconds)
    return median(found)


def servers() -> list[str]:
    """Return the names and versions of PostgreSQL and Redis, as their programs give them."""
    postgres = _said_by(find_postgres() / "postgres").split()[2]
    redis = _said_by(find_redis()).partition("v=")[2].split()[0]
    return [f"PostgreSQL {postgres}", f"Redis {redis}"]


def _said_by(program: Path) -> str:
    command = [str(program), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def _forget_items_after(last_id: int, url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        done = await connection.execute("DELETE FROM items WHERE id > $1", last_id)
        await connection.execute("VACUUM (ANALYZE) items")
    finally:
        await connection.close()
    return int(done.removeprefix("DELETE "))
