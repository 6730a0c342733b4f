"""Imports from their arrival to their end: limits, repeats, crashes, cancelling, what is left."""

import asyncio
import csv
import io
import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.adapters import storage_local
from app.jobs import definition
from app.repositories.item_batches import ItemBatches, NewItem
from app.services import item_import
from tests.api.imports import NDJSON, V1, ended, imported, many, ndjson, owned, send
from tests.api.live import listening
from tests.backends import Place
from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, admin, create_item, expect, new_user
from tests.live_server import LiveServer
from tests.patience import PATIENCE


async def test_a_file_that_is_too_large_leaves_nothing_behind(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(max_import_bytes=2000)
    client = make_client(app)
    owner = await new_user(client)
    headers = owner.headers | {"Content-Type": NDJSON}
    before = contents(app)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b'{"name":"A","price":1}\n' * 5

    for body in (b"x" * 2001, chunks()):
        answer = await client.post(f"{V1}/import", content=body, headers=headers)
        assert answer.status_code == 413
    assert contents(app) == before


def contents(app: FastAPI) -> set[Path]:
    """Return the files that the storage has on disk."""
    folder: Path = app.state.resources.settings.data_dir / "files"
    return {path for path in folder.rglob("*") if path.is_file()}


async def test_the_file_is_gone_when_all_is_imported(client: AsyncClient, app: FastAPI) -> None:
    owner = await new_user(client)
    before = contents(app)
    await imported(client, owner, ndjson({"name": "A", "price": 1}))
    assert contents(app) <= before


async def test_a_client_that_hangs_up_leaves_nothing(
    client: AsyncClient, app: FastAPI, server: LiveServer
) -> None:
    owner = await new_user(client)
    before = contents(app)
    head = (
        "POST /api/v1/items/import HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {owner.headers['Authorization']}\r\n"
        f"Content-Type: {NDJSON}\r\nContent-Length: 9000000\r\n\r\n"
    )
    host, port = server.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + many(3000))
    await writer.drain()
    async with asyncio.timeout(PATIENCE):
        while contents(app) == before:
            await asyncio.sleep(0.01)
    writer.close()
    async with asyncio.timeout(PATIENCE):
        while contents(app) != before:
            await asyncio.sleep(0.01)
    jobs = (await client.get("/api/v1/jobs", headers=owner.headers)).json()
    assert jobs["total"] == 0


