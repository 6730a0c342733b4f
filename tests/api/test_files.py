"""Files of items: uploads, who may have them, and what a client gets."""

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.services import uploads
from tests.api.files import (
    BOUNDARY,
    FORM_TYPE,
    GIF,
    add_file,
    form,
    in_pieces,
    on_disk,
    picture,
    sha256,
    upload,
)
from tests.api.test_errors import problem
from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, admin, create_item, expect, new_user
from tests.patience import within


async def test_an_uploaded_file_is_described_listed_and_downloaded(client: AsyncClient) -> None:
    tokens = await new_user(client)
    item = await create_item(client, tokens)
    answer = await upload(client, tokens, item["id"], b"hello", name="notes.txt")
    (file,) = expect(answer, 201)["items"]
    assert answer.headers["location"] == f"/api/v1/files/{file['id']}"
    described = {k: file[k] for k in ("item_id", "name", "content_type", "size", "sha256")}
    assert described == {
        "item_id": item["id"],
        "name": "notes.txt",
        "content_type": "text/plain",
        "size": 5,
        "sha256": sha256(b"hello"),
    }
    assert file["thumbnail_url"] is None
    listed = await client.get(f"/api/v1/items/{item['id']}/files")
    assert expect(listed, 200) == {"items": [file]}
    answer = await client.get(f"/api/v1/files/{file['id']}")
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert answer.headers["etag"] == f'"{sha256(b"hello")}"'
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-length"] == "5"
    assert answer.headers["accept-ranges"] == "bytes"
    assert parsedate_to_datetime(answer.headers["last-modified"])


async def test_version_2_spells_in_camel_case(client: AsyncClient) -> None:
    tokens = await new_user(client)
    item = await create_item(client, tokens)
    sent = {"files": ("a.txt", b"a")}
    url = f"/api/v2/items/{item['id']}/files"
    answer = await client.post(url, files=sent, headers=tokens.headers)
    (file,) = expect(answer, 201)["items"]
    assert {"itemId", "contentType", "createdAt", "thumbnailUrl"} < set(file)
    assert answer.headers["location"] == f"/api/v2/files/{file['id']}"


async def test_many_files_come_in_one_upload(client: AsyncClient) -> None:
    tokens = await new_user(client)
    item = await create_item(client, tokens)
    answer = await upload(client, tokens, item["id"], b"one", b"two", picture(), b"")
    files = expect(answer, 201)["items"]
    assert [file["size"] for file in files] == [3, 3, len(picture()), 0]
    assert [file["content_type"] for file in files] == [
        "text/plain",
        "text/plain",
        "image/png",
        "text/plain",
    ]
    for file, content in zip(files, (b"one", b"two", picture(), b""), strict=True):
        assert (await client.get(f"/api/v1/files/{file['id']}")).content == content


@pytest.mark.usefixtures("clean_database")
async def test_one_bad_file_refuses_the_whole_upload(client: AsyncClient, app: FastAPI) -> None:
    tokens = await new_user(client)
    item = await create_item(client, tokens)
    answer = await upload(client, tokens, item["id"], b"fine", b"\x7fELF\x02\x01\x01" + bytes(99))
    problem(answer, 415, "FILE_TYPE_NOT_ALLOWED")
    listed = await client.get(f"/api/v1/items/{item['id']}/files")
    assert expect(listed, 200) == {"items": []}
    assert on_disk(app) == set()


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (picture(), "a.txt", "image/png"),
        (picture(kind="JPEG"), "a.exe", "image/jpeg"),
        (picture(kind="WEBP"), "a", "image/webp"),
        (GIF, "a.html", "image/gif"),
        (b"%PDF-1.7\n...", "a.png", "application/pdf"),
        ("grüße\n".encode(), "a.md", "text/plain"),
        (b"a,b\n1,2\n", "a.csv", "text/csv"),
        (b'{"a": 1}', "a.json", "application/json"),
        (b"not json", "a.json", "text/plain"),
    ],
)
async def test_the_type_is_told_from_the_content(
    client: AsyncClient, somebody: Tokens, content: bytes, name: str, kind: str
) -> None:
    item = await create_item(client, somebody)
    file = await add_file(client, somebody, item["id"], content, name=name)
    assert file["content_type"] == kind


