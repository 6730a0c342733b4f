"""`GET /items/export`: all of a list, as of one moment, in one answer that streams."""

import asyncio
import csv
import gzip
import io
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.adapters.snapshots import Snapshots
from app.clock import now
from app.models.items import items
from app.resources import Resources
from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, admin, create_item, new_user
from tests.live_server import LiveServer, serving
from tests.patience import PATIENCE

V1, V2 = "/api/v1/items", "/api/v2/items"
ODD = 'Ω "quoted", \\back\\slash'

PLAIN = {"Accept-Encoding": "identity"}  # what repeats itself would fit into the socket's buffers


async def fill(app: FastAPI, owner: Tokens, count: int, size: int = 300) -> None:
    """Put many items of one owner into the database, past the API, each of about a size."""
    resources: Resources = app.state.resources
    moment = now()
    rows = [
        {
            "owner_id": owner.account.id,
            "name": f"Item {number}",
            "description": "Something. " * (size // 11),
            "price_cents": number + 1,
            "tags": ["many"],
            "visibility": "public",
            "metadata": {},
            "created_at": moment,
            "updated_at": moment,
        }
        for number in range(count)
    ]
    async with resources.db.transaction() as connection:
        await connection.execute(items.insert(), rows)


async def test_a_line_is_what_reading_the_item_answers(client: AsyncClient) -> None:
    owner = await new_user(client)
    over = {
        "description": "two\nlines\tand \u2028",
        "tags": ["a;b", 'c"d'],
        "discount_percent": 12.5,
    }
    made = await create_item(client, owner, name=ODD, price="12345678.9", **over)
    bare = await create_item(client, owner, price=1)
    for base in (V1, V2):
        answer = await client.get(f"{base}/export", params={"owner_id": owner.account.id})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["content-disposition"] == 'attachment; filename="items.ndjson"'
        lines = answer.text.split("\n")
        assert lines.pop() == ""
        for line, item in zip(lines, (made, bare), strict=True):
            assert line == (await client.get(f"{base}/{item['id']}")).text


async def test_csv_has_every_field_as_text(client: AsyncClient) -> None:
    owner = await new_user(client)
    made = await create_item(
        client, owner, name=ODD, price=0.1, tags=["x", "y;z"], discount_percent=50
    )
    params: dict[str, Any] = {"owner_id": owner.account.id, "format": "csv"}
    answer = await client.get(f"{V1}/export", params=params)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="items.csv"'
    assert answer.text.count("\r\n") == 2
    (record,) = csv.DictReader(io.StringIO(answer.text, newline=""), strict=True)
    assert list(record) == list(made)
    assert (record["name"], record["price"], record["discounted_price"]) == (ODD, "0.10", "0.05")
    assert (record["on_sale"], record["description"]) == ("true", "")
    assert json.loads(record["tags"]) == ["x", "y;z"]
    assert record["created_at"] == made["created_at"]
    described = {"displayName": "=Desk", "metadata": {"sku": "a,b"}, "name": "D", "price": 1}
    await client.post(V2, json=described, headers=owner.headers)
    answer = await client.get(f"{V2}/export", params={**params, "sort": "-id"})
    record = next(csv.DictReader(io.StringIO(answer.text, newline=""), strict=True))
    assert record["displayName"] == "'=Desk"
    assert json.loads(record["metadata"]) == {"sku": "a,b"}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "'=", "＝"])  # noqa: RUF001
async def test_no_cell_is_a_formula(client: AsyncClient, start: str) -> None:
    owner = await new_user(client)
    text = start + 'HYPERLINK("https://example.com")'
    await create_item(client, owner, name="A", description=text, tags=["=1+1"])
    params: dict[str, Any] = {"owner_id": owner.account.id, "format": "csv"}
    answer = await client.get(f"{V1}/export", params=params)
    (record,) = csv.DictReader(io.StringIO(answer.text, newline=""), strict=True)
    assert record["description"] == f"'{text}"
    assert not [cell for cell in record.values() if cell[:1] in set("=+-@\t\r\n＝")]  # noqa: RUF001


