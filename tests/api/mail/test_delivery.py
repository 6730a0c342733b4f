"""How mail leaves: after the commit, again until it is taken, bounded, and told to nobody else."""

import json
import logging
import stat
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.models.jobs import JobStatus, jobs
from app.models.users import one_time_tokens
from app.repositories.jobs import JobRepository
from app.security.opaque import digest
from app.security.sealing import Sealer
from tests.api.mail.conftest import MakeOffice
from tests.api.mail.mailbox import PostOffice
from tests.backends import Place
from tests.conftest import MakeClient
from tests.factories import Account, expect, register, sign_in
from tests.services import free_port
from tests.smtp import PASSWORD, USERNAME, certificate, mail_server

MAILS = ("mail.send", "mail.answer")


async def rows(app: FastAPI, statement: Any) -> list[dict[str, Any]]:
    async with app.state.resources.db.read() as connection:
        return [dict(row) for row in (await connection.execute(statement)).mappings()]


async def mail_jobs(app: FastAPI) -> list[dict[str, Any]]:
    return await rows(app, select(jobs).where(jobs.c.kind.in_(MAILS)).order_by(jobs.c.id))


async def forget(office: PostOffice, account: Account) -> None:
    expect(await office.post("password/forgot", {"email": account.email}), 202)
    await office.settled()


async def test_a_mail_is_tried_again_until_the_server_takes_it(make_office: MakeOffice) -> None:
    office = await make_office()
    office.server.answers_to_recipient[:] = ["451 busy", "421 come back"]
    account = await register(office.client)
    for _ in range(2):
        assert await office.inbox(account.email) == []
        (waiting,) = await mail_jobs(office.app)
        assert waiting["status"] == JobStatus.QUEUED
        await office.hurry()
    assert await office.subjects(account.email) == ["Confirm your e-mail address"]
    (done,) = await mail_jobs(office.app)
    assert done["status"] == JobStatus.SUCCEEDED


async def test_a_mail_server_that_is_down_at_first_gets_the_mail_later(
    make_office: MakeOffice,
) -> None:
    port = free_port()
    office = await make_office(smtp_port=port)
    account = await register(office.client)
    await office.settled()
    assert (await mail_jobs(office.app))[0]["status"] == JobStatus.QUEUED
    async with mail_server(port=port) as server:
        await office.hurry()
        await office.settled()
    assert [each.recipients for each in server.inbox] == [[account.email]]


async def test_a_mail_that_is_refused_for_good_is_not_tried_again(make_office: MakeOffice) -> None:
    office = await make_office()
    office.server.answers_to_recipient[:] = ["550 nobody here"]
    await register(office.client)
    await office.settled()
    (dead,) = await mail_jobs(office.app)
    assert (dead["status"], dead["attempts"]) == (JobStatus.FAILED, 1)
    assert "550" in dead["error"]