@pytest.mark.parametrize(
    "content",
    [
        b"MZ\x90\x00" + bytes(200),
        b"\x7fELF" + bytes(200),
        b"<!DOCTYPE html><script>alert(1)</script>",
        b" \n<html onload=x>",
        b"\xef\xbb\xbf<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>",
        b"<?xml version='1.0'?><!-- --><svg/>",
        b"\x00\x01\x02\x03",
        b"latin \xe9\xe8",
    ],
)
async def test_what_is_not_allowed_is_refused_whatever_its_name(
    client: AsyncClient, somebody: Tokens, content: bytes
) -> None:
    item = await create_item(client, somebody)
    answer = await upload(client, somebody, item["id"], content, name="picture.png")
    problem(answer, 415, "FILE_TYPE_NOT_ALLOWED")


@pytest.mark.parametrize(
    "polyglot",
    [
        GIF + b"/*<script>alert(1)</script>*/=1;",
        b"%PDF-1.4\n<html><script>alert(1)</script></html>",
        picture() + b"<?php system('id'); ?><script>alert(1)</script>",
        b"hello <script>alert(1)</script>",
    ],
)
async def test_polyglots_are_inert(client: AsyncClient, somebody: Tokens, polyglot: bytes) -> None:
    item = await create_item(client, somebody)
    file = await add_file(client, somebody, item["id"], polyglot, name="x.html")
    headers = (await client.get(f"/api/v1/files/{file['id']}")).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"].startswith("attachment;")
    assert headers["content-security-policy"].startswith("sandbox;")
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "private, no-cache"
    assert "html" not in headers["content-type"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("grüße 😀.txt", "grüße 😀.txt"),
        ("..", "file"),
        ("", "file"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("x" * 400 + ".txt", "x" * 251 + ".txt"),
        ("a;b=c'd.txt", "a;b=c'd.txt"),
    ],
)
async def test_a_name_is_only_ever_a_name(
    client: AsyncClient, somebody: Tokens, app: FastAPI, sent: str, kept: str
) -> None:
    item = await create_item(client, somebody)
    url = f"/api/v1/items/{item['id']}/files"
    headers = {**somebody.headers, "Content-Type": FORM_TYPE}
    answer = await client.post(url, content=form(b"a", sent), headers=headers)
    (file,) = expect(answer, 201)["items"]
    assert file["name"] == kept
    disposition = (await client.get(f"/api/v1/files/{file['id']}")).headers["content-disposition"]
    plain, exact = disposition.removeprefix('attachment; filename="').split("\"; filename*=UTF-8''")
    assert plain.isascii()
    assert not set(plain) & set('"\\/;\r\n')
    assert not set(exact) & set("\"\\/; '\r\n")
    assert all(path.name.removesuffix(".thumbnail").isalnum() for path in on_disk(app))


async def test_a_file_follows_its_item(client: AsyncClient, app: FastAPI) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    boss = await admin(client, app)
    item = await create_item(client, owner)
    file = await add_file(client, owner, item["id"])
    url, listed = f"/api/v1/files/{file['id']}", f"/api/v1/items/{item['id']}/files"
    expect(await client.get(listed), 200)
    assert (await client.get(url)).status_code == 200
    problem(await client.delete(url, headers=stranger.headers), 403, "FORBIDDEN")
    problem(await upload(client, stranger, item["id"], b"a"), 403, "FORBIDDEN")
    at = f"/api/v1/items/{item['id']}"
    await client.patch(at, json={"visibility": "private"}, headers=owner.headers)
    for headers in ({}, stranger.headers):
        hidden = problem(await client.get(url, headers=headers), 404, "NOT_FOUND")
        unknown = problem(
            await client.get(f"/api/v1/files/{2**62}", headers=headers), 404, "NOT_FOUND"
        )
        assert hidden["detail"] == unknown["detail"]
        problem(await client.get(listed, headers=headers), 404, "NOT_FOUND")
    problem(await upload(client, stranger, item["id"], b"a"), 404, "NOT_FOUND")
    assert (await client.get(url, headers=boss.headers)).status_code == 200
    await client.delete(at, headers=owner.headers)
    for who in (owner, boss):
        problem(await client.get(url, headers=who.headers), 404, "NOT_FOUND")
        problem(await upload(client, who, item["id"], b"a"), 404, "NOT_FOUND")
    await client.post(f"{at}/restore", headers=owner.headers)
    assert (await client.get(url, headers=owner.headers)).content == b"hello"


