"""`POST /items/import`: many items from a file, each line judged as POST would, as a job."""

import json
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.services.import_lines import MAX_LINE_BYTES
from tests.api.imports import (
    CSV,
    NDJSON,
    V1,
    V2,
    ended,
    imported,
    many,
    ndjson,
    owned,
    rejected,
    send,
)
from tests.api.live import listening
from tests.factories import Tokens, admin, expect, new_user
from tests.live_server import LiveServer


async def test_a_file_becomes_items_of_the_caller(client: AsyncClient) -> None:
    owner = await new_user(client)
    full = {
        "name": "Oak desk",
        "description": "two\nlines, Ω",
        "price": 349.99,
        "discount_percent": 12.5,
        "tags": ["a", "a", "b;c"],
        "visibility": "private",
    }
    answer = await client.post(
        f"{V1}/import",
        content=ndjson(full, {"name": " Lamp ", "price": "0.01"}),
        headers=owner.headers | {"Content-Type": NDJSON},
    )
    job = expect(answer, 202)
    assert (job["kind"], job["status"]) == ("items.import", "queued")
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    done = await ended(client, owner, job)
    assert done["status"] == "succeeded"
    assert done["result"] == {
        "lines": 2,
        "accepted": 2,
        "rejected": 0,
        "dry_run": False,
        "rejected_url": None,
    }
    desk, lamp = await owned(client, owner)
    assert desk == desk | full | {"tags": ["a", "b;c"], "owner_id": owner.account.id, "version": 1}
    assert (lamp["name"], lamp["price"], lamp["visibility"]) == ("Lamp", 0.01, "public")
    found = await client.get(
        V1, params={"q": "oak", "owner_id": owner.account.id}, headers=owner.headers
    )
    assert found.json()["total"] == 1


async def test_bad_lines_are_told_by_number_and_the_good_ones_kept(client: AsyncClient) -> None:
    owner = await new_user(client)
    lines = [
        b'{"name":"Good","price":1}',
        b"",
        b'{"name":"","price":0}',
        b"not json",
        b'{"name":"A","price":1,"colour":"red"}',
        b'{"name":"\xff","price":1}',
        b'{"name":"nul \\u0000","price":1}',
        b'{"name":"\\ud800","price":1}',
        b"[1]",
        b'{"name":"A","price":NaN}',
        b'{"name":"A","price":1e999}',
        b'{"name":"' + b"x" * MAX_LINE_BYTES + b'","price":1}',
        b'{"name":"A","price":1,"tags":' + b"[" * 100 + b"]" * 100 + b"}",
        b"   ",
        b'{"name":"Also good","price":2}',
    ]
    result, refused = await imported(client, owner, b"\xef\xbb\xbf" + b"\r\n".join(lines))
    assert (result["lines"], result["accepted"], result["rejected"]) == (13, 2, 11)
    assert [each["line"] for each in refused] == list(range(3, 14))
    by_line = {each["line"]: each["errors"] for each in refused}
    assert {each["field"] for each in by_line[3]} == {"name", "price"}
    assert by_line[4][0]["type"] == "json_invalid"
    assert by_line[5][0]["field"] == "colour"
    assert by_line[6][0]["type"] == "not_utf8"
    assert by_line[12][0]["type"] == "line_unreadable"
    assert by_line[13][0]["type"] == "too_deep"
    assert [item["name"] for item in await owned(client, owner)] == ["Good", "Also good"]


async def test_each_line_is_judged_as_post_would(client: AsyncClient) -> None:
    owner = await new_user(client)
    bodies: list[Any] = [
        {"name": "x" * 101, "price": 1},
        {"name": "A", "price": 0.001},
        {"name": "A", "price": 10**12},
        {"name": "A", "price": 1, "discount_percent": 100.5},
        {"name": "A", "price": 1, "tags": ["x"] * 21},
        {"name": "A", "price": 1, "tags": ["y" * 41]},
        {"name": "A", "price": 1, "visibility": "secret"},
        {"name": "A", "price": 1, "description": "x" * 2001},
        {"name": "two\nlines", "price": 1},
        {"price": 1},
    ]
    _, refused = await imported(client, owner, ndjson(*bodies))
    for body, line in zip(bodies, refused, strict=True):
        answer = await client.post(V1, json=body, headers=owner.headers)
        assert answer.status_code == 422
        assert line["errors"] == answer.json()["errors"]


