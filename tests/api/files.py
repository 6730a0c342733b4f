"""What the tests of files share: contents, and the ways to send them."""

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from httpx import AsyncClient, Response

from tests.factories import Tokens, expect

GIF = bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")
BOUNDARY = "kingpost-test-boundary"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def picture(width: int = 40, height: int = 20, kind: str = "PNG", **options: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "navy").save(buffer, kind, **options)
    return buffer.getvalue()


async def upload(
    client: AsyncClient,
    tokens: Tokens,
    item_id: int,
    *contents: bytes,
    name: str = "a.txt",
    **headers: str,
) -> Response:
    sent = [("file", (name, content)) for content in contents]
    url = f"/api/v1/items/{item_id}/files"
    return await client.post(url, files=sent, headers={**tokens.headers, **headers})


async def add_file(
    client: AsyncClient, tokens: Tokens, item_id: int, content: bytes = b"hello", **options: Any
) -> dict[str, Any]:
    """Upload one file and return what is answered of it."""
    answer = await upload(client, tokens, item_id, content, **options)
    file: dict[str, Any] = expect(answer, 201)["items"][0]
    return file


def form(content: bytes, name: str = "a.txt") -> bytes:
    """Return a multipart body with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


async def in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def on_disk(app: FastAPI) -> set[Path]:
    """Return every file that the local storage holds, half written ones too."""
    folder = app.state.resources.settings.data_dir / "files"
    return {path for path in folder.rglob("*") if path.is_file()}