@pytest.mark.usefixtures("clean_database")
async def test_a_deleted_file_is_gone_with_its_content(client: AsyncClient, app: FastAPI) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    file = await add_file(client, owner, item["id"])
    assert len(on_disk(app)) == 1
    url = f"/api/v1/files/{file['id']}"
    assert (await client.delete(url, headers=owner.headers)).status_code == 204
    problem(await client.get(url, headers=owner.headers), 404, "NOT_FOUND")
    problem(await client.delete(url, headers=owner.headers), 404, "NOT_FOUND")
    assert on_disk(app) == set()


async def test_a_repeat_with_its_key_gets_the_first_answer(
    client: AsyncClient, app: FastAPI
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    key = {"Idempotency-Key": "once"}
    first = await upload(client, owner, item["id"], b"a", **key)
    before = on_disk(app)
    again = await upload(client, owner, item["id"], b"a", **key)
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.content, again.status_code) == (first.content, 201)
    assert again.headers["location"] == first.headers["location"]
    other = await upload(client, owner, item["id"], b"b", **key)
    problem(other, 422, "IDEMPOTENCY_KEY_REUSED")
    listed = await client.get(f"/api/v1/items/{item['id']}/files")
    assert len(expect(listed, 200)["items"]) == 1
    assert on_disk(app) == before


async def test_what_is_no_form_is_refused(client: AsyncClient) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    url = f"/api/v1/items/{item['id']}/files"

    async def send(content: bytes, kind: str, status: int, code: str) -> None:
        headers = {**owner.headers, "Content-Type": kind}
        problem(await client.post(url, content=content, headers=headers), status, code)

    await send(b"{}", "application/json", 415, "UNSUPPORTED_MEDIA_TYPE")
    await send(b"x", "multipart/form-data", 400, "BAD_REQUEST")
    await send(b"x", f"multipart/form-data; boundary={'b' * 71}", 400, "BAD_REQUEST")
    await send(b"nonsense", FORM_TYPE, 400, "BAD_REQUEST")
    await send(b"", FORM_TYPE, 400, "BAD_REQUEST")
    await send(f"--{BOUNDARY}--\r\n".encode(), FORM_TYPE, 422, "VALIDATION_ERROR")
    await send(form(b"a").replace(b'; filename="a.txt"', b""), FORM_TYPE, 422, "VALIDATION_ERROR")
    await send(form(b"a").replace(b'name="file"', b'name="q"'), FORM_TYPE, 422, "VALIDATION_ERROR")
    await send(form(b"a", "a\0.txt"), FORM_TYPE, 422, "VALIDATION_ERROR")
    await send(form(b"a").replace(b"form-data;", b"inline;"), FORM_TYPE, 400, "BAD_REQUEST")
    await send(form(b"a").replace(b"Content-D", b"X-D"), FORM_TYPE, 400, "BAD_REQUEST")
    long_header = b"X-Long: " + b"x" * 4000 + b"\r\n\r\na"
    await send(
        form(b"a").replace(b"\r\n\r\na", b"\r\n" + long_header), FORM_TYPE, 400, "BAD_REQUEST"
    )
    many = b"".join(b"X-%d: y\r\n" % n for n in range(20)) + b"\r\na"
    await send(form(b"a").replace(b"\r\na", many), FORM_TYPE, 400, "BAD_REQUEST")


@pytest.mark.usefixtures("clean_database")
@pytest.mark.parametrize("cut", [1, 60, 150, 300])
async def test_a_body_that_ends_too_early_leaves_nothing(
    client: AsyncClient, app: FastAPI, cut: int
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    body = form(b"x" * 200)[:cut]
    headers = {**owner.headers, "Content-Type": FORM_TYPE}
    url = f"/api/v1/items/{item['id']}/files"
    problem(await client.post(url, content=body, headers=headers), 400, "BAD_REQUEST")
    assert on_disk(app) == set()


@pytest.mark.usefixtures("clean_database")
@pytest.mark.parametrize(("bound", "pause"), [("PATIENCE_SECONDS", 5.0), ("LONGEST_SECONDS", 0.05)])
async def test_a_client_that_stops_or_drips_is_not_waited_for(
    client: AsyncClient,
    app: FastAPI,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    pause: float,
) -> None:
    monkeypatch.setattr(uploads, bound, 0.2)
    owner = await new_user(client)
    item = await create_item(client, owner)
    body = form(b"x" * 1000)

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:300]
        for at in range(300, 400):
            await asyncio.sleep(pause)
            yield body[at : at + 1]

    headers = {**owner.headers, "Content-Type": FORM_TYPE}
    url = f"/api/v1/items/{item['id']}/files"
    async with within(4):
        answer = await client.post(url, content=slowly(), headers=headers)
    problem(answer, 408, "REQUEST_TIMEOUT")
    assert on_disk(app) == set()


