"""What workers cost that have nothing to do: their polls, and their wake-ups by others' changes."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from statistics import median

import asyncpg
from redis import Redis

from tests.bench.sockets import sign_in
from tests.processes import Service, gunicorn

_WORKERS = 4
_SECONDS = 20.0
_RATE = 10  # changes a second
_START_SECONDS = 60.0


@dataclass(frozen=True)
class _Counters:
    """What has been spent so far."""

    moment: float
    cpu: list[float]  # seconds, of each worker
    statements: int
    commands: int


def table(environment: Mapping[str, str]) -> str:
    """Measure a group of workers at rest, and while changes made by one of them wake the others."""
    with gunicorn("many", "app.main:app", environment, workers=_WORKERS) as service:
        _wait_for_all(service)
        token = sign_in(service, 1)
        connection = HTTPConnection("127.0.0.1", service.port)  # kept: all go to one worker
        item = _asked(connection, "POST", "/api/v1/items", {"name": "Desk", "price": 1}, token)

        def change() -> None:
            started = time.monotonic()
            for number in range(int(_SECONDS * _RATE)):
                time.sleep(max(0.0, started + number / _RATE - time.monotonic()))
                _asked(connection, "PATCH", f"/api/v1/items/{item}", {"price": number + 2}, token)

        rows = [
            f"| {_WORKERS} workers, one of which takes the changes: each of the others"
            " | CPU of one core | statements a second | Redis commands a second |",
            "|---|---|---|---|",
            "| nothing happens | " + _spent(service, environment, lambda: time.sleep(_SECONDS)),
            f"| {_RATE} changes a second | " + _spent(service, environment, change),
        ]
        connection.close()
    return "\n".join(rows)


def _spent(service: Service, environment: Mapping[str, str], work: Callable[[], None]) -> str:
    before = _counters(service, environment)
    work()
    after = _counters(service, environment)
    seconds = after.moment - before.moment
    cpu = median(b - a for a, b in zip(before.cpu, after.cpu, strict=True)) / seconds
    each = seconds * _WORKERS
    statements = (after.statements - before.statements) / each
    commands = (after.commands - before.commands) / each
    return f"{cpu:.2%} | {statements:.1f} | {commands:.1f} |"


def _counters(service: Service, environment: Mapping[str, str]) -> _Counters:
    statements = asyncio.run(_statements(environment["DATABASE_URL"]))
    with Redis.from_url(environment["REDIS_URL"]) as redis:
        commands = int(redis.info("stats")["total_commands_processed"])
    return _Counters(time.monotonic(), service.cpu_of_each(), statements, commands)


async def _statements(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetchval(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
    finally:
        await connection.close()
    return int(found)


def _wait_for_all(service: Service) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while service.log().count("ready: ") < _WORKERS:
        if time.monotonic() > deadline:
            raise RuntimeError("not all workers started")
        time.sleep(0.1)


def _asked(connection: HTTPConnection, method: str, path: str, body: object, token: str) -> int:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    connection.request(method, path, json.dumps(body), headers)
    answer = connection.getresponse()
    made = json.loads(answer.read())
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path}: {answer.status} {made}")
    return int(made["id"])
