"""Thumbnails: made in the background, upright, without what a camera noted, and of no bomb."""

import asyncio
import io
import struct
import time
import zlib
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from PIL import Image

from app.services import thumbnails
from tests.api.files import GIF, add_file, picture
from tests.api.test_errors import problem
from tests.factories import Tokens, create_item, expect, new_user
from tests.patience import PATIENCE


async def described(client: AsyncClient, tokens: Tokens, file: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of a file now."""
    url = f"/api/v1/items/{file['item_id']}/files"
    listed = expect(await client.get(url, headers=tokens.headers), 200)["items"]
    found: dict[str, Any] = next(each for each in listed if each["id"] == file["id"])
    return found


async def with_thumbnail(
    client: AsyncClient, tokens: Tokens, file: dict[str, Any]
) -> dict[str, Any]:
    """Return what is told of a file once it has a thumbnail."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await described(client, tokens, file))["thumbnail_url"]:
            await asyncio.sleep(0.02)
    return found


def png_head(width: int, height: int) -> bytes:
    """Return a PNG that says it has so many pixels, with little behind it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(10_000))
    chunks = (head, data, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each))
        for each in chunks
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_an_image_gets_a_small_picture(client: AsyncClient, kind: str) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner, visibility="private")
    file = await add_file(client, owner, item["id"], picture(1600, 800, kind))
    file = await with_thumbnail(client, owner, file)
    assert file["thumbnail_url"] == f"/api/files/{file['id']}/thumbnail"
    assert (await client.get(file["thumbnail_url"], headers=owner.headers)).status_code == 200
    url = f"/api/v1/files/{file['id']}/thumbnail"
    answer = await client.get(url, headers=owner.headers)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == "private, max-age=3600"
    assert "authorization, x-api-key" in answer.headers["vary"].lower()
    small = Image.open(io.BytesIO(answer.content))
    assert small.size == (320, 160)
    known = {**owner.headers, "If-None-Match": answer.headers["etag"]}
    assert (await client.get(url, headers=known)).status_code == 304
    stranger = await new_user(client)
    for headers in ({}, stranger.headers):
        problem(await client.get(url, headers=headers), 404, "NOT_FOUND")
    await client.delete(f"/api/v1/files/{file['id']}", headers=owner.headers)
    problem(await client.get(url, headers=owner.headers), 404, "NOT_FOUND")


async def test_what_is_no_image_has_none(client: AsyncClient) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    file = await add_file(client, owner, item["id"])
    url = f"/api/v1/files/{file['id']}/thumbnail"
    problem(await client.get(url, headers=owner.headers), 404, "NOT_FOUND")


async def test_a_damaged_image_is_a_file_without_a_thumbnail(
    client: AsyncClient, app: FastAPI
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    file = await add_file(client, owner, item["id"], picture()[:50])
    with pytest.raises(thumbnails.NotAPicture):
        await app.state.resources.files.make_thumbnail(file["id"])
    assert (await described(client, owner, file))["thumbnail_url"] is None


def test_it_stands_upright_and_tells_nothing_of_the_camera() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    exif[0x010F] = "Canary Cameras"
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)  # where it was taken
    source = io.BytesIO()
    Image.new("RGB", (400, 200), "red").save(source, "JPEG", exif=exif, comment=b"Canary")
    source.seek(0)
    made = thumbnails.make(source)
    small = Image.open(io.BytesIO(made))
    assert small.size == (160, 320)
    assert not small.getexif()
    assert b"Canary" not in made
    assert b"EXIF" not in made


def test_transparency_stays() -> None:
    source = io.BytesIO()
    Image.new("RGBA", (400, 200), (0, 0, 0, 0)).save(source, "PNG")
    source.seek(0)
    small = Image.open(io.BytesIO(thumbnails.make(source)))
    assert small.convert("RGBA").getpixel((0, 0)) == (0, 0, 0, 0)


def test_a_large_photograph_is_decoded_small() -> None:
    made = thumbnails.make(io.BytesIO(picture(6_000, 5_000, "JPEG")))
    assert Image.open(io.BytesIO(made)).size == (320, 267)


@pytest.mark.parametrize(
    "bomb",
    [
        png_head(50_000, 50_000),
        png_head(2**31 - 1, 2**31 - 1),
        png_head(5_000, 5_000),
        picture(4_100, 4_100),
        GIF[:6] + struct.pack("<HH", 65_535, 65_535) + GIF[10:],
        b"",
        b"no picture",
        picture()[:40],
        b"BM" + bytes(100),
    ],
)
def test_bombs_and_damage_are_refused_within_a_second(bomb: bytes) -> None:
    started = time.process_time()
    with pytest.raises(thumbnails.NotAPicture):
        thumbnails.make(io.BytesIO(bomb))
    assert time.process_time() - started < 1
