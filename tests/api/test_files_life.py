"""What becomes of files: events of them, sweeps, full disks, clients that hang up."""

import asyncio
import os
import resource
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import update

from app.clock import now
from app.models.files import files
from app.models.items import items
from app.repositories.files import FileRepository
from app.services.retention import sweep
from tests.api.files import FORM_TYPE, add_file, form, on_disk, picture, upload
from tests.api.live import listening
from tests.api.test_errors import problem
from tests.api.test_files_presign import CONTENT, announce, send
from tests.api.test_files_thumbnails import with_thumbnail
from tests.factories import create_item, expect, new_user
from tests.live_server import LiveServer
from tests.patience import PATIENCE

OLD = timedelta(hours=3)


async def test_adding_and_removing_are_told_to_who_may_see_the_item(
    client: AsyncClient, server: LiveServer
) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    item = await create_item(client, owner)
    async with (
        listening(server, owner, f"item:{item['id']}") as own,
        listening(server, stranger, "items") as other,
    ):
        file = await add_file(client, owner, item["id"])
        for socket_ in (own, other):
            event = (await socket_.until("event"))["event"]
            while event["subject"] != f"item:{item['id']}" or event["type"] != "file.added":
                event = (await socket_.until("event"))["event"]
            assert event["data"] == file | {"created_at": event["data"]["created_at"]}
        at = f"/api/v1/items/{item['id']}"
        await client.patch(at, json={"visibility": "private"}, headers=owner.headers)
        await client.delete(f"/api/v1/files/{file['id']}", headers=owner.headers)
        seen = []
        while "file.removed" not in seen:
            seen.append((await own.until("event"))["event"]["type"])
        last = await create_item(client, owner)  # what comes after it tells that it did not come
        while True:
            event = (await other.until("event"))["event"]
            assert event["type"] != "file.removed"
            if event["subject"] == f"item:{last['id']}":
                break


async def test_whoever_makes_room_waits_for_who_did_before(
    client: AsyncClient, app: FastAPI
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    file = await add_file(client, owner, item["id"], b"x" * 100)
    db, ids = app.state.resources.db, (item["id"], owner.account.id)

    async def used() -> int:
        async with db.transaction() as connection:
            repository = FileRepository(connection)
            await repository.lock_home(*ids)
            return (await repository.usage(owner.account.id, item["id"])).size

    async with db.transaction() as connection:
        await FileRepository(connection).lock_home(*ids)
        second = asyncio.create_task(used())
        await asyncio.wait([second], timeout=0.3)
        assert not second.done()
        await FileRepository(connection).remove(file["id"])
    async with asyncio.timeout(PATIENCE):
        assert await second == 0


def make_old(folder: Path) -> None:
    moment = (now() - OLD).timestamp()
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (moment, moment))


@pytest.mark.usefixtures("clean_database")
async def test_the_sweep_takes_what_no_file_knows_and_nothing_else(
    client: AsyncClient, app: FastAPI
) -> None:
    service = app.state.resources.files
    folder = app.state.resources.settings.data_dir / "files"
    owner = await new_user(client)
    item = await create_item(client, owner)
    kept = await add_file(client, owner, item["id"], picture())
    await with_thumbnail(client, owner, kept)
    awaited = expect(await announce(client, owner, item["id"]), 200)
    await send(client, awaited, CONTENT)
    known = on_disk(app)
    assert len(known) == 3
    for stray in ("0" * 32, f"{'1' * 32}.thumbnail", f"incoming/{'2' * 32}"):
        async with service.storage.create(stray) as sink:
            await sink.write(b"lost")
    assert await service.sweep_orphans() == {"expired": 0, "orphans": 0, "unfinished": 0}
    make_old(folder)
    assert await service.sweep_orphans() == {"expired": 0, "orphans": 3, "unfinished": 0}
    assert on_disk(app) == known
    async with app.state.resources.db.transaction() as connection:
        expired = update(files).where(files.c.id == awaited["id"]).values(expires_at=now())
        await connection.execute(expired)
    assert await service.sweep_orphans() == {"expired": 1, "orphans": 1, "unfinished": 0}
    assert len(on_disk(app)) == 2
    assert (await client.get(f"/api/v1/files/{kept['id']}")).content == picture()


@pytest.mark.usefixtures("clean_database")
async def test_a_purged_item_takes_its_files_along(client: AsyncClient, app: FastAPI) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    file = await add_file(client, owner, item["id"])
    at = f"/api/v1/items/{item['id']}"
    await client.delete(at, headers=owner.headers)
    async with app.state.resources.db.transaction() as connection:
        old = {"deleted_at": now() - timedelta(days=31)}
        await connection.execute(update(items).where(items.c.id == item["id"]).values(old))
    await sweep(app.state.resources.db, timedelta(days=1), timedelta(days=400))
    problem(await client.get(f"/api/v1/files/{file['id']}"), 404, "NOT_FOUND")
    make_old(app.state.resources.settings.data_dir / "files")
    assert (await app.state.resources.files.sweep_orphans())["orphans"] == 1
    assert on_disk(app) == set()


@pytest.mark.usefixtures("clean_database")
async def test_a_full_disk_is_507_leaves_nothing_and_heals(
    client: AsyncClient, app: FastAPI
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, before[1]))  # as the kernel refuses
    try:
        answer = await upload(client, owner, item["id"], b"fits", b"x" * 4_500_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    problem(answer, 507, "INSUFFICIENT_STORAGE")
    assert on_disk(app) == set()
    expect(await upload(client, owner, item["id"], b"x" * 4_500_000), 201)


@pytest.mark.usefixtures("clean_database")
async def test_clients_that_hang_up_leave_nothing(
    client: AsyncClient, app: FastAPI, server: LiveServer
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    body = form(b"x" * 3_000_000)
    head = (
        f"POST /api/v1/items/{item['id']}/files HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {owner.headers['Authorization']}\r\n"
        f"Content-Type: {FORM_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    host, port = server.url.removeprefix("http://").split(":")
    writers = []
    for _ in range(20):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body[:600_000])
        await writer.drain()
        writers.append(writer)
    async with asyncio.timeout(PATIENCE):
        while len(on_disk(app)) < 20:
            await asyncio.sleep(0.01)
    assert app.state.resources.db.pool_use()[1] <= 1  # nobody waits with a connection in hand
    for writer in writers:
        raw: socket.socket = writer.get_extra_info("socket")
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # reset, not a polite end
        writer.close()
    async with asyncio.timeout(PATIENCE):
        while on_disk(app):
            await asyncio.sleep(0.01)
    listed = await client.get(f"/api/v1/items/{item['id']}/files")
    assert expect(listed, 200) == {"items": []}


@pytest.mark.usefixtures("clean_database")
async def test_a_reader_that_hangs_up_closes_the_file(
    client: AsyncClient, app: FastAPI, server: LiveServer
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    file = await add_file(client, owner, item["id"], b"x" * 20_000_000)
    (path,) = on_disk(app)

    def is_open() -> bool:
        links = Path("/proc/self/fd").iterdir()
        return str(path) in {str(link.readlink()) for link in links if link.is_symlink()}

    async with (
        server.client() as direct,
        direct.stream("GET", f"/api/v1/files/{file['id']}") as got,
    ):
        async for _ in got.aiter_bytes():
            break
        assert is_open()
        async with asyncio.timeout(PATIENCE):  # the app's own tasks borrow some now and then
            while app.state.resources.db.pool_use()[1]:
                await asyncio.sleep(0.01)
        assert is_open()
    async with asyncio.timeout(PATIENCE):
        while is_open():
            await asyncio.sleep(0.01)