async def test_limits_are_exact_to_the_byte(make_app: MakeApp, make_client: MakeClient) -> None:
    app = await make_app(max_file_bytes=100_000, file_quota_bytes=250_000)
    client = make_client(app)
    owner = await new_user(client)
    item = await create_item(client, owner)
    too_large = await upload(client, owner, item["id"], b"x" * 100_001)
    problem(too_large, 413, "FILE_TOO_LARGE")
    # Also where nothing says so beforehand, and whatever it is.
    headers = {**owner.headers, "Content-Type": FORM_TYPE}
    url = f"/api/v1/items/{item['id']}/files"
    body = form(bytes(100_001))
    pieces = in_pieces(*(body[at : at + 1000] for at in range(0, len(body), 1000)))
    problem(await client.post(url, content=pieces, headers=headers), 413, "FILE_TOO_LARGE")
    file = await add_file(client, owner, item["id"], b"x" * 100_000)
    assert file["size"] == 100_000
    await add_file(client, owner, item["id"], b"y" * 100_000)
    answer = await upload(client, owner, item["id"], b"z" * 50_001)
    problem(answer, 413, "QUOTA_EXCEEDED")
    await add_file(client, owner, item["id"], b"z" * 50_000)
    problem(await upload(client, owner, item["id"], b""), 413, "QUOTA_EXCEEDED")
    await client.delete(f"/api/v1/files/{file['id']}", headers=owner.headers)
    await add_file(client, owner, item["id"], b"x" * 100_000)
    other = await new_user(client)
    theirs = await create_item(client, other)
    await add_file(client, other, theirs["id"], b"x" * 100_000)


async def test_a_whole_upload_is_bounded_too(make_app: MakeApp, make_client: MakeClient) -> None:
    app = await make_app(max_upload_bytes=10_000, max_files_per_upload=3, max_files_per_item=4)
    client = make_client(app)
    owner = await new_user(client)
    item = await create_item(client, owner)
    answer = await upload(client, owner, item["id"], b"x" * 6000, b"x" * 6000)
    problem(answer, 413, "PAYLOAD_TOO_LARGE")
    problem(await upload(client, owner, item["id"], *[b"x"] * 4), 413, "PAYLOAD_TOO_LARGE")
    expect(await upload(client, owner, item["id"], *[b"x"] * 3), 201)
    problem(await upload(client, owner, item["id"], *[b"x"] * 2), 409, "TOO_MANY_FILES")
    expect(await upload(client, owner, item["id"], b"x"), 201)


async def test_a_limit_of_other_bodies_stays(client: AsyncClient) -> None:
    owner = await new_user(client)
    answer = await client.post(
        "/api/v1/items", content=b" " * (2 * 1024 * 1024 + 1), headers=owner.headers
    )
    problem(answer, 413, "PAYLOAD_TOO_LARGE")


async def test_a_quota_holds_against_uploads_at_once(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(file_quota_bytes=5000, database_pool_timeout=20.0)
    client = make_client(app)
    owner = await new_user(client)
    item = await create_item(client, owner)
    answers = await asyncio.gather(
        *(upload(client, owner, item["id"], b"x" * 1000) for _ in range(12))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [413] * 7
    listed = await client.get(f"/api/v1/items/{item['id']}/files")
    assert sum(file["size"] for file in expect(listed, 200)["items"]) == 5000


async def test_thousands_of_parts_are_refused_at_once(client: AsyncClient) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\na\r\n'
    body = part.encode() * 10_000 + f"--{BOUNDARY}--\r\n".encode()
    headers = {**owner.headers, "Content-Type": FORM_TYPE}
    url = f"/api/v1/items/{item['id']}/files"
    started = time.process_time()
    pieces = in_pieces(*(body[at : at + 65536] for at in range(0, len(body), 65536)))
    problem(await client.post(url, content=pieces, headers=headers), 413, "PAYLOAD_TOO_LARGE")
    assert time.process_time() - started < 1