async def test_it_has_what_the_list_has_in_the_lists_order(client: AsyncClient) -> None:
    owner = await new_user(client)
    for number in range(6):
        await create_item(
            client,
            owner,
            name=f"Oak {number % 3}",
            price=number + 1,
            discount_percent=number % 2,
            tags=["x", "y"] if number > 2 else ["x"],
        )
    mine: dict[str, Any] = {"owner_id": owner.account.id}
    asked: tuple[dict[str, Any], ...] = (
        {"sort": "-price"},
        {"sort": "name"},
        {"q": "oak 1"},
        {"tag": ["x", "y"], "sort": "-created_at"},
        {"on_sale": "true", "min_price": 2, "max_price": 4},
        {"q": "nothing like it"},
    )
    for query in asked:
        listed = (await client.get(V1, params=mine | query)).json()["items"]
        answer = await client.get(f"{V1}/export", params=mine | query)
        assert [json.loads(line) for line in answer.text.splitlines()] == listed


async def test_it_shows_only_what_the_caller_may_read(client: AsyncClient, app: FastAPI) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    public = (await create_item(client, owner))["id"]
    private = (await create_item(client, owner, visibility="private"))["id"]
    deleted = (await create_item(client, owner))["id"]
    await client.delete(f"{V1}/{deleted}", headers=owner.headers)
    boss = await admin(client, app)
    for caller, expected in (
        (None, [public]),
        (stranger, [public]),
        (owner, [public, private]),
        (boss, [public, private]),
    ):
        answer = await client.get(
            f"{V1}/export",
            params={"owner_id": owner.account.id},
            headers=caller.headers if caller else {},
        )
        assert [json.loads(line)["id"] for line in answer.text.splitlines()] == expected


async def test_an_empty_export_is_empty_and_csv_still_has_its_header(client: AsyncClient) -> None:
    owner = await new_user(client)
    mine: dict[str, Any] = {"owner_id": owner.account.id}
    assert (await client.get(f"{V1}/export", params=mine)).content == b""
    answer = await client.get(f"{V1}/export", params=mine | {"format": "csv"})
    assert answer.text.startswith("id,name,")
    assert answer.text.count("\n") == 1


