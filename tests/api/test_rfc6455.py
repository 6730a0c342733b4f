"""`WS /ws` as RFC 6455 has it, byte by byte, on Uvicorn as production runs it."""

import asyncio
import contextlib
import json
import struct
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.factories import Tokens
from tests.live_server import LiveServer
from tests.patience import PATIENCE
from tests.raw_socket import (
    HANDSHAKE,
    Frame,
    Opcode,
    RawSocket,
    close_frame,
    connection,
    frame,
    request,
)

pytestmark = pytest.mark.only("embedded")  # the protocol knows nothing of what is behind it

DEADLINE = PATIENCE
PING = b'{"action":"ping"}'
EURO = "€".encode()


@pytest.fixture
def tokens(somebody: Tokens) -> Tokens:
    return somebody


@asynccontextmanager
async def welcome(server: LiveServer, tokens: Tokens) -> AsyncIterator[RawSocket]:
    async with asyncio.timeout(DEADLINE), connection(server.url) as raw:
        raw.write(request("/ws", {**HANDSHAKE, **tokens.headers}))
        assert (await raw.head()).startswith("HTTP/1.1 101 ")
        assert json.loads((await raw.read()).payload)["type"] == "welcome"
        yield raw


async def answer_to(server: LiveServer, sent: bytes) -> str:
    """Return the head of the answer; the server has to end the connection, too."""
    async with asyncio.timeout(DEADLINE), connection(server.url) as raw:
        raw.write(sent)
        text = (await raw.reader.read()).decode()
    return text.partition("\r\n\r\n")[0]


async def closing_frame(raw: RawSocket) -> Frame:
    """Return the frame that the server closes with; nothing may follow it."""
    while (found := await raw.read()).opcode != Opcode.CLOSE:
        pass
    raw.write(frame(Opcode.CLOSE, found.payload))
    with contextlib.suppress(ConnectionResetError):  # it need not wait for what we say
        assert await raw.reader.read() == b""
    return found


async def pong_of_the_service(raw: RawSocket) -> bool:
    return (await raw.read()).payload == b'{"type":"pong"}'


# ── The opening handshake (section 4.2) ──────────────────────────────────────────────────────────


async def test_the_handshake_is_answered_by_the_key_of_the_rfc_and_no_extension(
    server: LiveServer, tokens: Tokens
) -> None:
    offered = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    async with asyncio.timeout(DEADLINE), connection(server.url) as raw:
        raw.write(request("/ws", {**HANDSHAKE, **tokens.headers, **offered}))
        head = (await raw.head()).lower()
    assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
    assert "sec-websocket-extensions" not in head


@pytest.mark.parametrize("version", ["12", "0", "14", "thirteen"])
async def test_another_version_is_told_which_one_there_is(server: LiveServer, version: str) -> None:
    head = await answer_to(server, request("/ws", {**HANDSHAKE, "Sec-WebSocket-Version": version}))
    assert head.startswith("HTTP/1.1 426 ")
    assert "sec-websocket-version: 13" in head.lower()


@pytest.mark.parametrize(
    "change",
    [
        {"Sec-WebSocket-Key": ""},
        {"Sec-WebSocket-Key": "c2hvcnQ="},
        {"Sec-WebSocket-Key": "not base64!"},
        {"Content-Length": "5"},
        {"Transfer-Encoding": "chunked"},
        {f"X-{number}": "1" for number in range(200)},
        {"X-Long": "x" * 10_000},
    ],
    ids=["empty key", "short key", "odd key", "a body", "a chunked body", "200 headers", "long"],
)
async def test_a_malformed_handshake_is_refused_and_the_connection_ends(
    server: LiveServer, change: dict[str, str]
) -> None:
    head = await answer_to(server, request("/ws", {**HANDSHAKE, **change}))
    assert head.startswith("HTTP/1.1 400 ")


async def test_a_handshake_without_its_key_is_400(server: LiveServer) -> None:
    headers = {name: value for name, value in HANDSHAKE.items() if name != "Sec-WebSocket-Key"}
    assert (await answer_to(server, request("/ws", headers))).startswith("HTTP/1.1 400 ")


