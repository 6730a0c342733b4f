"""Files that are announced, sent past the service or by a signed address, and confirmed."""

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from app.clock import now
from app.security import links
from tests.api.files import add_file, on_disk, picture, sha256
from tests.api.test_errors import problem
from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, create_item, expect, new_user

CONTENT = b"announced content"


async def announce(
    client: AsyncClient, tokens: Tokens, item_id: int, content: bytes = CONTENT, **over: Any
) -> Response:
    body = {
        "name": "a.txt",
        "content_type": "text/plain",
        "size": len(content),
        "sha256": sha256(content),
    } | over
    url = f"/api/v1/items/{item_id}/files/presign"
    return await client.post(url, json=body, headers=tokens.headers)


async def confirm(client: AsyncClient, tokens: Tokens, item_id: int, file_id: int) -> Response:
    url = f"/api/v1/items/{item_id}/files/confirm"
    return await client.post(url, json={"id": file_id}, headers=tokens.headers)


async def send(client: AsyncClient, announced: dict[str, Any], content: bytes) -> Response:
    parts = urlsplit(announced["url"])
    url = f"{parts.path}?{parts.query}"
    return await client.put(url, content=content, headers=announced["headers"])


async def test_an_announced_file_is_there_once_it_is_confirmed(client: AsyncClient) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    answer = await announce(client, owner, item["id"])
    announced = expect(answer, 200)
    assert announced["method"] == "PUT"
    url, listed = f"/api/v1/files/{announced['id']}", f"/api/v1/items/{item['id']}/files"
    early = await confirm(client, owner, item["id"], announced["id"])
    problem(early, 409, "UPLOAD_INCOMPLETE")
    assert (await send(client, announced, CONTENT)).status_code == 204
    assert expect(await client.get(listed), 200) == {"items": []}
    problem(await client.get(url, headers=owner.headers), 404, "NOT_FOUND")
    answer = await confirm(client, owner, item["id"], announced["id"])
    file = expect(answer, 201)
    assert answer.headers["location"] == url
    assert (file["sha256"], file["size"]) == (sha256(CONTENT), len(CONTENT))
    assert (await client.get(url)).content == CONTENT
    again = await confirm(client, owner, item["id"], announced["id"])
    assert expect(again, 201) == file
    problem(await send(client, announced, CONTENT), 404, "NOT_FOUND")


@pytest.mark.usefixtures("clean_database")
@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", CONTENT.upper(), b""])
async def test_only_what_was_announced_is_taken(
    client: AsyncClient, app: FastAPI, content: bytes
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    announced = expect(await announce(client, owner, item["id"]), 200)
    problem(await send(client, announced, content), 422, "CHECKSUM_MISMATCH")
    assert on_disk(app) == set()
    early = await confirm(client, owner, item["id"], announced["id"])
    problem(early, 409, "UPLOAD_INCOMPLETE")


async def test_the_type_is_told_from_what_came(client: AsyncClient) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    lying = b"<html><script>alert(1)</script>"
    announced = expect(await announce(client, owner, item["id"], lying), 200)
    assert (await send(client, announced, lying)).status_code == 204
    answer = await confirm(client, owner, item["id"], announced["id"])
    problem(answer, 415, "FILE_TYPE_NOT_ALLOWED")
    answer = await confirm(client, owner, item["id"], announced["id"])
    problem(answer, 409, "UPLOAD_INCOMPLETE")
    announced = expect(await announce(client, owner, item["id"], picture()), 200)
    await send(client, announced, picture())
    file = expect(await confirm(client, owner, item["id"], announced["id"]), 201)
    assert file["content_type"] == "image/png"


async def test_what_would_be_refused_is_refused_when_announced(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(max_file_bytes=1000, file_quota_bytes=1500, max_files_per_item=3)
    client = make_client(app)
    owner, stranger = await new_user(client), await new_user(client)
    item = await create_item(client, owner)
    at = item["id"]
    problem(await announce(client, owner, at, size=1001), 413, "FILE_TOO_LARGE")
    wrong = await announce(client, owner, at, content_type="text/html")
    problem(wrong, 415, "FILE_TYPE_NOT_ALLOWED")
    problem(await announce(client, stranger, at), 403, "FORBIDDEN")
    for over in ({"sha256": "A" * 64}, {"size": -1}, {"name": ""}, {"content_type": "x"}):
        problem(await announce(client, owner, at, **over), 422, "VALIDATION_ERROR")
    # Room is held for what is announced.
    expect(await announce(client, owner, at, size=1000), 200)
    problem(await announce(client, owner, at, size=501), 413, "QUOTA_EXCEEDED")
    expect(await announce(client, owner, at, size=0), 200)
    await add_file(client, owner, at, b"x" * 500)
    problem(await announce(client, owner, at, size=0), 409, "TOO_MANY_FILES")


async def test_nobody_confirms_what_another_announced(client: AsyncClient) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    item, theirs = await create_item(client, owner), await create_item(client, stranger)
    announced = expect(await announce(client, owner, item["id"]), 200)
    await send(client, announced, CONTENT)
    taken = await confirm(client, stranger, theirs["id"], announced["id"])
    problem(taken, 409, "UPLOAD_INCOMPLETE")
    refused = await confirm(client, stranger, item["id"], announced["id"])
    problem(refused, 403, "FORBIDDEN")
    expect(await confirm(client, owner, item["id"], announced["id"]), 201)


async def test_confirming_at_once_adds_the_file_once(client: AsyncClient, app: FastAPI) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    announced = expect(await announce(client, owner, item["id"]), 200)
    await send(client, announced, CONTENT)
    before = on_disk(app)
    answers = await asyncio.gather(
        *(confirm(client, owner, item["id"], announced["id"]) for _ in range(6))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert any(answer.status_code == 201 for answer in answers)
    url = f"/api/v1/files/{announced['id']}"
    assert (await client.get(url)).content == CONTENT
    assert len(on_disk(app)) == len(before)


async def test_a_signed_address_takes_its_file_alone_until_it_expires(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    first = expect(await announce(client, owner, item["id"]), 200)
    second = expect(await announce(client, owner, item["id"]), 200)
    swapped = first["url"].replace(f"/{first['id']}/", f"/{second['id']}/")
    problem(await send(client, {**first, "url": swapped}, CONTENT), 403, "INVALID_SIGNATURE")
    query = urlsplit(first["url"]).query
    problem(await client.get(f"/api/v1/files/{first['id']}?{query}"), 403, "INVALID_SIGNATURE")
    monkeypatch.setattr(links, "now", lambda: now() + timedelta(hours=1, seconds=1))
    problem(await send(client, first, CONTENT), 403, "INVALID_SIGNATURE")