@pytest.mark.parametrize(
    ("query", "field"), [({"format": "xml"}, "format"), ({"sort": "x"}, "sort")]
)
async def test_a_bad_query_names_its_parameter(
    client: AsyncClient, query: dict[str, str], field: str
) -> None:
    answer = await client.get(f"{V1}/export", params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_head_says_what_get_would_and_reads_nothing(client: AsyncClient) -> None:
    answer = await client.head(f"{V1}/export", params={"format": "csv"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "content-length" not in answer.headers
    assert answer.content == b""


async def test_it_sees_one_moment_while_others_write(
    client: AsyncClient, app: FastAPI, server: LiveServer
) -> None:
    owner = await new_user(client)
    await fill(app, owner, 3000)
    last = (await client.get(V1, params={"owner_id": owner.account.id, "sort": "-id"})).json()
    last = last["items"][0]
    async with server.client() as remote:
        query = {"owner_id": str(owner.account.id)}
        async with remote.stream("GET", f"{V1}/export", params=query) as answer:
            pieces = answer.aiter_bytes()
            seen = await anext(pieces)
            await create_item(client, owner, name="Too late")
            await client.patch(f"{V1}/{last['id']}", json={"price": 999_999}, headers=owner.headers)
            async for piece in pieces:
                seen += piece
    lines = [json.loads(line) for line in seen.decode().splitlines()]
    assert len(lines) == 3000
    assert lines[-1] == last


async def test_it_is_compressed_while_it_streams(
    client: AsyncClient, app: FastAPI, server: LiveServer
) -> None:
    owner = await new_user(client)
    await fill(app, owner, 3000)
    sizes = []
    async with server.client() as remote:
        query = {"owner_id": str(owner.account.id)}
        headers = {"Accept-Encoding": "gzip"}
        async with remote.stream("GET", f"{V1}/export", params=query, headers=headers) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            assert "content-length" not in answer.headers
            raw = b""
            async for piece in answer.aiter_raw():
                sizes.append(len(piece))
                raw += piece
    assert len(gzip.decompress(raw).splitlines()) == 3000
    assert len(sizes) > 3


async def test_who_hangs_up_frees_the_connection_and_ends_the_query(
    client: AsyncClient, app: FastAPI, server: LiveServer
) -> None:
    owner = await new_user(client)
    await fill(app, owner, 4000, size=5_000)
    snapshots: Snapshots = app.state.resources.snapshots
    for _ in range(3):
        async with (
            server.client() as remote,
            remote.stream("GET", f"{V1}/export", headers=PLAIN) as answer,
        ):
            await anext(answer.aiter_bytes())
            assert snapshots.open_count == 1
        async with asyncio.timeout(PATIENCE):
            while snapshots.open_count:
                await asyncio.sleep(0.01)
    if app.state.resources.db.is_postgres:
        async with asyncio.timeout(PATIENCE):
            while await idle_transactions(app):
                await asyncio.sleep(0.01)


@pytest.mark.only("production")
@pytest.mark.usefixtures("clean_database")
async def test_who_hangs_up_before_the_first_line_ends_the_query_too(make_app: MakeApp) -> None:
    app = await make_app(run_jobs="worker")  # jobs would wait for the table, too
    resources: Resources = app.state.resources
    async with serving(app) as server, resources.db.transaction() as connection:
        await connection.exec_driver_sql("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        async with server.client() as remote:
            waiting = asyncio.create_task(remote.get(f"{V1}/export"))
            async with asyncio.timeout(PATIENCE):
                while not resources.snapshots.open_count:
                    await asyncio.sleep(0.01)
            waiting.cancel()
        async with asyncio.timeout(PATIENCE):
            while resources.snapshots.open_count or await idle_transactions(app) > 1:
                await asyncio.sleep(0.01)


async def idle_transactions(app: FastAPI) -> int:
    """Return how many sessions of this database hold a transaction beside our own."""
    async with app.state.resources.db.read() as connection:
        found = await connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND xact_start IS NOT NULL AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"  # a vacuum would wait for a table as well
        )
        count: int = found.scalar_one()
    return count


async def test_no_more_than_a_few_run_at_once_and_nobody_has_them_all(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(exports_at_once=2, database_pool_timeout=0.3)
    client = make_client(app)
    snapshots: Snapshots = app.state.resources.snapshots
    async with snapshots.open("somebody"):
        assert (await client.get(f"{V1}/export", params={"q": "zz"})).status_code == 200
        async with snapshots.open("somebody else"):
            refused = await client.get(f"{V1}/export")
            assert refused.status_code == 503
            assert refused.json()["error_code"] == "TOO_MANY_EXPORTS"
            assert int(refused.headers["retry-after"]) > 0
            assert (await client.get(V1)).status_code == 200  # the requests' own pool is untouched
    async with snapshots.open("127.0.0.1"):
        assert (await client.get(f"{V1}/export")).status_code == 503
        other = make_client(app, address="203.0.113.9")
        assert (await other.get(f"{V1}/export", params={"q": "zz"})).status_code == 200
    assert snapshots.open_count == 0


async def test_many_at_once_have_their_turns(client: AsyncClient, app: FastAPI) -> None:
    owner = await new_user(client)
    await fill(app, owner, 1000)
    url = f"{V1}/export?owner_id={owner.account.id}"
    answers = await asyncio.gather(*(client.get(url) for _ in range(30)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.text.count("\n") for answer in answers} == {1000}


async def test_whoever_reads_too_slowly_is_cut_off(
    client: AsyncClient,
    app: FastAPI,
    server: LiveServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.routers.streams.PIECE_SECONDS", 0.2)
    owner = await new_user(client)
    await fill(app, owner, 4000, size=5_000)
    snapshots: Snapshots = app.state.resources.snapshots
    async with (
        server.client() as remote,
        remote.stream("GET", f"{V1}/export", headers=PLAIN) as answer,
    ):
        async with asyncio.timeout(PATIENCE):
            while snapshots.open_count:
                await asyncio.sleep(0.01)
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()
