"""Lists at size: every filter, search and sort is served by an index, and no page costs more.

Read from PostgreSQL's own account of the statements that the API really ran.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adapters.driver import fetch
from app.dependencies.items import CursorQuery, write_cursor
from app.models.items import Item
from app.repositories.item_lists import ItemFilter
from app.repositories.items import ItemRepository
from app.resources import Resources
from app.schemas.items import Sort
from app.settings import Settings
from tests.backends import Foundation, fresh_database
from tests.conftest import SECRET_KEY
from tests.live_server import running

ROWS = 60_000
FEW = ROWS // 3  # 21 rows of one in 500 take 10,000, give or take: as many in any size of table
SORTS = tuple(Sort)

# 1,000 accounts; 4 % private; half the words and tags rare, others in every item; 5 % on sale, and
# one account's alone at a strange price.
_FILL = (
    """
    INSERT INTO users (email, email_key, username, username_key, roles, created_at, updated_at)
    SELECT 'u' || n, 'u' || n, 'u' || n, 'u' || n, '{user}', now(), now()
      FROM generate_series(1, 1000) n
    """,
    f"""
    INSERT INTO items (owner_id, name, price_cents, discount_basis_points, tags, visibility,
                       metadata, created_at, updated_at, search_text)
    SELECT 1 + n * 7 % 1000, 'Item ' || md5(n::text), 100 + n::bigint * 7919 % 1000000,
           CASE WHEN n % 20 = 0 THEN 1000 ELSE 0 END, ARRAY['tag' || n % 500, 'common'],
           CASE WHEN n % 25 = 0 THEN 'private' ELSE 'public' END, '{{}}',
           now() - n * interval '1 second', now(), 'item common word' || n % 1000
      FROM generate_series(1, {ROWS}) n
    """,
    "ANALYZE",
)

# By id the last, by time the oldest: they alone have a word, a tag and such prices.
_LATE = ROWS // 50
_MAKE_LATE = f"""
    UPDATE items SET tags = tags || '{{late}}', search_text = search_text || ' late',
           price_cents = 40000000 + id
     WHERE NOT tags @> '{{late}}' AND id > {ROWS - _LATE}
"""
_LATE_QUERIES: tuple[dict[str, Any], ...] = (
    {"q": "late"},
    {"tag": "late"},
    {"tag": "late", "q": "late"},
    {"min_price": 400_000},
)


@dataclass
class Cost:
    """What a statement looked at."""

    rows: int
    blocks: int
    scans: list[str]


CostOf = Callable[..., Awaitable[Cost]]


@pytest.fixture(scope="module")
async def app(
    foundation: Foundation, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FastAPI]:
    """The service on a database of many items."""
    from app.main import create_app

    with fresh_database(foundation.postgres_url, foundation.template) as url:
        connection = await asyncpg.connect(url)
        for statement in _FILL:
            await connection.execute(statement)
        await connection.close()
        folder: Path = tmp_path_factory.mktemp("plans")
        settings = Settings(
            _env_file=None,
            environment="test",
            database_url=url,
            data_dir=folder,
            secret_key=SECRET_KEY,
            rate_limits_enabled=False,
            database_pool_timeout=10,
        )
        async with running(create_app(settings)) as app:
            yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://testserver") as client:
        yield client


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Collect the statements of the lists with their parameters."""
    seen: list[tuple[Any, Any]] = []

    async def noting(connection: AsyncConnection, statement: Any, parameters: Any) -> Any:
        seen.append((statement, parameters))
        return await fetch(connection, statement, parameters)

    monkeypatch.setattr("app.repositories.items.fetch", noting)
    return seen


@pytest.fixture
def cost(app: FastAPI, client: AsyncClient, asked: list[tuple[Any, Any]]) -> CostOf:
    """Ask for a list, and return what its statements cost together."""

    async def cost_of(path: str, **query: Any) -> Cost:
        asked.clear()
        answer = await client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        costs = [await explained(app.state.resources, *each) for each in list(asked)]
        return Cost(
            sum(each.rows for each in costs),
            sum(each.blocks for each in costs),
            [scan for each in costs for scan in each.scans],
        )

    return cost_of