async def test_csv_is_read_by_its_header(client: AsyncClient) -> None:
    owner = await new_user(client)
    body = (
        "\ufeffprice,name,tags,description\r\n"
        '10.50,"Desk, oak",office;wood,"two\r\nlines ""quoted"""\r\n'
        "\r\n"
        '1,5" pipe,"[""a;b""]",\r\n'
        "2,too,many,cells,here\r\n"
        '3,"open\r\n'
        "4,Last,,'=1+1"
    )
    result, refused = await imported(client, owner, body.encode(), media_type=CSV)
    assert (result["accepted"], result["rejected"]) == (3, 2)
    assert [each["line"] for each in refused] == [6, 7]
    assert [each["errors"][0]["type"] for each in refused] == ["cell_count", "line_unreadable"]
    desk, pipe, last = await owned(client, owner)
    assert (desk["name"], desk["price"], desk["tags"]) == ("Desk, oak", 10.5, ["office", "wood"])
    assert desk["description"] == 'two\r\nlines "quoted"'
    assert (pipe["name"], pipe["tags"], pipe["description"]) == ('5" pipe', ["a;b"], None)
    assert (last["description"], last["tags"]) == ("=1+1", [])


async def test_bad_records_of_csv_are_told_by_line_and_column(client: AsyncClient) -> None:
    owner = await new_user(client)
    body = (
        "name,price,tags,visibility\r\n"
        'Unclosed,1,"[""a"",",public\r\n'
        'Stray,1,"x"y,public\r\n'
        "Nothing,0,,public\r\n"
        "Somebody,1,,nobody\r\n"
        "Good,1,,private\r\n"
    )
    _, refused = await imported(client, owner, body.encode(), media_type=CSV)
    told = [
        (each["line"], each["errors"][0]["field"], each["errors"][0]["type"]) for each in refused
    ]
    assert told == [
        (2, "tags", "json_invalid"),
        (3, "", "csv_invalid"),
        (4, "price", "greater_than"),
        (5, "visibility", "enum"),
    ]
    assert [item["name"] for item in await owned(client, owner)] == ["Good"]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("name,price,colour", "unknown columns: colour"),
        ("name", "must name the columns name and price"),
        ("name,price,name", "twice"),
        ('"name', "not closed"),
        ("displayName,name,price", "displayName"),
    ],
)
async def test_a_header_that_makes_no_items_fails_the_import(
    client: AsyncClient, header: str, said: str
) -> None:
    owner = await new_user(client)
    sent = await send(client, owner, f"{header}\nA,1,B\n".encode(), media_type=CSV)
    job = await ended(client, owner, sent)
    assert job["status"] == "failed"
    assert said in job["error"]


@pytest.mark.parametrize("text_format", ["ndjson", "csv"])
@pytest.mark.parametrize("base", [V1, V2])
async def test_what_was_exported_can_be_imported(
    client: AsyncClient, base: str, text_format: str
) -> None:
    owner, heir = await new_user(client), await new_user(client)
    bodies = [
        {"name": "=SUM(A1)", "price": 0.01, "description": "'=x", "tags": ["-1", "a,b"]},
        {"name": "'quoted'", "price": 9999999999.99, "description": ' \r\n\t"\r', "tags": []},
        {"name": "@é日本", "price": 12.3, "discount_percent": 33.33, "visibility": "private"},
    ]
    for body in bodies:
        extra = {"displayName": "+D", "metadata": {"a": [1, {"b": "\n"}]}} if base == V2 else {}
        expect(await client.post(base, json=body | extra, headers=owner.headers), 201)
    query: dict[str, Any] = {"owner_id": owner.account.id, "format": text_format}
    file = await client.get(f"{base}/export", params=query, headers=owner.headers)
    result, refused = await imported(client, heir, file.content, base=base, format=text_format)
    assert (result["accepted"], refused) == (3, [])
    given = ("id", "owner_id", "created_at", "updated_at", "ownerId", "createdAt", "updatedAt")

    def described(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in item.items() if k not in given} for item in items]

    assert described(await owned(client, heir, base)) == described(await owned(client, owner, base))


async def test_every_item_is_one_event_like_that_of_post(client: AsyncClient, app: FastAPI) -> None:
    owner = await new_user(client)
    body = {"name": "A", "price": 3.5, "tags": ["t"], "discount_percent": 10, "description": None}
    expect(await client.post(V1, json=body, headers=owner.headers), 201)
    await imported(client, owner, ndjson(body, body | {"visibility": "private"}))
    async with app.state.resources.db.read() as connection:
        found = await connection.exec_driver_sql(
            "SELECT kind, subject, subject_id, audience, data FROM events "
            f"WHERE owner_id = {owner.account.id} AND subject = 'item' ORDER BY id"
        )
        events = [tuple(row) for row in found]
    ids = [item["id"] for item in await owned(client, owner)]
    assert [event[2] for event in events] == ids
    assert {event[:2] for event in events} == {("item.created", "item")}
    assert [event[3] for event in events] == ["public", "public", "owner"]
    one, two, _ = [json.loads(e[4]) if isinstance(e[4], str) else e[4] for e in events]
    for data in (one, two):
        assert data.pop("created_at").endswith("Z")
        data.pop("updated_at")
    assert one == two


