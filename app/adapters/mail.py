"""Sends mail by SMTP; without its settings, writes each mail as a file that mail programs open."""

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, parseaddr
from pathlib import Path
from typing import Protocol

from app.clock import now
from app.settings import MailTls, Settings

logger = logging.getLogger(__name__)

_STEP_SECONDS = 10.0  # that one answer of the mail server may take
_WHOLE_SECONDS = 25.0  # that all of it may take, below the time limit of the job

_LONGEST_LINE = 990  # RFC 5322, section 2.1.1


class MailRefused(Exception):
    """The server will not take this mail, however often it is asked."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one person. Whoever sends it twice gives it the same id."""

    id: str
    to: str
    subject: str
    text: str
    html: str


class Mailer(Protocol):
    """Hands a mail over."""

    async def send(self, mail: Mail) -> None:
        """Hand a mail over.

        Raises:
            MailRefused: it will never be taken. Whatever else is raised may pass by itself.
        """


def open_mailer(settings: Settings) -> Mailer:
    """Return the mailer that the settings ask for."""
    if settings.smtp_host is None:
        return FolderMailer(settings.data_dir / "mail", settings.mail_from)
    return SmtpMailer(settings)


class SmtpMailer:
    """Sends each mail over a connection of its own: they are few, and servers drop idle ones."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def send(self, mail: Mail) -> None:
        """Send a mail.

        Raises:
            MailRefused: the server refuses it for good (RFC 5321, section 4.2.1: 5yz).
        """
        import aiosmtplib  # few processes ever send a mail

        settings = self._settings
        password = settings.smtp_password
        message = compose(mail, settings.mail_from)
        is_plain = settings.smtp_tls is MailTls.NONE
        async with asyncio.timeout(_WHOLE_SECONDS):
            try:
                await aiosmtplib.send(
                    message,
                    recipients=[ascii_address(mail.to)],
                    hostname=settings.smtp_host,
                    port=settings.smtp_port,
                    username=settings.smtp_username,
                    password=password.get_secret_value() if password else None,
                    use_tls=settings.smtp_tls is MailTls.TLS,
                    # None would go on in the clear where the server offers nothing better.
                    start_tls=settings.smtp_tls is MailTls.STARTTLS,
                    tls_context=None if is_plain else await asyncio.to_thread(_tls_context),
                    timeout=_STEP_SECONDS,
                )
            except aiosmtplib.SMTPRecipientsRefused as error:
                codes = [each.code for each in error.recipients]
                if all(_is_final(code) for code in codes):
                    raise MailRefused(f"The mail server refused the address: {codes}") from None
                raise ConnectionError(f"The mail server put the address off: {codes}") from None
            except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
                if _is_final(error.code):
                    raise MailRefused(f"The mail server refused the mail: {error.code}") from None
                raise
            except aiosmtplib.SMTPNotSupported:  # letters that only SMTPUTF8 carries
                raise MailRefused("The mail server cannot write to this address") from None


class FolderMailer:
    """Writes each mail to a folder that only the service's own user may read."""

    def __init__(self, folder: Path, sender: str) -> None:
        self._folder = folder
        self._sender = sender

    async def send(self, mail: Mail) -> None:
        """Write a mail and log where; what it says is logged nowhere."""
        path = await asyncio.to_thread(self._write, mail)
        logger.info("mail written", extra={"fields": {"path": str(path)}})

    def _write(self, mail: Mail) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{mail.id}.eml"
        partial = path.with_suffix(".part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(compose(mail, self._sender)))
        return partial.replace(path)


def compose(mail: Mail, sender: str) -> EmailMessage:
    """Return the message: text for all, HTML for those that show it."""
    name, address = parseaddr(sender)
    recipient = ascii_address(mail.to)
    local, _, domain = recipient.rpartition("@")
    message = EmailMessage(policy=SMTP if recipient.isascii() else SMTPUTF8)
    message["From"] = Address(name, addr_spec=address)
    message["To"] = Address(username=local, domain=domain)
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(now())
    message["Message-ID"] = f"<{mail.id}@{address.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence note comes back
    message.set_content(mail.text, cte=_encoding(mail.text))
    message.add_alternative(mail.html, subtype="html", cte=_encoding(mail.html))
    return message


def _encoding(text: str) -> str:
    # Quoted-printable would break the links of the files that people read.
    is_plain = text.isascii() and all(len(line) < _LONGEST_LINE for line in text.splitlines())
    return "7bit" if is_plain else "quoted-printable"


def ascii_address(address: str) -> str:
    """Return an address as every mail server understands it, where it can be written so."""
    from email_validator import EmailNotValidError, validate_email

    try:
        found = validate_email(address, check_deliverability=False)
    except EmailNotValidError:  # admin@localhost, which only an operator can have made
        return address
    return found.ascii_email or found.normalized


def _is_final(code: int) -> bool:
    return 500 <= code < 600


def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()  # reading the authorities takes 15 ms: not on the loop