async def explained(resources: Resources, statement: Any, parameters: Any) -> Cost:
    """Run a statement once more, for PostgreSQL's account of it."""
    async with resources.db.transaction() as connection:
        compiled = statement.compile(dialect=connection.dialect)
        values = compiled.construct_params(parameters)
        answer = await connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}",
            tuple(values[name] for name in compiled.positiontup),
        )
        found = answer.scalar_one()
    (plan,) = json.loads(found) if isinstance(found, str) else found
    nodes = list(_nodes(plan["Plan"]))
    return Cost(
        sum(_looked_at(node) for node in nodes if "Scan" in node["Node Type"]),
        plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"],
        [f"{n['Node Type']} {n.get('Index Name', '')}" for n in nodes if "Scan" in n["Node Type"]],
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)


def _looked_at(node: dict[str, Any]) -> int:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    looked_at: int = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return looked_at


FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"q": "word77"},
    {"q": "common"},
    {"q": "word77 item"},
    {"q": "nothing"},
    {"tag": "tag77"},
    {"tag": "common"},
    {"tag": ["common", "tag77"]},
    {"min_price": 9999},
    {"max_price": 2},
    {"min_price": 5000, "max_price": 5001},
    {"on_sale": "true"},
    {"on_sale": "false"},
    {"owner_id": 8},
    {"owner_id": 8, "q": "common", "on_sale": "true"},
    {"min_price": 9990, "tag": "common"},
)


@pytest.mark.parametrize("query", FILTERS, ids=str)
async def test_an_index_serves_every_filter_in_every_order(
    cost: CostOf, query: dict[str, Any]
) -> None:
    for sort in SORTS:
        found = await cost("/api/v2/items", sort=sort, **query)
        assert not [scan for scan in found.scans if scan.startswith("Seq Scan")], (sort, found)
        assert found.rows <= FEW, (sort, found)


@pytest.mark.parametrize("sort", SORTS)
async def test_page_ten_thousand_costs_what_page_one_does(
    app: FastAPI, cost: CostOf, sort: Sort
) -> None:
    size = 5
    first = await cost("/api/v2/items", sort=sort, limit=size)
    place = await item_at(app, sort, 10_000 * size)
    cursor = write_cursor(app.state.resources.cursors, CursorQuery(sort=sort, limit=size), place)
    deep = await cost("/api/v2/items", sort=sort, limit=size, cursor=cursor)
    assert deep.rows <= first.rows + 3
    assert deep.blocks <= first.blocks + 3


async def item_at(app: FastAPI, sort: str, number: int) -> Item:
    """Return the item before a place in the list that anyone may read."""
    async with app.state.resources.db.read() as connection:
        repository = ItemRepository(connection)
        (item,), _ = await repository.page(ItemFilter(), None, sort, skip=number - 1, limit=1)
    return item


async def test_what_little_is_on_sale_is_found_without_looking_at_the_rest(
    app: FastAPI, cost: CostOf
) -> None:
    resources: Resources = app.state.resources
    async with resources.db.transaction() as connection:
        await connection.exec_driver_sql(
            "UPDATE items SET discount_basis_points = 0 WHERE discount_basis_points > 0 AND id > 50"
        )
    async with resources.db.transaction() as connection:
        await connection.exec_driver_sql("ANALYZE items")
    for sort in SORTS:
        found = await cost("/api/v2/items", sort=sort, on_sale="true")
        assert found.rows <= FEW, (sort, found)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_what_comes_late_in_the_order_is_found_without_reading_all_before_it(
    app: FastAPI, cost: CostOf, version: str
) -> None:
    async with app.state.resources.db.transaction() as connection:
        await connection.exec_driver_sql(_MAKE_LATE)
    async with app.state.resources.db.transaction() as connection:
        await connection.exec_driver_sql("ANALYZE items")
    for query in _LATE_QUERIES:
        for sort in ("id", "-created_at"):
            found = await cost(f"/api/{version}/items", sort=sort, **query)
            assert found.rows <= 10 * _LATE, (query, sort, found)


async def test_a_scan_of_all_would_be_noticed(app: FastAPI, cost: CostOf) -> None:
    resources: Resources = app.state.resources
    async with resources.db.transaction() as connection:
        await connection.exec_driver_sql("DROP INDEX ix_items_name_id")
    try:
        found = await cost("/api/v2/items", sort="name")
        assert found.rows > FEW
    finally:
        async with resources.db.transaction() as connection:
            await connection.exec_driver_sql(
                "CREATE INDEX ix_items_name_id ON items (name, id) WHERE deleted_at IS NULL"
            )
