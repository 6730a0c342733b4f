"""Exports and imports beside what the database alone can do, and lists of a million items.

The floor of an export is `COPY … TO STDOUT` of the same columns to a bare driver; that of an import
is `INSERT … SELECT` of the same rows and events into the same tables with all their indexes.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack

import asyncpg
import httpx

from tests.backends import fresh_database
from tests.bench import report
from tests.bench.stand import servers
from tests.factories import Tokens, expect, new_user
from tests.processes import Service, gunicorn
from tests.services import start_postgres, start_redis

_ITEMS = """
    SELECT id, owner_id, name, description, price_cents, discount_basis_points, tags, visibility,
           display_name, metadata, version, created_at, updated_at, deleted_at
      FROM items WHERE owner_id = $1 AND deleted_at IS NULL ORDER BY id
"""
# What an import of the same lines writes, with no line read and nothing checked.
_FILL = (
    """
    INSERT INTO items (owner_id, name, description, price_cents, tags, visibility, metadata,
                       created_at, updated_at, search_text)
    SELECT owner_id, name, description, price_cents, tags, visibility, metadata, created_at,
           updated_at, search_text
      FROM items WHERE owner_id = $1
    """,
    """
    INSERT INTO events (kind, subject, subject_id, owner_id, audience, data, created_at)
    SELECT kind, subject, subject_id, owner_id, audience, data, created_at
      FROM events WHERE owner_id = $1 AND kind = 'item.created'
    """,
)
# A million items that anyone may read, one in 500 with a tag and one in 1,000 with a word.
_MANY = 1_000_000
_READS = 300
_GROW = """
    INSERT INTO items (owner_id, name, price_cents, tags, visibility, metadata, created_at,
                       updated_at, search_text)
    SELECT $1, 'Item ' || md5(n::text), 100 + n::bigint * 7919 % 1000000,
           ARRAY['tag' || n % 500, 'common'], 'public', '{}', now() - n * interval '1 second',
           now(), 'item common word' || n % 1000
      FROM generate_series(1, $2::int) n