async def test_a_handshake_by_another_method_is_405(server: LiveServer) -> None:
    head = await answer_to(server, request("/ws", HANDSHAKE, method="POST"))
    assert head.startswith("HTTP/1.1 405 ")


async def test_there_is_no_websocket_elsewhere(server: LiveServer) -> None:
    head = await answer_to(server, request("/api/v1/items", HANDSHAKE))
    assert head.split()[1] in ("403", "404")


# ── Frames (section 5) ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([frame(Opcode.TEXT, PING, masked=False)], 1002),
        *[([frame(Opcode.TEXT, PING, reserved=bit)], 1002) for bit in (1, 2, 4)],
        *[([frame(opcode, PING)], 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        ([frame(Opcode.CONTINUATION, PING)], 1002),
        ([frame(Opcode.TEXT, b"{", fin=False), frame(Opcode.TEXT, b"}")], 1002),
        ([frame(Opcode.PING, b"x" * 126)], 1002),
        ([frame(Opcode.PONG, b"x" * 126)], 1002),
        ([frame(Opcode.CLOSE, b"\x03\xe8" + b"x" * 124)], 1002),
        ([frame(Opcode.PING, fin=False)], 1002),
        ([frame(Opcode.CLOSE, b"\x03\xe8", fin=False)], 1002),
        # A length of 64 bits with the highest set; one that is beyond the limit; one split in two.
        ([b"\x81\xff" + struct.pack("!Q", 2**63 + 5) + b"mask"], 1009),
        ([b"\x81\xff" + struct.pack("!Q", 2**63 - 1) + b"mask"], 1009),
        ([frame(Opcode.TEXT, b"x" * (64 * 1024 + 1))], 1009),
        ([frame(Opcode.TEXT, b"x" * 40_000, fin=False), frame(0, b"x" * 30_000)], 1009),
        # Not UTF-8: a lone byte, an overlong form, a surrogate, a letter cut in two for good.
        ([frame(Opcode.TEXT, b"\xff")], 1007),
        ([frame(Opcode.TEXT, b"\xc0\xaf")], 1007),
        ([frame(Opcode.TEXT, b"\xed\xa0\x80")], 1007),
        ([frame(Opcode.TEXT, b"\xf4\x90\x80\x80")], 1007),
        ([frame(Opcode.TEXT, EURO[:2])], 1007),
        ([frame(Opcode.TEXT, EURO[:1], fin=False), frame(0, b"x")], 1007),
        ([frame(Opcode.BINARY, PING)], 1003),
    ],
)
async def test_what_breaks_the_rules_is_closed_with_its_code(
    server: LiveServer, tokens: Tokens, sent: list[bytes], code: int
) -> None:
    async with welcome(server, tokens) as raw:
        raw.write(*sent)
        assert (await closing_frame(raw)).code == code


async def test_a_message_of_just_the_limit_is_read(server: LiveServer, tokens: Tokens) -> None:
    text = b'{"action":"ping","x":"%b"}' % (b"x" * (64 * 1024 - 24))
    assert len(text) == 64 * 1024
    async with welcome(server, tokens) as raw:
        raw.write(frame(Opcode.TEXT, text))
        assert await pong_of_the_service(raw)


async def test_a_fragmented_message_is_one_with_control_frames_between(
    server: LiveServer, tokens: Tokens
) -> None:
    async with welcome(server, tokens) as raw:
        raw.write(
            frame(Opcode.TEXT, PING[:5], fin=False),
            frame(Opcode.PING, b"between"),
            frame(Opcode.CONTINUATION, b"", fin=False),
            frame(Opcode.PONG, b"that nobody asked for"),
            frame(Opcode.CONTINUATION, PING[5:]),
        )
        assert await raw.read() == Frame(Opcode.PONG, b"between")
        assert await pong_of_the_service(raw)