async def test_who_listens_to_the_list_keeps_up_with_an_import(
    client: AsyncClient, server: LiveServer
) -> None:
    owner = await new_user(client)
    async with listening(server, owner, "items") as live:
        job = await send(client, owner, many(1500))
        names: list[str] = []
        while len(names) < 1500:
            event = (await live.until("event"))["event"]
            if event["data"].get("owner_id") == owner.account.id:
                names.append(event["data"]["name"])
        assert names == [f"Item {n}" for n in range(1500)]
        await ended(client, owner, job)


async def test_a_dry_run_tells_all_and_imports_nothing(client: AsyncClient) -> None:
    owner = await new_user(client)
    body = ndjson({"name": "A", "price": 1}, {"name": "B"})
    for atomic in ("true", "false"):
        result, refused = await imported(client, owner, body, dry_run="true", atomic=atomic)
        assert (result["accepted"], result["rejected"], result["dry_run"]) == (1, 1, True)
        assert result["rejected_url"].endswith("/rejected")
        assert [each["line"] for each in refused] == [2]
        assert await owned(client, owner) == []


@pytest.mark.parametrize("spelled", ["dryRun", "dry_run"])
async def test_version_two_spells_a_dry_run_its_own_way_and_hears_both(
    client: AsyncClient, spelled: str
) -> None:
    owner = await new_user(client)
    answer = await client.post(
        f"/api/v2/items/import?{spelled}=true",
        content=ndjson({"name": "A", "price": 1}),
        headers=owner.headers | {"Content-Type": NDJSON},
    )
    job = await ended(client, owner, expect(answer, 202))
    assert job["result"]["dry_run"] is True
    assert await owned(client, owner) == []


async def test_atomic_is_all_or_nothing(client: AsyncClient) -> None:
    owner = await new_user(client)
    good = [{"name": f"Item {n}", "price": n} for n in range(1, 4)]
    sent = await send(client, owner, ndjson(*good, {"name": "Bad"}), atomic="true")
    job = await ended(client, owner, sent)
    assert job["status"] == "failed"
    assert "1 of 4 lines were refused, so nothing was imported" in job["error"]
    assert [each["line"] for each in await rejected(client, owner, job)] == [4]
    assert await owned(client, owner) == []
    result, _ = await imported(client, owner, ndjson(*good), atomic="true")
    assert result["accepted"] == 3
    assert [item["price"] for item in await owned(client, owner)] == [1, 2, 3]


async def test_a_compressed_file_is_refused_and_said_why(client: AsyncClient) -> None:
    owner = await new_user(client)
    headers = owner.headers | {"Content-Type": NDJSON, "Content-Encoding": "gzip"}
    answer = await client.post(f"{V1}/import", content=b"\x1f\x8b", headers=headers)
    assert answer.status_code == 415
    assert "uncompressed" in answer.json()["detail"]


async def test_who_may_see_what_was_refused(client: AsyncClient, app: FastAPI) -> None:
    owner, stranger, boss = await new_user(client), await new_user(client), await admin(client, app)
    job = await ended(client, owner, await send(client, owner, b"bad\n"))
    url = f"/api/v1/jobs/{job['id']}/rejected"
    assert (await client.get(url)).status_code == 401
    assert (await client.get(url, headers=stranger.headers)).status_code == 404
    assert len((await client.get(url, headers=boss.headers)).text.splitlines()) == 1
    assert (await client.get(url, headers=owner.headers)).text.count("\n") == 1


@pytest.mark.parametrize(
    ("media_type", "query", "body", "status"),
    [
        ("application/json", "", b"[]", 415),
        ("multipart/form-data; boundary=x", "", b"x", 415),
        ("multipart/form-data; boundary=x", "?format=csv", b"x", 415),
        (NDJSON, "?format=xml", b"{}", 422),
        (NDJSON, "?atomic=perhaps", b"{}", 422),
        (NDJSON, "", b"", 422),
    ],
)
async def test_what_is_no_file_of_items_is_refused_at_once(
    client: AsyncClient, somebody: Tokens, media_type: str, query: str, body: bytes, status: int
) -> None:
    answer = await client.post(
        f"{V1}/import{query}",
        content=body,
        headers=somebody.headers | {"Content-Type": media_type},
    )
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
