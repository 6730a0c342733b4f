"""The sender, against real peers: where it connects to, and how little it waits or reads."""

import asyncio
import socket
import ssl
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.adapters import webhooks
from app.adapters.webhooks import Answer, Undeliverable, WebhookSender
from app.security.ssrf import Target, is_public
from tests.patience import PATIENCE, within
from tests.receivers import Received, Receiver, answering, receiving

HOST = "hooks.example.test"


def target(receiver: Receiver, scheme: str = "http", host: str = HOST) -> Target:
    return Target(scheme, host, receiver.port, "/hook?a=b%20c")


def sender_to(
    *addresses: str,
    deadline: float = PATIENCE,
    guarded: bool = False,
    tls: ssl.SSLContext | None = None,
) -> WebhookSender:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return WebhookSender(
        is_allowed=is_public if guarded else lambda _: True,
        resolve=resolve,
        tls=tls,
        deadline=deadline,
    )


async def post(sender: WebhookSender, to: Target, body: bytes = b"{}") -> Answer:
    async with await sender.connection() as connection:
        return await sender.post(connection, to, {"webhook-id": "1"}, body)


async def test_it_sends_to_the_address_under_the_name() -> None:
    async with receiving() as receiver:
        receiver.answer = answering(200, "Retry-After: 7", body=b"thank you")
        answer = await post(sender_to("127.0.0.1"), target(receiver), b"hello")
    assert answer == Answer(200, "7", "thank you")
    (got,) = receiver.got
    assert (got.path, got.body) == ("/hook?a=b%20c", b"hello")
    assert got.headers["host"] == f"{HOST}:{receiver.port}"
    assert got.headers["webhook-id"] == "1"
    assert "cookie" not in got.headers


async def test_it_tries_the_next_address_where_one_cannot_be_connected_to() -> None:
    async with receiving() as receiver:
        answer = await post(sender_to("127.0.0.2", "127.0.0.1"), target(receiver))
    assert answer.status == 204


async def test_nothing_is_connected_to_where_any_address_is_private() -> None:
    async with receiving() as receiver:
        for addresses in (["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["::ffff:127.0.0.1"]):
            with pytest.raises(Undeliverable, match="public"):
                await post(sender_to(*addresses, guarded=True), target(receiver))
    assert receiver.got == []


async def test_a_name_that_turns_private_between_the_check_and_the_connection_gains_nothing() -> (
    None
):
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["1.1.1.1"] if len(asked) == 1 else ["127.0.0.1"]

    sender = WebhookSender(is_allowed=is_public, resolve=rebinding)
    async with receiving() as receiver:
        assert await sender.addresses(HOST, receiver.port) == ["1.1.1.1"]
        with pytest.raises(Undeliverable, match="public"):
            await post(sender, target(receiver))
        assert receiver.got == []
    assert len(asked) == 2  # once a delivery: nothing can change between asking and connecting


async def test_it_looks_names_up_once_and_connects_to_what_it_was_told() -> None:
    asked: list[str] = []

    async def once(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    sender = WebhookSender(is_allowed=lambda address: address == "127.0.0.1", resolve=once)
    async with receiving() as receiver:  # the name is in no DNS: only the address can lead there
        assert (await post(sender, target(receiver))).status == 204
    assert asked == [HOST]


async def test_the_systems_resolver_is_asked() -> None:
    sender = WebhookSender(is_allowed=lambda _: True)
    assert "127.0.0.1" in await sender.addresses("localhost", 80)
    assert await sender.addresses("127.0.0.1", 80) == ["127.0.0.1"]
    with pytest.raises(Undeliverable, match="no address"):
        await sender.addresses("does-not-exist.invalid", 80)
    sender.close()


async def test_a_redirect_is_not_followed() -> None:
    async with receiving() as receiver, receiving() as secret:
        receiver.answer = answering(302, f"Location: {secret.url}", "Set-Cookie: a=b")
        answer = await post(sender_to("127.0.0.1"), target(receiver))
    assert answer.status == 302
    assert secret.got == []


async def test_a_huge_answer_is_cut_off() -> None:
    sent = 0

    async def endless(_: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 8192)
            await writer.drain()
            sent += 8192

    async with receiving() as receiver:
        receiver.answer = endless
        answer = await post(sender_to("127.0.0.1"), target(receiver))
    assert answer.status == 200
    assert answer.body == "x" * 1024
    assert sent < 20_000_000  # what the kernel's buffers take, and not the whole


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async with receiving() as receiver:
        receiver.answer = answering(200, "Content-Encoding: gzip", body=b"\x1f\x8b\x00bomb")
        answer = await post(sender_to("127.0.0.1"), target(receiver))
    assert answer.body.endswith("bomb")
    assert "\x00" not in answer.body


async def test_a_slow_answer_ends_at_the_deadline_however_often_a_byte_comes() -> None:
    async def drip(_: Received, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with receiving() as receiver:
        receiver.answer = drip
        async with within(2):
            with pytest.raises(Undeliverable, match="within 0"):
                await post(sender_to("127.0.0.1", deadline=0.5), target(receiver))


async def test_a_resolver_that_hangs_ends_at_the_deadline() -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    sender = WebhookSender(is_allowed=lambda _: True, resolve=hang, deadline=0.2)
    with pytest.raises(Undeliverable):
        await post(sender, Target("http", HOST, 80, "/"))


@pytest.mark.parametrize(
    "reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"]
)
async def test_a_broken_answer_is_a_failure(reply: bytes) -> None:
    async def broken(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        writer.close()

    async with receiving() as receiver:
        receiver.answer = broken
        with pytest.raises(Undeliverable, match="broke"):
            await post(sender_to("127.0.0.1"), target(receiver))


async def test_nobody_there_is_a_failure() -> None:
    async with receiving() as receiver:
        to = target(receiver)
    with pytest.raises(Undeliverable, match="connect"):
        await post(sender_to("127.0.0.1"), to)


async def test_who_speaks_no_tls_is_a_failure_that_says_so() -> None:
    async def speak_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 X\r\n\r\n")
        await writer.drain()

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Undeliverable, match="TLS could not be agreed on"):
            await post(sender_to("127.0.0.1"), Target("https", HOST, port, "/"))


async def test_a_machine_that_lets_nobody_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, ExitStack() as queue:
        for _ in range(4):  # whoever comes after them finds no room
            each = queue.enter_context(socket.socket())
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        with pytest.raises(Undeliverable, match="No connection within 5 seconds"):
            await post(sender_to("127.0.0.1"), Target("http", HOST, silent.getsockname()[1], "/"))


@pytest.fixture
def certified(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a receiver with a certificate for HOST serves with, and who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "certificate.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    return serving, ssl.create_default_context(cafile=str(pem))


async def test_the_certificate_is_checked_for_the_name_and_not_the_address(
    certified: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    serving, trusting = certified
    named: list[str | None] = []
    serving.sni_callback = lambda _socket, name, _context: named.append(name)
    async with receiving(ssl=serving) as receiver:
        sender = sender_to("127.0.0.1", tls=trusting)
        to = target(receiver, "https")
        assert (await post(sender, to)).status == 204
        with pytest.raises(Undeliverable, match="certificate is not valid"):
            await post(sender, replace(to, host="other.example.test"))
        with pytest.raises(Undeliverable, match="certificate is not valid"):
            await post(sender_to("127.0.0.1"), to)  # by an authority that nobody knows
    assert named == [HOST, "other.example.test", HOST]
    assert len(receiver.got) == 1
