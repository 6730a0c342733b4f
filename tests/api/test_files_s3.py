"""The same files, kept in S3."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.loaders import JSONFileLoader
from fastapi import FastAPI
from httpx import AsyncClient

from app.adapters.storage_s3 import PART_BYTES
from tests.api.files import FORM_TYPE, add_file, form, picture, upload
from tests.api.test_errors import problem
from tests.api.test_files_presign import CONTENT, announce, confirm
from tests.api.test_files_thumbnails import with_thumbnail
from tests.backends import Backend, Place
from tests.conftest import MakeApp, MakeClient, new_app, settings_in
from tests.factories import create_item, expect, new_user
from tests.live_server import running
from tests.patience import PATIENCE
from tests.s3 import Bucket, new_bucket, s3_server

pytestmark = pytest.mark.only("embedded")  # what the database is makes no difference here


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(scope="module")
def shared_bucket(s3_url: str) -> Bucket:
    return new_bucket(s3_url)


@pytest.fixture(scope="module")
async def s3_app(
    shared_place: Callable[[Backend], Place], shared_bucket: Bucket
) -> AsyncIterator[FastAPI]:
    settings = settings_in(shared_place(Backend.EMBEDDED), **shared_bucket.settings)
    async with running(new_app(settings)) as app:
        yield app


@pytest.fixture
def bucket(shared_bucket: Bucket) -> Bucket:
    shared_bucket.clear()
    return shared_bucket


@pytest.fixture
async def client(s3_app: FastAPI, make_client: MakeClient) -> AsyncClient:
    return make_client(s3_app)


async def test_small_and_large_contents_are_kept_and_read(
    client: AsyncClient, bucket: Bucket
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    for size in (0, 1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 7):
        content = (b"0123456789" * (size // 10 + 1))[:size]
        file = await add_file(client, owner, item["id"], content)
        url = f"/api/v1/files/{file['id']}"
        answer = await client.get(url)
        assert answer.content == content
        if size > 1:
            part = await client.get(url, headers={"Range": f"bytes={size - 3}-"})
            assert (part.status_code, part.content) == (206, content[-3:])
        await client.delete(url, headers=owner.headers)
        problem(await client.get(url), 404, "NOT_FOUND")
    assert bucket.objects() == set()
    assert bucket.unfinished() == 0


async def test_no_request_waits_while_the_client_reads_its_models(
    make_app: MakeApp, make_client: MakeClient, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await make_app(**bucket.settings)
    client = make_client(app)
    read: list[str] = []
    load_file = JSONFileLoader.load_file

    def noting(self: JSONFileLoader, path: str) -> Any:
        read.append(path)
        return load_file(self, path)

    monkeypatch.setattr(JSONFileLoader, "load_file", noting)
    owner = await new_user(client)
    item = await create_item(client, owner)
    file = await add_file(client, owner, item["id"], b"content")
    assert (await client.get(f"/api/v1/files/{file['id']}")).content == b"content"
    assert (await app.state.resources.files.storage.check()) is None
    assert read == []


async def test_a_storage_whose_keys_cannot_be_had_keeps_no_service_from_starting(
    make_app: MakeApp,
    make_client: MakeClient,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "config"  # a way to credentials that leads nowhere
    config.write_text("[default]\ncredential_process = /nonexistent/credentials\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    keyless = bucket.settings | {"s3_access_key_id": None, "s3_secret_access_key": None}
    client = make_client(await make_app(**keyless))
    owner = await new_user(client)
    item = await create_item(client, owner)
    answer = await upload(client, owner, item["id"], b"content")
    problem(answer, 503, "STORAGE_UNAVAILABLE")


@pytest.mark.parametrize("size", [100, 2 * PART_BYTES])
async def test_an_upload_that_is_cut_off_leaves_nothing(
    client: AsyncClient, bucket: Bucket, size: int
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    headers = {**owner.headers, "Content-Type": FORM_TYPE}
    url = f"/api/v1/items/{item['id']}/files"
    body = form(b"x" * size)[:-20]
    problem(await client.post(url, content=body, headers=headers), 400, "BAD_REQUEST")
    assert bucket.objects() == set()
    assert bucket.unfinished() == 0


async def test_one_bad_file_of_many_leaves_nothing(client: AsyncClient, bucket: Bucket) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    answer = await upload(client, owner, item["id"], b"fine", b"\x00\x01\x02")
    problem(answer, 415, "FILE_TYPE_NOT_ALLOWED")
    assert bucket.objects() == set()


async def test_an_image_gets_its_thumbnail(client: AsyncClient, bucket: Bucket) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    file = await add_file(client, owner, item["id"], picture(500, 500))
    file = await with_thumbnail(client, owner, file)
    answer = await client.get(file["thumbnail_url"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert len(bucket.objects()) == 2
    await client.delete(f"/api/v1/files/{file['id']}", headers=owner.headers)
    assert bucket.objects() == set()


async def put(announced: dict[str, Any], content: bytes, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=PATIENCE) as direct:
        return await direct.put(
            announced["url"], content=content, headers=announced["headers"] | headers
        )


async def test_a_client_uploads_straight_into_the_bucket(
    client: AsyncClient, bucket: Bucket
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    announced = expect(await announce(client, owner, item["id"]), 200)
    assert announced["url"].startswith(f"{bucket.url}/{bucket.name}/incoming/")
    # What the address insists on: the service that checks it is S3 itself.
    signed = httpx.URL(announced["url"]).params["X-Amz-SignedHeaders"].split(";")
    assert {"content-length", "content-type", "x-amz-checksum-sha256"} <= set(signed)
    early = await confirm(client, owner, item["id"], announced["id"])
    problem(early, 409, "UPLOAD_INCOMPLETE")
    assert (await put(announced, CONTENT)).status_code == 200
    file = expect(await confirm(client, owner, item["id"], announced["id"]), 201)
    assert (await client.get(f"/api/v1/files/{file['id']}")).content == CONTENT
    assert len(bucket.objects()) == 1
    # Sent again to the same address, it does not reach the file.
    await put(announced, CONTENT.upper())
    assert (await client.get(f"/api/v1/files/{file['id']}")).content == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", CONTENT.upper()])
async def test_what_was_not_announced_is_refused_when_confirmed(
    client: AsyncClient, bucket: Bucket, content: bytes
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    announced = expect(await announce(client, owner, item["id"]), 200)
    name = httpx.URL(announced["url"]).path.removeprefix(f"/{bucket.name}/")
    bucket.put(name, content)  # as an S3 would let pass that checks nothing
    answer = await confirm(client, owner, item["id"], announced["id"])
    problem(answer, 422, "CHECKSUM_MISMATCH")
    assert bucket.objects() == set()


async def test_a_link_leads_straight_to_the_bucket(client: AsyncClient, bucket: Bucket) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner, visibility="private")
    file = await add_file(client, owner, item["id"], name="grüße.txt")
    answer = await client.post(f"/api/v1/files/{file['id']}/url", json={}, headers=owner.headers)
    link = expect(answer, 200)["url"]
    assert link.startswith(bucket.url)
    async with httpx.AsyncClient(timeout=PATIENCE) as direct:
        got = await direct.get(link)
    assert (got.status_code, got.content) == (200, b"hello")
    assert got.headers["content-disposition"].startswith("attachment;")


async def test_without_the_storage_files_are_unavailable_and_all_else_goes_on(
    make_app: MakeApp, make_client: MakeClient, bucket: Bucket
) -> None:
    app = await make_app(**bucket.settings | {"s3_endpoint_url": "http://127.0.0.1:9"})
    client = make_client(app)
    owner = await new_user(client)
    item = await create_item(client, owner)
    answer = await upload(client, owner, item["id"], b"hello")
    problem(answer, 503, "STORAGE_UNAVAILABLE")
    assert answer.headers["retry-after"]
    expect(await client.get(f"/api/v1/items/{item['id']}"), 200)
    ready = expect(await client.get("/health/ready"), 200)
    assert ready["checks"]["storage"]["status"] == "degraded"


async def test_the_bucket_is_asked_whether_it_is_there(client: AsyncClient) -> None:
    ready = expect(await client.get("/health/ready"), 200)
    assert ready["checks"]["storage"] | {"duration_ms": 0} == {
        "status": "ok",
        "detail": "S3",
        "duration_ms": 0,
    }