@pytest.mark.usefixtures("clean_database")
async def test_the_sweep_leaves_what_waits_to_be_imported(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await new_user(client)
    held = asyncio.Event()
    monkeypatch.setattr(item_import.Importer, "run", waiting(item_import.Importer.run, held))
    job = await send(client, owner, ndjson({"name": "A", "price": 1}))
    files = app.state.resources.files
    async with files.storage.create("0" * 32) as sink:
        await sink.write(b"lost")
    for path in contents(app):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert (await files.sweep_orphans())["orphans"] == 1
    held.set()
    assert (await ended(client, owner, job))["status"] == "succeeded"
    assert contents(app) == set()


async def test_a_content_that_is_gone_fails_the_import_and_says_so(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await new_user(client)
    held = asyncio.Event()
    monkeypatch.setattr(item_import.Importer, "run", waiting(item_import.Importer.run, held))
    before = contents(app)
    job = await send(client, owner, ndjson({"name": "A", "price": 1}))
    for path in contents(app) - before:
        path.unlink()
    held.set()
    job = await ended(client, owner, job)
    assert (job["status"], job["error"]) == (
        "failed",
        "The content cannot be found; send it again",
    )


async def test_what_a_closed_account_sent_is_not_imported(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, boss = await new_user(client), await admin(client, app)
    held = asyncio.Event()
    monkeypatch.setattr(item_import.Importer, "run", waiting(item_import.Importer.run, held))
    job = await send(client, owner, ndjson({"name": "A", "price": 1}))
    closed = await client.patch(
        f"/api/v1/users/{owner.account.id}", json={"is_active": False}, headers=boss.headers
    )
    assert closed.status_code == 200
    held.set()
    job = await ended(client, boss, job)
    assert (job["status"], job["error"]) == ("failed", "The account that sent it is closed")


async def test_a_repeat_with_its_key_is_the_same_import(client: AsyncClient, app: FastAPI) -> None:
    owner = await new_user(client)
    headers = owner.headers | {"Content-Type": NDJSON, "Idempotency-Key": "once"}
    body = ndjson({"name": "A", "price": 1})
    answers = await asyncio.gather(
        *(client.post(f"{V1}/import", content=body, headers=headers) for _ in range(5))
    )
    assert {answer.status_code for answer in answers} == {202}
    jobs = {answer.json()["id"] for answer in answers}
    assert len(jobs) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 4
    await ended(client, owner, answers[0].json())
    assert len(await owned(client, owner)) == 1
    other = await client.post(f"{V1}/import", content=body + b"\n", headers=headers)
    assert other.json()["error_code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_nobody_queues_imports_without_end(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await new_user(client)
    held = asyncio.Event()
    monkeypatch.setattr(item_import.Importer, "_work", waiting(item_import.Importer._work, held))
    body = ndjson({"name": "A", "price": 1})
    jobs = [await send(client, owner, body) for _ in range(5)]
    headers = owner.headers | {"Content-Type": NDJSON}
    refused = await client.post(f"{V1}/import", content=body, headers=headers)
    assert refused.status_code == 429
    assert refused.json()["error_code"] == "TOO_MANY_IMPORTS"
    held.set()
    for job in jobs:
        await ended(client, owner, job)


def waiting(function: Any, held: asyncio.Event) -> Any:
    async def wait(*arguments: Any) -> Any:
        await held.wait()
        return await function(*arguments)

    return wait


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let some hundred lines make a dozen batches."""
    monkeypatch.setattr(storage_local, "BLOCK_BYTES", 8 * 1024)


class Crash(RuntimeError):
    """The process dies here."""


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("text_format", ["ndjson", "csv"])
async def test_a_crash_between_batches_neither_loses_nor_doubles_an_item(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch, text_format: str
) -> None:
    owner = await new_user(client)
    count, crashes = 300, [1, 1, 2]
    settle = item_import.Importer._settle
    calls = 0

    async def settle_and_crash(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        outcome = await settle(*arguments)
        if crashes and calls % 2 == 0:
            crashes.pop()
            raise Crash
        return outcome

    monkeypatch.setattr(item_import.Importer, "_settle", settle_and_crash)
    monkeypatch.setattr("app.jobs.definition.JobKind.wait_before", lambda self, attempt: 0.01)
    body = many(count)
    if text_format == "csv":
        out = io.StringIO()
        records = [json.loads(line) for line in body.splitlines()]
        writer = csv.DictWriter(out, ["name", "price", "description"])
        writer.writeheader()
        writer.writerows(each | {"description": "two\nlines" * 30} for each in records)
        body = out.getvalue().encode()
    job = await ended(client, owner, await send(client, owner, body, format=text_format))
    assert (job["status"], job["result"]["accepted"]) == ("succeeded", count)
    assert job["attempts"] == 4
    params = {"owner_id": owner.account.id}
    assert (await client.get(V1, params=params)).json()["total"] == count
    names = {
        json.loads(line)["name"]
        for line in (await client.get(f"{V1}/export", params=params)).text.splitlines()
    }
    assert len(names) == count


async def cancelled_in_the_second_batch(
    make_app: MakeApp, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, atomic: str
) -> tuple[AsyncClient, Tokens, dict[str, Any]]:
    app = await make_app(job_lease_seconds=0.6)
    client = make_client(app)
    owner = await new_user(client)
    reached = asyncio.Event()
    write = ItemBatches.write
    calls = 0

    async def write_and_wait(self: ItemBatches, batch: Sequence[NewItem]) -> None:
        nonlocal calls
        await write(self, batch)
        calls += bool(batch)
        if calls == 2:
            reached.set()
            await asyncio.sleep(60)

    monkeypatch.setattr(ItemBatches, "write", write_and_wait)
    job = await send(client, owner, many(300), atomic=atomic)
    async with asyncio.timeout(PATIENCE):
        await reached.wait()
    url = f"/api/v1/jobs/{job['id']}"
    assert (await client.delete(url, headers=owner.headers)).status_code == 204
    job = await ended(client, owner, job)
    assert job["status"] == "cancelled"
    return client, owner, job


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.only("production")
async def test_a_cancelled_import_keeps_whole_batches(
    clean_database: Place,
    make_app: MakeApp,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, owner, job = await cancelled_in_the_second_batch(
        make_app, make_client, monkeypatch, "false"
    )
    params = {"owner_id": owner.account.id}
    kept = (await client.get(V1, params=params)).json()["total"]
    assert 0 < kept < 300
    assert kept == job["detail"]["accepted"]
    monkeypatch.undo()
    again = await client.post(f"/api/v1/jobs/{job['id']}/retry", headers=owner.headers)
    job = await ended(client, owner, expect(again, 200))
    assert job["result"]["accepted"] == 300
    assert (await client.get(V1, params=params)).json()["total"] == 300


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.only("production")
async def test_of_a_cancelled_atomic_import_nothing_stays(
    clean_database: Place,
    make_app: MakeApp,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, owner, _ = await cancelled_in_the_second_batch(
        make_app, make_client, monkeypatch, "true"
    )
    params = {"owner_id": owner.account.id}
    assert (await client.get(V1, params=params)).json()["total"] == 0


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("atomic", ["false", "true"])
async def test_two_that_run_the_same_import_double_nothing(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch, atomic: str
) -> None:
    owner = await new_user(client)
    held, run = asyncio.Event(), item_import.Importer.run
    monkeypatch.setattr(item_import.Importer, "run", waiting(run, held))
    job = await send(client, owner, many(300), atomic=atomic)
    resources = app.state.resources
    importer = item_import.Importer(resources.db, resources.files.storage, 32)

    async def report(_share: float, _counts: dict[str, Any]) -> None:
        return

    both = (run(importer, job["id"], report) for _ in range(2))
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    whole = [each for each in outcomes if isinstance(each, dict)]
    assert [each["accepted"] for each in whole] in ([300], [300, 300])
    held.set()
    assert (await ended(client, owner, job))["result"]["accepted"] == 300
    listed = await client.get(V1, params={"owner_id": owner.account.id})
    assert listed.json()["total"] == 300


async def test_very_many_refused_lines_are_all_told(client: AsyncClient) -> None:
    owner = await new_user(client)
    result, refused = await imported(client, owner, b"bad\n" * 2500)
    assert (result["accepted"], result["rejected"]) == (0, 2500)
    assert [each["line"] for each in refused] == list(range(1, 2501))


@pytest.mark.usefixtures("_small_blocks")
async def test_of_endless_refused_lines_the_first_are_kept_and_all_counted(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_import, "MAX_KEPT_REJECTIONS", 10)
    owner = await new_user(client)
    result, refused = await imported(client, owner, b"bad\n" * 6_000)
    assert result["rejected"] == 6_000
    assert [each["line"] for each in refused] == list(range(1, 11))


@pytest.mark.only("production")
async def test_a_long_atomic_import_holds_up_no_other_event(
    client: AsyncClient, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, other = await new_user(client), await new_user(client)
    reached, held, write = asyncio.Event(), asyncio.Event(), ItemBatches.write

    async def write_and_wait(self: ItemBatches, batch: Sequence[NewItem]) -> None:
        await write(self, batch)
        if batch:
            reached.set()
            await held.wait()

    monkeypatch.setattr(ItemBatches, "write", write_and_wait)
    async with listening(server, other, "items") as live:
        job = await send(client, owner, many(10), atomic="true")
        async with asyncio.timeout(PATIENCE):
            await reached.wait()
        made = await create_item(client, other)
        assert (await live.until("event"))["event"]["subject"] == f"item:{made['id']}"
        held.set()
        await ended(client, owner, job)
        names = [(await live.until("event"))["event"]["data"]["name"] for _ in range(10)]
    assert names == [f"Item {number}" for number in range(10)]


@pytest.mark.usefixtures("_small_blocks")
async def test_an_atomic_import_does_with_one_connection(
    make_app: MakeApp, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition, "_REPORT_SPACING", 0)  # it says how far it is with each batch
    app = await make_app(database_pool_size=1, database_pool_timeout=8, run_jobs="inline")
    client = make_client(app)
    owner = await new_user(client)
    job = await ended(client, owner, await send(client, owner, many(300), atomic=True))
    assert (job["status"], job["attempts"]) == ("succeeded", 1)
