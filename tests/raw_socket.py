"""A WebSocket by hand (RFC 6455): sends what no library would, and costs a load next to nothing."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import urlsplit

_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the RFC's own example: nothing here depends on its being new
HANDSHAKE: Mapping[str, str] = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": _KEY,
    "Sec-WebSocket-Version": "13",
}


class Opcode(IntEnum):
    """What a frame is (section 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True)
class Frame:
    """A frame that came."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """The code of a close frame."""
        return struct.unpack("!H", self.payload[:2])[0] if len(self.payload) > 1 else None


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True
) -> bytes:
    """Return a client's frame, as the RFC wants it or not."""
    head = bytes([fin << 7 | reserved << 4 | opcode]) + _length(len(payload), masked=masked)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def close_frame(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame with a code."""
    return frame(Opcode.CLOSE, struct.pack("!H", code) + reason)


def _length(length: int, *, masked: bool) -> bytes:
    bit = masked << 7
    if length < 126:
        return bytes([bit | length])
    if length < 2**16:
        return bytes([bit | 126]) + struct.pack("!H", length)
    return bytes([bit | 127]) + struct.pack("!Q", length)


def request(path: str, headers: Mapping[str, str], *, method: str = "GET") -> bytes:
    """Return a request, such as the one that opens a WebSocket."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


class RawSocket:
    """A connection whose bytes are ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, *frames: bytes) -> None:
        """Send bytes."""
        self.writer.write(b"".join(frames))

    async def head(self) -> str:
        """Return the head of the answer to the handshake."""
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def read(self) -> Frame:
        """Return the server's next frame."""
        first, second = await self.reader.readexactly(2)
        length = second & 127  # a server never masks
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return Frame(first & 15, await self.reader.readexactly(length))


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[RawSocket]:
    """Connect, and say nothing yet."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.transport.abort()