"""
_LINE = '{"name":"Item %d","description":"%s","price":%d.5,"tags":["office","wood"]}\n'
_WORDS = "Solid oak, oiled, with a drawer on either side. "


def main() -> None:
    """Measure and print; with `--write`, put the table into the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bulk", description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        postgres, redis = start_postgres(), start_redis()
        stack.callback(postgres.stop)
        stack.callback(redis.stop)
        url = stack.enter_context(fresh_database(postgres.url))
        environment = {
            "ENVIRONMENT": "production",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "DATABASE_URL": url,
            "REDIS_URL": redis.url,
            "RUN_JOBS": "inline",
            "DATA_DIR": stack.enter_context(tempfile.TemporaryDirectory()),
            "RATE_LIMITS_ENABLED": "false",
        }
        subprocess.run(
            [sys.executable, "-m", "app.cli", "migrate"],
            env={**os.environ, **environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        service = stack.enter_context(gunicorn("kingpost", "app.main:app", environment, workers=1))
        table = asyncio.run(_measure(service, url, options.lines))
    text = f"Measured {report.machine(load, servers())}\n\n{table}"
    print(text)
    if options.write:
        report.write(text, "bulk")


async def _measure(service: Service, url: str, count: int) -> str:
    rows = [
        f"| {count:,} lines | lines/s | server CPU µs a line | the database alone, lines/s |",
        "|---|---|---|---|",
    ]
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{service.port}", timeout=3600
    ) as client:
        owner = await new_user(client)
        await _import(client, owner, 2000, "false")

        async def timed(name: str, work: Callable[[], Awaitable[object]], floor: float) -> None:
            started, cpu = time.perf_counter(), service.cpu_seconds()
            await work()
            seconds = time.perf_counter() - started
            micros = (service.cpu_seconds() - cpu) / count * 1e6
            rows.append(f"| {name} | {count / seconds:,.0f} | {micros:,.0f} | {floor:,.0f} |")

        other = await new_user(client)
        await timed("import, NDJSON", lambda: _import(client, other, count, "false"), 0)
        into = await _seconds(url, _write, other.account.id)
        rows[-1] = rows[-1].replace("| 0 |", f"| {count / into:,.0f} |")
        third = await new_user(client)
        await timed(
            "import, NDJSON, atomic", lambda: _import(client, third, count, "true"), count / into
        )
        out = await _seconds(url, _read, third.account.id)
        for name, text_format, coding in (
            ("export, NDJSON", "ndjson", "identity"),
            ("export, NDJSON, gzip", "ndjson", "gzip"),
            ("export, CSV", "csv", "identity"),
        ):
            await timed(
                name,
                lambda f=text_format, c=coding: _export(client, third, f, c),  # type: ignore[misc]
                count / out,
            )
        rows += await _lists(service, client, url, owner)
    return "\n".join(rows)


async def _lists(service: Service, client: httpx.AsyncClient, url: str, owner: Tokens) -> list[str]:
    """Measure what lists of a million items cost, the first page and the 10,000th."""
    connection = await asyncpg.connect(url)
    await connection.execute(_GROW, owner.account.id, _MANY, timeout=3600)
    await connection.execute("VACUUM ANALYZE items", timeout=3600)
    await connection.close()
    rows = [
        "",
        f"| of {_MANY:,} items, v2 | server CPU µs | median ms |",
        "|---|---|---|",
    ]
    for name, query in {
        "first page of 20": "",
        "page 10,000, by cursor": f"cursor={await _cursor_of_page(client, 10_000)}",
        "by name, first page": "sort=name",
        "one word of 1,000": "q=word77",
        "one tag of 500": "tag=tag77",
        "price in a range": "min_price=5000&max_price=5001",
    }.items():
        taken, cpu = [], service.cpu_seconds()
        for _ in range(_READS):
            started = time.perf_counter()
            expect(await client.get(f"/api/v2/items?{query}"), 200)
            taken.append(time.perf_counter() - started)
        micros = (service.cpu_seconds() - cpu) / _READS * 1e6
        rows.append(f"| {name} | {micros:,.0f} | {statistics.median(taken) * 1000:.1f} |")
    return rows


async def _cursor_of_page(client: httpx.AsyncClient, number: int) -> str:
    """Walk there by large pages: a cursor names a place, however somebody came to it."""
    cursor = ""
    for _ in range((number - 1) * 20 // 100):
        page = expect(await client.get(f"/api/v2/items?limit=100{cursor}"), 200)
        cursor = f"&cursor={page['nextCursor']}"
    return cursor.removeprefix("&cursor=")


async def _seconds(
    url: str, work: Callable[[asyncpg.Connection, int], Awaitable[None]], owner_id: int
) -> float:
    connection = await asyncpg.connect(url)
    try:
        started = time.perf_counter()
        await work(connection, owner_id)
        return time.perf_counter() - started
    finally:
        await connection.close()


async def _read(connection: asyncpg.Connection, owner_id: int) -> None:
    async def drop(_data: bytes) -> None:
        return

    await connection.copy_from_query(_ITEMS, owner_id, output=drop)


async def _write(connection: asyncpg.Connection, owner_id: int) -> None:
    for statement in _FILL:
        await connection.execute(statement, owner_id, timeout=3600)


async def _lines(count: int) -> AsyncIterator[bytes]:
    for start in range(0, count, 1000):
        numbers = range(start, min(start + 1000, count))
        yield "".join([_LINE % (number, _WORDS * 4, number) for number in numbers]).encode()


async def _import(client: httpx.AsyncClient, owner: Tokens, count: int, atomic: str) -> None:
    headers = owner.headers | {"Content-Type": "application/x-ndjson"}
    answer = await client.post(
        "/api/v1/items/import", content=_lines(count), params={"atomic": atomic}, headers=headers
    )
    url = f"/api/v1/jobs/{expect(answer, 202)['id']}"
    while (await client.get(url, headers=owner.headers)).json()["status"] in ("queued", "running"):
        await asyncio.sleep(0.05)


async def _export(client: httpx.AsyncClient, owner: Tokens, text_format: str, coding: str) -> None:
    params: dict[str, str | int] = {"owner_id": owner.account.id, "format": text_format}
    headers = {"Accept-Encoding": coding}
    url = "/api/v1/items/export"
    async with client.stream("GET", url, params=params, headers=headers) as answer:
        async for _ in answer.aiter_raw():
            pass


if __name__ == "__main__":
    main()
