"""Everything that the service does, by 50 clients at once, through 5 connections of PgBouncer.

In transaction mode each transaction may run on another server connection, so nothing may be left
on one: no prepared statement, no session's lock, setting or listener.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from app.adapters.database import Database
from app.settings import Settings
from tests.api.imports import ndjson
from tests.api.test_production_start import environment
from tests.backends import Foundation, fresh_database
from tests.conftest import MakeSettings
from tests.factories import Tokens, new_user
from tests.faults.bouncer import pgbouncer
from tests.faults.conftest import Production, producing
from tests.faults.listeners import Listener, follow_socket, follow_stream

pytestmark = [pytest.mark.system, pytest.mark.only("production")]

CLIENTS = 50
ROUNDS = 2  # each client does every chore so often
CONNECTIONS = 5
ARRIVAL_SECONDS = 30.0  # after the last change; the machine may be busy with other tests
_TIMEOUTS = ("statement_timeout", "idle_in_transaction_session_timeout")
_UNDER_WAY = ("queued", "running")
_PUBLISHED = "SELECT id FROM events WHERE subject = 'item' ORDER BY id"


@dataclass
class Caller:
    """One client of the load: whose account it uses, and what it was answered."""

    client: httpx.AsyncClient
    tokens: Tokens
    refused: Counter[str] = field(default_factory=Counter)

    async def ask(self, method: str, path: str, *statuses: int, **options: Any) -> httpx.Response:
        """Send a request as this account; note an answer with another status."""
        options["headers"] = {**self.tokens.headers, **options.get("headers", {})}
        answer = await self.client.request(method, path, **options)
        if answer.status_code not in statuses:
            self.refused[f"{method} {path} {answer.status_code} {answer.text[:300]}"] += 1
            raise Refused
        return answer

    async def in_turn(self, method: str, path: str, status: int, **options: Any) -> httpx.Response:
        """Send a request; where too many do the same, come back."""
        while True:
            answer = await self.ask(method, path, status, 429, 503, **options)
            if answer.status_code == status:
                return answer
            if "TOO_MANY_" not in answer.text:
                self.refused[f"{method} {path} {answer.status_code} {answer.text[:300]}"] += 1
                raise Refused
            await asyncio.sleep(random.random())

    async def create(self, **headers: str) -> httpx.Response:
        """Create an item."""
        body = {"name": f"Oak {uuid4().hex}", "price": 1, "tags": ["pooled"]}
        return await self.ask("POST", "/api/v1/items", 201, json=body, headers=headers)


class Refused(Exception):
    """An answer was not what it should be; it is noted."""


async def change_once(caller: Caller) -> None:
    """Read what was created, and change it by `If-Match`: the second time it has moved on."""
    made = await caller.create()
    path = f"/api/v1/items/{made.json()['id']}"
    read = await caller.ask("GET", path, 200)
    match = {"If-Match": read.headers["etag"]}
    await caller.ask("PATCH", path, 200, json={"price": 2}, headers=match)
    await caller.ask("PATCH", path, 412, json={"price": 3}, headers=match)


async def create_by_key(caller: Caller) -> None:
    """Create twice at once by one key: it is one item."""
    body = {"name": f"Keyed {uuid4().hex}", "price": 1}
    options: dict[str, Any] = {"json": body, "headers": {"Idempotency-Key": uuid4().hex}}
    answers = await asyncio.gather(
        *(caller.ask("POST", "/api/v1/items", 201, **options) for _ in range(2))
    )
    if len({answer.json()["id"] for answer in answers}) != 1:
        caller.refused["two items by one key"] += 1


async def look_through(caller: Caller) -> None:
    """Walk by cursor, and search by a word and a tag."""
    answer = await caller.ask("GET", "/api/v2/items?limit=5&sort=-price", 200)
    for _ in range(3):
        if "next" in answer.links:
            answer = await caller.ask("GET", answer.links["next"]["url"], 200)
    await caller.ask("GET", "/api/v2/items?q=oak&limit=5", 200)
    await caller.ask("GET", "/api/v1/items?tag=pooled&q=oak&limit=5", 200)


async def change_in_bulk(caller: Caller) -> None:
    """Create five at once."""
    operations = [{"op": "create", "item": {"name": f"Bulk {n}", "price": 1}} for n in range(5)]
    for atomic in ("true", "false"):
        url = f"/api/v1/items/bulk?atomic={atomic}"
        await caller.ask("POST", url, 200, json={"operations": operations})


async def take_all_out(caller: Caller) -> None:
    """Export, by a snapshot and its cursor; where too many do, come back."""
    url = f"/api/v1/items/export?owner_id={caller.tokens.account.id}"
    async with asyncio.timeout(240):
        await caller.in_turn("GET", url, 200)


async def bring_in(caller: Caller) -> None:
    """Import ten lines by a job, half of the time all or nothing."""
    atomic = random.choice(("true", "false"))
    body = ndjson(*({"name": f"Line {n}", "price": 1} for n in range(10)))
    kind = {"Content-Type": "application/x-ndjson"}
    url = f"/api/v1/items/import?atomic={atomic}"
    async with asyncio.timeout(240):  # all of them import at once, and others use the machine
        sent = await caller.in_turn("POST", url, 202, content=body, headers=kind)
        url = f"/api/v1/jobs/{sent.json()['id']}"
        while (job := (await caller.ask("GET", url, 200)).json())["status"] in _UNDER_WAY:
            await asyncio.sleep(0.3)
    if job["status"] != "succeeded" or job["result"]["accepted"] != 10:
        caller.refused[f"job {job}"] += 1


CHORES: tuple[Callable[[Caller], Awaitable[None]], ...] = (
    change_once,
    create_by_key,
    look_through,
    change_in_bulk,
    take_all_out,
    bring_in,
)


async def load(production: Production, accounts: list[Tokens]) -> Counter[str]:
    """Do every chore by every client, in an order of its own; return what went wrong."""
    refused: Counter[str] = Counter()

    async def work(number: int) -> None:
        async with httpx.AsyncClient(base_url=production.url, timeout=60) as client:
            caller = Caller(client, accounts[number % len(accounts)], refused)
            for chore in random.sample(CHORES * ROUNDS, k=len(CHORES) * ROUNDS):
                with contextlib.suppress(Refused):
                    await chore(caller)

    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(work(number))
    return refused


def variables_of(url: str, **more: str) -> dict[str, Any]:
    """Return the variables of a production on a database, patient enough for a busy machine."""
    return {
        "DATABASE_URL": url,
        "RUN_JOBS": "inline",
        "DATABASE_POOL_TIMEOUT": "30",
        "DATABASE_STATEMENT_TIMEOUT": "30",
        **more,
    }


def migrate_at_once(settings: Settings, variables: dict[str, Any], *, processes: int) -> list[str]:
    """Migrate by several processes at once; return what those said that failed."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "app.cli", "migrate"],
            env={**os.environ, **environment(settings), **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    said = [process.communicate(timeout=120)[1] for process in running]
    return [text for text, process in zip(said, running, strict=True) if process.returncode]


@pytest.fixture
def empty_database(foundation: Foundation) -> Iterator[str]:
    """A database without a table."""
    with fresh_database(foundation.postgres_url) as url:
        yield url


async def left_on_servers(url: str) -> tuple[int, int]:
    """Return how many prepared statements and locks lie on the server connections, over all."""

    async def look() -> tuple[int, int, int]:
        connection = await asyncpg.connect(url, statement_cache_size=0)
        try:
            async with connection.transaction():
                await connection.execute("SELECT pg_sleep(0.2)")  # so that each has another one
                row = await connection.fetchrow(_LEFT)
                return tuple(row)
        finally:
            await connection.close()

    found = set(await asyncio.gather(*(look() for _ in range(CONNECTIONS))))
    assert len(found) == CONNECTIONS
    return sum(row[1] for row in found), sum(row[2] for row in found)


_LEFT = """
    SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements WHERE name <> ''),
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
"""


async def test_fifty_clients_do_everything_through_five_connections(
    settings: Settings, empty_database: str
) -> None:
    with pgbouncer(empty_database, connections=CONNECTIONS) as url:
        variables = variables_of(url, DATABASE_PGBOUNCER="true")
        assert await asyncio.to_thread(migrate_at_once, settings, variables, processes=3) == []
        async with producing(settings, **variables) as production:
            async with production.client() as client:
                accounts = [await new_user(client) for _ in range(5)]
            async with following(production, accounts[0]) as following_it:
                refused = await load(production, accounts)
                published = await item_events(empty_database)
                for listener in following_it:
                    await arrived(listener, published)
            assert refused == Counter()
            assert "prepared statement" not in production.service.log()
        assert await left_on_servers(url) == (0, 0)


async def item_events(url: str) -> list[int]:
    """Return the ids of the events of items: the truth."""
    connection = await asyncpg.connect(url)
    try:
        return [row["id"] for row in await connection.fetch(_PUBLISHED)]
    finally:
        await connection.close()


async def arrived(listener: Listener, published: list[int]) -> None:
    """Wait until a listener has come to the end, and see that it has all, once and in order."""
    with contextlib.suppress(TimeoutError):  # then what is missing is told below
        async with asyncio.timeout(ARRIVAL_SECONDS):
            while listener.position("items") < published[-1]:
                await asyncio.sleep(0.05)
    assert listener.refusals == []
    assert listener.received["items"] == published


@contextlib.asynccontextmanager
async def following(production: Production, tokens: Tokens) -> AsyncIterator[list[Listener]]:
    """Follow the items by two streams and two sockets while the block runs."""
    clients = [Listener(production.url, tokens, ("items",), 0, turns=1000) for _ in range(4)]
    kinds = (follow_stream, follow_stream, follow_socket, follow_socket)
    tasks = [
        asyncio.create_task(follow(listener))
        for follow, listener in zip(kinds, clients, strict=True)
    ]
    try:
        yield clients
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("is_set", [True, False])
async def test_two_processes_meet_on_a_server_connection(
    make_settings: MakeSettings, foundation: Foundation, *, is_set: bool
) -> None:
    options = {"ignore_startup_parameters": ",".join(("jit", "random_page_cost", *_TIMEOUTS))}
    with pgbouncer(foundation.postgres_url, connections=2, **options) as url:
        settings = make_settings(database_url=url, database_pgbouncer=is_set)
        databases = [Database(settings) for _ in range(2)]
        failed = await asyncio.gather(
            *(ask_something(databases[n % 2], n) for n in range(100)), return_exceptions=True
        )
        for database in databases:
            await database.close()
        kinds = {type(each).__name__ for each in failed if each is not None}
        assert bool(kinds) is not is_set, kinds


async def ask_something(database: Database, number: int) -> None:
    """Run one of seven statements by itself, and in a transaction."""
    statement = text(f"SELECT {number % 7}, CAST(:given AS integer)")
    for lend in (database.read, database.transaction):
        async with lend() as connection:
            row = (await connection.execute(statement, {"given": number})).one()
        assert tuple(row) == (number % 7, number)
