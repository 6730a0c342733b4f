"""Mail leaves by SMTP, encrypted and only to who is meant; or as a file for its owner alone."""

import logging
import stat
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from app.adapters.mail import Mail, MailRefused, compose, open_mailer
from app.settings import Settings
from tests.services import free_port
from tests.smtp import PASSWORD, USERNAME, certificate, mail_server

LINK = f"https://kingpost.example/#reset-password=CANARY-{'x' * 43}"
MAIL = Mail(
    "kingpost-7", "ada@example.com", "Hello", f"CANARY-token\n{LINK}\n", "<p>CANARY-token</p>"
)
SENDER = "King Post <post@kingpost.example>"


def settings(folder: Path, port: int | None = None, **over: Any) -> Settings:
    values: dict[str, Any] = {"data_dir": folder, "mail_from": SENDER}
    if port is not None:
        values |= {"smtp_host": "localhost", "smtp_port": port, "smtp_tls": "none"}
    return Settings(_env_file=None, **(values | over))


@pytest.mark.parametrize("mode", ["starttls", "tls"])
async def test_a_mail_goes_encrypted_and_signed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    context, chain = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    async with mail_server(**{mode: context}) as server:  # type: ignore[arg-type]
        over = {"smtp_tls": mode, "smtp_username": USERNAME, "smtp_password": PASSWORD}
        await open_mailer(settings(tmp_path, server.port, **over)).send(MAIL)
    (delivery,) = server.inbox
    assert delivery.was_encrypted
    assert delivery.login == USERNAME
    assert delivery.recipients == ["ada@example.com"]
    message = delivery.message
    assert (message["From"], message["To"]) == (SENDER, "ada@example.com")
    assert message["Message-ID"] == "<kingpost-7@kingpost.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert delivery.text().split() == ["CANARY-token", LINK]
    html = message.get_body(("html",))
    assert html
    assert "<p>CANARY-token</p>" in html.get_content()


@pytest.mark.parametrize("mode", ["starttls", "tls"])
async def test_a_certificate_that_nobody_vouches_for_gets_no_mail(
    tmp_path: Path, mode: str
) -> None:
    context, _ = certificate(tmp_path)
    async with mail_server(**{mode: context}) as server:  # type: ignore[arg-type]
        mailer = open_mailer(settings(tmp_path, server.port, smtp_tls=mode))
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            await mailer.send(MAIL)
    assert not server.inbox


async def test_a_server_without_starttls_gets_nothing_in_the_clear(tmp_path: Path) -> None:
    async with mail_server() as server:
        mailer = open_mailer(settings(tmp_path, server.port, smtp_tls="starttls"))
        with pytest.raises(Exception, match="STARTTLS"):
            await mailer.send(MAIL)
    assert not server.inbox


async def test_a_refusal_for_good_is_told_from_one_for_now(tmp_path: Path) -> None:
    async with mail_server() as server:
        mailer = open_mailer(settings(tmp_path, server.port))
        server.answers_to_recipient[:] = ["550 no ada@example.com here", "451 later"]
        with pytest.raises(MailRefused, match="550") as refused:
            await mailer.send(MAIL)
        assert "ada@" not in str(refused.value)
        with pytest.raises(ConnectionError):
            await mailer.send(MAIL)
        server.answers_to_mail[:] = ["554 CANARY", "452 full"]
        with pytest.raises(MailRefused, match="554") as refused:
            await mailer.send(MAIL)
        assert "CANARY" not in str(refused.value)
        with pytest.raises(Exception, match="full"):
            await mailer.send(MAIL)
        await mailer.send(MAIL)
    assert len(server.inbox) == 1


async def test_nobody_listening_is_no_refusal(tmp_path: Path) -> None:
    mailer = open_mailer(settings(tmp_path, free_port()))
    with pytest.raises(Exception, match="connect") as raised:
        await mailer.send(MAIL)
    assert not isinstance(raised.value, MailRefused)


@pytest.mark.parametrize(
    ("address", "arrives_as"),
    [
        ("ada@straße.example", "ada@xn--strae-oqa.example"),  # not strasse: somebody else's
        ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
        ("jürgen@bücher.example", "jürgen@bücher.example"),
        ("o'neil+tag@example.com", "o'neil+tag@example.com"),
    ],
)
async def test_an_address_in_any_letters_is_written_to_as_it_is(
    tmp_path: Path, address: str, arrives_as: str
) -> None:
    async with mail_server() as server:
        mail = Mail("a", address, "Grüße", "Grüße", "<p>Grüße</p>")
        await open_mailer(settings(tmp_path, server.port)).send(mail)
    assert server.inbox[0].recipients == [arrives_as]
    assert server.inbox[0].message["Subject"] == "Grüße"
    assert server.inbox[0].text().strip() == "Grüße"


async def test_an_address_that_the_server_has_no_letters_for_is_refused_for_good(
    tmp_path: Path,
) -> None:
    async with mail_server(smtp_utf8=False) as server:
        mailer = open_mailer(settings(tmp_path, server.port))
        with pytest.raises(MailRefused, match="cannot write to this address") as refused:
            await mailer.send(Mail("a", "jürgen@example.com", "Hello", "t", "h"))
        assert "jürgen" not in str(refused.value)
        await mailer.send(Mail("b", "ada@bücher.example", "Hello", "t", "h"))  # which ASCII can
    assert [each.recipients for each in server.inbox] == [["ada@xn--bcher-kva.example"]]


@pytest.mark.parametrize("end", ["\r\nBcc: eve@example.com", "\nX: y"])
def test_no_address_and_no_subject_brings_a_header_of_its_own(end: str) -> None:
    for mail in (
        Mail("a", f"ada@example.com{end}", "Hello", "t", "h"),
        Mail("a", "ada@example.com", f"Hello{end}", "t", "h"),
    ):
        with pytest.raises(ValueError, match=r"CR|linefeed|carriage"):
            compose(mail, SENDER)


async def test_without_a_server_a_mail_is_a_file_for_its_owner_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mailer = open_mailer(settings(tmp_path))
    with caplog.at_level(logging.DEBUG):
        await mailer.send(MAIL)
        await mailer.send(MAIL)  # the same mail again is the same file
    (path,) = (tmp_path / "mail").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert message["To"] == "ada@example.com"
    assert LINK in path.read_text().splitlines()  # to be copied from the file as it is
    logged = [getattr(record, "fields", {}) for record in caplog.records]
    assert {"path": str(path)} in logged
    assert "CANARY" not in caplog.text + str(logged)
