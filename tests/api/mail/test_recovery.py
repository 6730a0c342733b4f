"""A forgotten password: a link to the account's own address, good once, and for nothing else."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.models.users import users
from app.repositories.identities import IdentityRepository
from tests.api.mail.mailbox import PostOffice
from tests.factories import PASSWORD, Account, expect, new_user, register, sign_in

ME = "/api/v1/users/me"
NEW = "CANARY a wholly different phrase"


async def forget(office: PostOffice, email: str) -> None:
    expect(await office.post("password/forgot", {"email": email}), 202)


async def reset(office: PostOffice, token: str, password: str = NEW) -> int:
    body = {"token": token, "password": password, "confirm_password": password}
    answer = await office.post("password/reset", body)
    if answer.status_code == 400:
        assert expect(answer, 400)["error_code"] == "INVALID_ONE_TIME_TOKEN"
    return answer.status_code


async def reset_token(office: PostOffice, account: Account) -> str:
    await forget(office, account.email)
    return await office.token(account.email, "reset-password")


def renewed(account: Account) -> Account:
    return Account(account.id, account.email, account.username, NEW)


async def test_a_link_sets_a_new_password_once_and_ends_every_session(office: PostOffice) -> None:
    here = await new_user(office.client)
    there = await sign_in(office.client, here.account)
    token = await reset_token(office, here.account)
    assert await reset(office, token) == 204
    for tokens in (here, there):
        assert (await office.client.get(ME, headers=tokens.headers)).status_code == 401
        answer = await office.post("refresh", {"refresh_token": tokens.refresh})
        assert answer.status_code == 401
    form = {"username": here.account.username, "password": PASSWORD}
    assert (await office.client.post("/api/v1/auth/token", data=form)).status_code == 401
    assert await sign_in(office.client, renewed(here.account))
    assert await reset(office, token) == 400
    assert "Your password was changed" in await office.subjects(here.account.email)
    assert await office.is_verified(here.account.id)  # the mail was read there


async def test_the_address_may_be_spelled_in_any_case(office: PostOffice) -> None:
    account = await register(office.client)
    await forget(office, account.email.upper())
    assert await office.token(account.email, "reset-password")


async def test_nobody_gets_mail_for_an_account_that_is_not_there_or_not_active(
    office: PostOffice,
) -> None:
    gone = await new_user(office.client)
    assert await office.subjects(gone.account.email) == ["Confirm your e-mail address"]
    assert (await office.client.delete(ME, headers=gone.headers)).status_code == 204
    nobody = f"nobody.{gone.account.email}"
    for email in (nobody, gone.account.email):
        await forget(office, email)
    assert await office.inbox(nobody) == []
    assert await office.subjects(gone.account.email) == ["Confirm your e-mail address"]


async def test_a_token_is_good_for_one_hour(office: PostOffice) -> None:
    account = await register(office.client)
    token = await reset_token(office, account)
    await office.let_time_pass(account, timedelta(minutes=59))
    assert await office.token(account.email, "reset-password") == token
    await office.let_time_pass(account, timedelta(minutes=1))
    assert await reset(office, token) == 400


async def test_a_newer_link_ends_the_older_one(office: PostOffice) -> None:
    account = await register(office.client)
    first = await reset_token(office, account)
    second = await reset_token(office, account)
    assert first != second
    assert await reset(office, first) == 400
    assert await reset(office, second) == 204


async def test_changing_the_password_ends_the_link(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    token = await reset_token(office, tokens.account)
    body = {"current_password": PASSWORD, "new_password": NEW, "confirm_password": NEW}
    answer = await office.post("password/change", body, headers=tokens.headers)
    assert answer.status_code == 204
    assert await reset(office, token, "still another phrase") == 400


async def test_each_token_is_good_for_its_own_purpose_alone(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    account = tokens.account
    verifying = await office.token(account.email, "verify-email")
    resetting = await reset_token(office, account)
    new = f"new.{account.email}"
    body = {"email": new, "password": PASSWORD}
    assert (await office.post("email/change", body, headers=tokens.headers)).status_code == 202
    agreeing = await office.token(account.email, "confirm-email-change")
    owning = await office.token(new, "confirm-email-change")
    stopping = await office.token(account.email, "cancel-email-change")
    ticket = (await office.post("ws-ticket", {}, headers=tokens.headers)).json()["ticket"]
    every = {verifying, resetting, agreeing, owning, stopping, ticket, tokens.refresh}
    right = {
        "email/verify": {verifying},
        "email/change/confirm": {agreeing, owning},
        "email/change/cancel": {stopping},
    }
    for token in every - {resetting}:
        assert await reset(office, token) == 400
    for path, good in right.items():
        for token in every - good:
            answer = await office.post(path, {"token": token})
            assert expect(answer, 400)["error_code"] == "INVALID_ONE_TIME_TOKEN", path
    # None of these attempts has spent what it was not for.
    assert (await office.post("email/verify", {"token": verifying})).status_code == 204
    assert (await office.post("email/change/cancel", {"token": stopping})).status_code == 204
    assert await reset(office, resetting) == 204


async def test_a_link_spent_twice_at_once_works_once(office: PostOffice) -> None:
    account = await register(office.client)
    token = await reset_token(office, account)
    wanted = [f"the phrase number {n} of five" for n in range(5)]
    statuses = await asyncio.gather(*(reset(office, token, each) for each in wanted))
    assert sorted(statuses) == [204, 400, 400, 400, 400]
    winner = wanted[list(statuses).index(204)]
    for password in wanted:
        form = {"username": account.username, "password": password}
        answer = await office.client.post("/api/v1/auth/token", data=form)
        assert (answer.status_code == 200) == (password == winner)


BAD = (
    ({"password": "CANARY", "confirm_password": "CANARY"}, "password"),
    ({"password": "Password1", "confirm_password": "Password1"}, "password"),
    ({"confirm_password": "CANARY-other"}, "confirm_password"),
    ({"token": ""}, "token"),
    ({"token": "CANARY\x00"}, "token"),
    ({"token": "CANARY" * 1000}, "token"),
    ({"user_id": 1}, "user_id"),
)


async def test_a_bad_reset_is_refused_by_field_and_spends_nothing(office: PostOffice) -> None:
    account = await register(office.client)
    token = await reset_token(office, account)
    for over, field in BAD:
        body = {"token": token, "password": NEW, "confirm_password": NEW, **over}
        answer = await office.post("password/reset", body)
        assert field in [each["field"] for each in expect(answer, 422)["errors"]]
        assert "CANARY" not in answer.text
    assert await sign_in(office.client, account)
    assert await reset(office, token) == 204


async def test_the_new_password_is_not_the_account_itself(office: PostOffice) -> None:
    account = await register(office.client)
    token = await reset_token(office, account)
    for name in (account.username.upper(), account.email):
        assert await reset(office, token, name) == 422
    assert await reset(office, token) == 204


async def test_an_inactive_account_is_not_reset_by_a_link_from_before(office: PostOffice) -> None:
    account = await register(office.client)
    token = await reset_token(office, account)
    async with office.app.state.resources.db.transaction() as connection:
        suspended = update(users).where(users.c.id == account.id).values(is_active=False)
        await connection.execute(suspended)
    assert await reset(office, token) == 400
    await forget(office, account.email)
    assert (await office.subjects(account.email)).count("Set a new password") == 1


async def test_v2_speaks_camel_case(office: PostOffice) -> None:
    account = await register(office.client)
    token = await reset_token(office, account)
    body = {"token": token, "password": NEW, "confirmPassword": NEW}
    answer = await office.client.post("/api/v2/auth/password/reset", json=body)
    assert answer.status_code == 204


async def test_the_links_lead_to_the_public_address_whatever_host_was_asked(
    office: PostOffice,
) -> None:
    account = await register(office.client)
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    await office.post("password/forgot", {"email": account.email}, headers=headers)
    (mail,) = [
        each
        for each in await office.inbox(account.email)
        if each.message["Subject"] == "Set a new password"
    ]
    assert "https://kingpost.example/#reset-password=kpm_" in mail.text()
    assert "evil" not in mail.message.as_string()


@pytest.mark.parametrize("is_verified", [False, True])
async def test_what_a_stranger_linked_before_the_address_was_proven_goes(
    office: PostOffice, is_verified: bool
) -> None:
    account = await register(office.client)
    if is_verified:
        token = await office.token(account.email, "verify-email")
        assert (await office.post("email/verify", {"token": token})).status_code == 204
    db = office.app.state.resources.db
    async with db.transaction() as connection:
        await IdentityRepository(connection).add(
            user_id=account.id, provider="house", subject=account.username, email=account.email
        )
    assert await reset(office, await reset_token(office, account)) == 204
    async with db.read() as connection:
        assert bool(await IdentityRepository(connection).of_user(account.id)) is is_verified
