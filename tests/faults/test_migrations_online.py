"""Each migration runs while the code before it goes on: nothing fails, nobody waits for long."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest
from alembic import command

from tests.backends import Foundation, fresh_database, run_alembic
from tests.unit.test_migrations import revisions

pytestmark = pytest.mark.system

ROWS = 20_000
LONGEST = 2.0  # seconds; promised: one, of a machine at rest
CLIENTS = 4
PEOPLE = """
    INSERT INTO users (email, email_key, username, username_key, password_hash, roles,
                       created_at, updated_at)
    SELECT n || '@example.com', n || '@example.com', 'user' || n, 'user' || n, 'x', '{user}', now(),
           now()
      FROM generate_series(1, 200) n
"""
THINGS = """
    INSERT INTO items (owner_id, name, description, price_cents, tags, visibility, metadata,
                       created_at, updated_at, search_text)
    SELECT 1 + n % 200, 'Item ' || n, repeat('Something to say. ', 10), 1 + n, '{}', 'public',
           '{}', now(), now(), 'item'
      FROM generate_series(1, $1::int) n
"""
COLUMNS = """
    SELECT table_name, string_agg(quote_ident(column_name), ', ') FILTER (WHERE column_name <> 'id')
      FROM information_schema.columns
     WHERE table_schema = 'public' AND table_name <> 'alembic_version'
     GROUP BY table_name
"""


@dataclass
class Seen:
    """What the code of the schema before went through."""

    statements: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)


@pytest.fixture
def url(foundation: Foundation) -> Iterator[str]:
    with fresh_database(foundation.postgres_url) as empty:
        yield empty


async def statements_of(url: str) -> list[str]:
    """Return what code of the schema of now would say: every column by its name."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(COLUMNS)
    finally:
        await connection.close()
    columns = dict(map(tuple, tables))
    return [
        *(f"SELECT {each or 'id'} FROM {table} LIMIT 20" for table, each in columns.items()),
        f"INSERT INTO items ({columns['items']}) SELECT {columns['items']} FROM items WHERE id = 1",
        "UPDATE items SET updated_at = now() WHERE id = 7",
        "UPDATE users SET updated_at = now() WHERE id = 7",
    ]


@asynccontextmanager
async def old_code(url: str) -> AsyncIterator[Seen]:
    """Go on saying what code of the schema of now says, while the block changes the schema."""
    seen, stop = Seen(), asyncio.Event()
    statements = await statements_of(url)
    loop = asyncio.get_running_loop()

    async def go_on() -> None:
        connection = await asyncpg.connect(url)
        try:
            while not stop.is_set():
                for statement in statements:
                    started = loop.time()
                    try:
                        await connection.execute(statement)
                    except asyncpg.PostgresError as error:
                        seen.failures.append(f"{type(error).__name__}: {error}")
                    seen.slowest = max(seen.slowest, loop.time() - started)
                    seen.statements += 1
                await asyncio.sleep(0.01)
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(go_on())
        try:
            await asyncio.sleep(0.3)
            yield seen
            await asyncio.sleep(0.3)
        finally:
            stop.set()


async def run(url: str, *statements: str, rows: int | None = None) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement, *([rows] if rows is not None else []))
    finally:
        await connection.close()


async def test_each_migration_runs_beside_the_code_before_it(url: str) -> None:
    first, *later = revisions()
    run_alembic(command.upgrade, url, first)
    await run(url, PEOPLE)
    await run(url, THINGS, rows=ROWS)
    for revision in later:
        async with old_code(url) as seen:
            await asyncio.to_thread(run_alembic, command.upgrade, url, revision)
        assert not seen.failures, f"{revision}: {set(seen.failures)}"
        assert seen.slowest < LONGEST, revision
        assert seen.statements > 50


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE items DROP COLUMN description", "UndefinedColumn"),
        (
            "ALTER TABLE items ADD COLUMN needed int; UPDATE items SET needed = 1; "
            "ALTER TABLE items ALTER COLUMN needed SET NOT NULL",
            "NotNullViolation",
        ),
        ("BEGIN; LOCK TABLE items; SELECT pg_sleep(2.5); COMMIT", ""),
    ],
)
async def test_a_migration_that_is_not_additive_or_locks_for_long_is_noticed(
    url: str, change: str, said: str
) -> None:
    run_alembic(command.upgrade, url, revisions()[0])
    await run(url, PEOPLE)
    await run(url, THINGS, rows=10)
    async with old_code(url) as seen:
        await run(url, change)
    if said:
        assert any(said in failure for failure in seen.failures), seen
    else:
        assert seen.slowest >= LONGEST


async def test_a_migration_that_has_to_wait_makes_nobody_wait_behind_it(url: str) -> None:
    first, *_, last = revisions()
    run_alembic(command.upgrade, url, first)
    await run(url, PEOPLE)
    await run(url, THINGS, rows=10)
    holder = await asyncpg.connect(url)
    try:
        async with old_code(url) as seen:
            await holder.execute("BEGIN; UPDATE users SET version = 2 WHERE id = 8")
            migrating = asyncio.create_task(
                asyncio.to_thread(run_alembic, command.upgrade, url, "head")
            )
            await asyncio.sleep(4)
            assert not migrating.done()
            await holder.execute("COMMIT")
            await migrating
        assert not seen.failures
        assert seen.slowest < LONGEST
        assert await holder.fetchval("SELECT version_num FROM alembic_version") == last
    finally:
        await holder.close()
