"""A real mail server for the tests (aiosmtpd): plain, STARTTLS or TLS, refusing when asked to."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

USERNAME, PASSWORD = "postman", "a password for the mail server"

logging.getLogger("mail.log").propagate = False  # it goes on after the test's own capture has ended


@dataclass(frozen=True)
class Delivery:
    """A mail as it arrived."""

    message: EmailMessage
    recipients: list[str]
    was_encrypted: bool
    login: str | None

    def text(self) -> str:
        """Return the part for people who read text."""
        part = self.message.get_body(("plain",))
        assert part
        return str(part.get_content())


@dataclass
class MailServer:
    """A mail server that listens, what it got, and what it answers next instead of taking mail."""

    port: int = 0
    inbox: list[Delivery] = field(default_factory=list)
    answers_to_recipient: list[str] = field(default_factory=list)
    answers_to_mail: list[str] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Answer as was asked for, else take the recipient."""
        if self.answers_to_recipient:
            return self.answers_to_recipient.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Answer as was asked for, else keep the mail."""
        if self.answers_to_mail:
            return self.answers_to_mail.pop(0)
        message = message_from_bytes(envelope.content or b"", policy=policy.SMTP)  # type: ignore[arg-type]
        assert isinstance(message, EmailMessage)
        login = session.auth_data.decode() if isinstance(session.auth_data, bytes) else None
        assert server.transport
        is_encrypted = server.transport.get_extra_info("ssl_object") is not None
        delivery = Delivery(message, list(envelope.rcpt_tos), is_encrypted, login)
        self.inbox.append(delivery)
        return "250 OK"


def accept_postman(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, auth_data: Any
) -> AuthResult:
    """Let the one user in who there is."""
    assert isinstance(auth_data, LoginPassword)
    is_right = auth_data == LoginPassword(USERNAME.encode(), PASSWORD.encode())
    return AuthResult(success=is_right, handled=False, auth_data=auth_data.login)


@asynccontextmanager
async def mail_server(
    *,
    tls: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    port: int = 0,
    smtp_utf8: bool = True,
) -> AsyncIterator[MailServer]:
    """Listen on the loopback interface; after STARTTLS whoever sends must sign in."""
    mails = MailServer()
    options: dict[str, Any] = {"hostname": "mail.example.com", "enable_SMTPUTF8": smtp_utf8}
    if tls or starttls:
        is_late = starttls is not None
        options |= {"authenticator": accept_postman, "tls_context": starttls}
        options |= dict.fromkeys(("auth_required", "auth_require_tls", "require_starttls"), is_late)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mails, loop=loop, **options), "127.0.0.1", port, ssl=tls
    )
    mails.port = server.sockets[0].getsockname()[1]
    try:
        yield mails
    finally:
        server.close()
        await server.wait_closed()


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return a server's side of TLS for localhost, and the file that makes a client trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    moment = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(hours=1))
        .not_valid_after(moment + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "certificate.pem", folder / "key.pem"
    chain.write_bytes(signed.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, private)
    return context, chain