async def test_it_goes_encrypted_where_the_settings_say_so(
    make_office: MakeOffice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, chain = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    async with mail_server(starttls=context) as server:
        smtp = {"smtp_host": "localhost", "smtp_port": server.port, "smtp_tls": "starttls"}
        smtp |= {"smtp_username": USERNAME, "smtp_password": PASSWORD}
        office = await make_office(**smtp)
        await register(office.client)
        await office.settled()
    (delivery,) = server.inbox
    assert (delivery.was_encrypted, delivery.login) == (True, USERNAME)


async def test_a_link_that_has_died_while_it_waited_is_not_sent(make_office: MakeOffice) -> None:
    office = await make_office()
    account = await register(office.client)
    await office.settled()
    office.server.answers_to_recipient[:] = ["451 busy"]
    await forget(office, account)
    await forget(office, account)
    await office.hurry()
    subjects = await office.subjects(account.email)
    assert subjects.count("Set a new password") == 1
    assert {"letter": "reset", "sent": False} in [j["result"] for j in await mail_jobs(office.app)]


@pytest.mark.parametrize("kind", MAILS)
async def test_a_mail_whose_secret_is_gone_is_a_dead_letter_that_says_so(
    make_office: MakeOffice, kind: str
) -> None:
    office = await make_office()
    gone = Sealer([b"a secret of long ago"], "mail").seal(
        json.dumps(["reset", "ada@x.example", {}])
    )
    async with office.app.state.resources.db.transaction() as connection:
        await JobRepository(connection).enqueue(kind, {"sealed": gone})
    await office.settled()
    (dead,) = await mail_jobs(office.app)
    assert (dead["status"], dead["attempts"]) == (JobStatus.FAILED, 1)
    assert dead["error"] == "The secret that this mail was sealed by is gone"
    assert not office.server.inbox


async def test_no_table_and_no_log_knows_a_token_or_whom_it_is_for(
    make_office: MakeOffice, caplog: pytest.LogCaptureFixture
) -> None:
    office = await make_office()
    with caplog.at_level(logging.DEBUG):
        account = await register(office.client)
        await forget(office, account)
        await forget(office, Account(0, "CANARY@example.com", "", ""))
        tokens = [
            await office.token(account.email, action)
            for action in ("verify-email", "reset-password")
        ]
    kept = json.dumps(await mail_jobs(office.app), default=str)
    kept += json.dumps(await rows(office.app, select(one_time_tokens)), default=str)
    ours = [record for record in caplog.records if record.name != "mail.log"]  # the mail server's
    logged = str([vars(record) | {"said": record.getMessage()} for record in ours])
    assert "mail.send" in logged
    for token in tokens:
        assert len(token.removeprefix("kpm_")) >= 43  # 256 bits
        assert digest(token) in kept
        assert token not in kept
        assert token not in logged
    for address in (account.email, "CANARY"):
        assert address not in kept
    assert "CANARY" not in logged


async def test_one_address_gets_only_so_many_mails_whoever_asks(
    make_office: MakeOffice, make_client: MakeClient
) -> None:
    office = await make_office(rate_limits_enabled=True)
    account = await register(office.client)
    for number in range(12):
        near = make_client(office.app, address=f"203.0.{number}.1")
        for path in ("password/forgot", "email/resend"):
            body = {"email": account.email.upper() if number % 2 else account.email}
            expect(await near.post(f"/api/v1/auth/{path}", json=body), 202)
    subjects = await office.subjects(account.email)
    assert 1 <= subjects.count("Set a new password") <= 3
    assert subjects.count("Confirm your e-mail address") <= 1 + 3


async def test_registering_and_leaving_again_floods_nobody(make_office: MakeOffice) -> None:
    office = await make_office(rate_limits_enabled=True)
    for _ in range(6):
        tokens = await sign_in(
            office.client, await register(office.client, email="victim@example.com")
        )
        await office.inbox("victim@example.com")  # one not sent yet goes with the account
        await office.client.delete("/api/v1/users/me", headers=tokens.headers)
    assert len(await office.inbox("victim@example.com")) == 3


async def test_one_client_asks_only_so_often(make_office: MakeOffice) -> None:
    office = await make_office(rate_limits_enabled=True, rate_limit_mail="4/hour")
    statuses = [
        (await office.post(path, {"email": f"somebody{n}@example.com"})).status_code
        for n in range(3)
        for path in ("password/forgot", "email/resend")
    ]
    assert statuses == [202] * 4 + [429] * 2


async def test_without_a_mail_server_mails_are_files(
    make_office: MakeOffice, clean_database: Place
) -> None:
    office = await make_office(smtp_host=None)
    account = await register(office.client)
    await office.settled()
    (path,) = (clean_database.data_dir / "mail").glob("*.eml")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert message["To"] == account.email
    body = message.get_body(("plain",))
    assert body
    assert "https://kingpost.example/#verify-email=kpm_" in body.get_content()