async def test_a_letter_may_be_split_over_fragments_and_a_frame_over_packets(
    server: LiveServer, tokens: Tokens
) -> None:
    text = b'{"action":"ping","x":"%b"}' % EURO
    cut = text.index(EURO) + 1
    sent = frame(Opcode.TEXT, text[:cut], fin=False) + frame(Opcode.CONTINUATION, text[cut:])
    async with welcome(server, tokens) as raw:
        for at in range(len(sent)):
            raw.write(sent[at : at + 1])
            await raw.writer.drain()
            await asyncio.sleep(0)
        assert await pong_of_the_service(raw)


@pytest.mark.parametrize("payload", [b"", b"hello", b"x" * 125, b"\xff\x00"])
async def test_a_ping_is_answered_by_a_pong_with_its_payload(
    server: LiveServer, tokens: Tokens, payload: bytes
) -> None:
    async with welcome(server, tokens) as raw:
        raw.write(frame(Opcode.PING, payload))
        assert await raw.read() == Frame(Opcode.PONG, payload)


# ── The end (section 7.4) ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1011, 3000, 4999])
async def test_a_close_is_echoed(server: LiveServer, tokens: Tokens, code: int) -> None:
    async with welcome(server, tokens) as raw:
        raw.write(close_frame(code, "bye €".encode()))
        assert (await closing_frame(raw)).code == code


async def test_a_close_without_a_code_is_echoed_without_one(
    server: LiveServer, tokens: Tokens
) -> None:
    async with welcome(server, tokens) as raw:
        raw.write(frame(Opcode.CLOSE))
        assert (await closing_frame(raw)).payload == b""


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
async def test_a_code_that_nobody_may_send_is_1002(
    server: LiveServer, tokens: Tokens, code: int
) -> None:
    async with welcome(server, tokens) as raw:
        raw.write(close_frame(code))
        assert (await closing_frame(raw)).code == 1002


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\x03", 1002), (b"\x03\xe8\xff", 1007)], ids=["one byte", "no text"]
)
async def test_a_malformed_close_is_closed_with_its_code(
    server: LiveServer, tokens: Tokens, payload: bytes, code: int
) -> None:
    async with welcome(server, tokens) as raw:
        raw.write(frame(Opcode.CLOSE, payload))
        assert (await closing_frame(raw)).code == code


async def test_what_follows_a_close_is_not_read(server: LiveServer, tokens: Tokens) -> None:
    async with welcome(server, tokens) as raw:
        raw.write(close_frame(1000), frame(Opcode.TEXT, PING), frame(Opcode.PING))
        assert (await raw.read()).code == 1000
        assert await raw.reader.read() == b""


# ── Peers that mean harm ─────────────────────────────────────────────────────────────────────────


async def test_who_pings_and_does_not_read_is_cut_off(server: LiveServer, tokens: Tokens) -> None:
    async with welcome(server, tokens) as raw:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        pings = frame(Opcode.PING, b"x" * 125) * 1000
        with contextlib.suppress(ConnectionError):
            while True:  # until the deadline
                raw.write(pings)
                await raw.writer.drain()


SPEAKERS = ("*/websockets/*", "*/uvicorn/*", "*/app/server.py")


async def test_empty_fragments_are_not_kept(server: LiveServer, tokens: Tokens) -> None:
    async with welcome(server, tokens) as raw:
        raw.write(frame(Opcode.TEXT, PING, fin=False))
        tracemalloc.start()
        try:
            for _ in range(50):
                raw.write(frame(Opcode.CONTINUATION, fin=False) * 1000)
                await raw.writer.drain()
            raw.write(frame(Opcode.PING))
            assert (await raw.read()).opcode == Opcode.PONG
            # By who speaks WebSocket: the rest of the process has its own business meanwhile.
            of_ours = [
                tracemalloc.Filter(inclusive=True, filename_pattern=each) for each in SPEAKERS
            ]
            snapshot = tracemalloc.take_snapshot().filter_traces(of_ours)
            kept = sum(each.size for each in snapshot.statistics("filename"))
        finally:
            tracemalloc.stop()
        assert kept < 200_000
        raw.write(frame(Opcode.CONTINUATION))
        assert await pong_of_the_service(raw)
