"""E-mail addresses: confirmed by whoever reads them, changed only where both agree."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from httpx import Response
from sqlalchemy import select, update

from app.clock import now
from app.models.email_changes import email_changes
from app.services.retention import sweep
from tests.api.mail.mailbox import PostOffice
from tests.factories import PASSWORD, Tokens, expect, new_user, register

ME = "/api/v1/users/me"
CONFIRM, CANCEL = "confirm-email-change", "cancel-email-change"


def new_for(tokens: Tokens) -> str:
    return f"new.{tokens.account.email}"


async def change(office: PostOffice, tokens: Tokens, **over: Any) -> Response:
    body = {"email": new_for(tokens), "password": PASSWORD} | over
    return await office.post("email/change", body, headers=tokens.headers)


async def confirm(office: PostOffice, token: str) -> bool:
    answer = await office.post("email/change/confirm", {"token": token})
    return bool(expect(answer, 200)["is_changed"])


async def address_of(office: PostOffice, tokens: Tokens) -> str:
    answer = await office.client.get(ME, headers=tokens.headers)
    return str(expect(answer, 200)["email"])


async def test_registering_sends_a_link_that_confirms_the_address_once(
    office: PostOffice,
) -> None:
    tokens = await new_user(office.client)
    assert not await office.is_verified(tokens.account.id)
    token = await office.token(tokens.account.email, "verify-email")
    assert (await office.post("email/verify", {"token": token})).status_code == 204
    assert expect(await office.client.get(ME, headers=tokens.headers), 200)["is_verified"]
    answer = await office.post("email/verify", {"token": token})
    assert expect(answer, 400)["error_code"] == "INVALID_ONE_TIME_TOKEN"


async def test_a_registration_that_fails_sends_nothing(office: PostOffice) -> None:
    account = await register(office.client)
    body = {"email": account.email, "username": f"x{account.username}", "password": PASSWORD}
    answer = await office.post("register", body | {"confirm_password": PASSWORD})
    assert answer.status_code == 409
    assert await office.subjects(account.email) == ["Confirm your e-mail address"]


async def test_a_repeated_registration_sends_one_mail(office: PostOffice) -> None:
    name = f"ada{uuid4().hex}"
    body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
    body["confirm_password"] = PASSWORD
    headers = {"Idempotency-Key": name}
    for _ in range(3):
        assert (await office.post("register", body, headers=headers)).status_code == 201
    assert await office.subjects(body["email"]) == ["Confirm your e-mail address"]


async def test_the_link_works_for_a_day(office: PostOffice) -> None:
    account = await register(office.client)
    token = await office.token(account.email, "verify-email")
    await office.let_time_pass(account, timedelta(hours=24))
    assert (await office.post("email/verify", {"token": token})).status_code == 400
    assert not await office.is_verified(account.id)


async def test_another_link_ends_the_first_and_a_confirmed_address_needs_none(
    office: PostOffice,
) -> None:
    account = await register(office.client)
    first = await office.token(account.email, "verify-email")
    expect(await office.post("email/resend", {"email": account.email.upper()}), 202)
    second = await office.token(account.email, "verify-email")
    assert (await office.post("email/verify", {"token": first})).status_code == 400
    assert (await office.post("email/verify", {"token": second})).status_code == 204
    expect(await office.post("email/resend", {"email": account.email}), 202)
    nobody = f"nobody.{account.email}"
    expect(await office.post("email/resend", {"email": nobody}), 202)
    assert len(await office.inbox(account.email)) == 2
    assert await office.inbox(nobody) == []


@pytest.mark.parametrize("old_first", [True, False])
async def test_an_address_changes_when_both_have_agreed(
    office: PostOffice, old_first: bool
) -> None:
    tokens = await new_user(office.client)
    old = tokens.account.email
    expect(await change(office, tokens), 202)
    agreeing = await office.token(old, CONFIRM), await office.token(new_for(tokens), CONFIRM)
    first, second = agreeing if old_first else agreeing[::-1]
    assert await confirm(office, first) is False
    assert await address_of(office, tokens) == old
    assert await confirm(office, second) is True
    assert await address_of(office, tokens) == new_for(tokens)
    assert await office.is_verified(tokens.account.id)
    assert "Your e-mail address was changed" in await office.subjects(old)
    form = {"username": new_for(tokens), "password": PASSWORD}
    assert (await office.client.post("/api/v1/auth/token", data=form)).status_code == 200
    form = {"username": old, "password": PASSWORD}
    assert (await office.client.post("/api/v1/auth/token", data=form)).status_code == 401
    for token in (first, second):
        assert (await office.post("email/change/confirm", {"token": token})).status_code == 400


async def test_one_address_cannot_agree_for_both(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    expect(await change(office, tokens), 202)
    token = await office.token(new_for(tokens), CONFIRM)
    assert await confirm(office, token) is False
    assert (await office.post("email/change/confirm", {"token": token})).status_code == 400
    assert await address_of(office, tokens) == tokens.account.email


async def test_both_agreeing_at_the_same_moment_change_it(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    expect(await change(office, tokens), 202)
    both = [await office.token(each, CONFIRM) for each in (tokens.account.email, new_for(tokens))]
    assert sorted(await asyncio.gather(*(confirm(office, each) for each in both))) == [False, True]
    assert await address_of(office, tokens) == new_for(tokens)


async def test_the_old_address_can_stop_the_change(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    expect(await change(office, tokens), 202)
    agreeing = await office.token(tokens.account.email, CONFIRM)
    owning = await office.token(new_for(tokens), CONFIRM)
    assert await confirm(office, owning) is False
    stop = {"token": await office.token(tokens.account.email, CANCEL)}
    assert (await office.post("email/change/cancel", stop)).status_code == 204
    assert (await office.post("email/change/confirm", {"token": agreeing})).status_code == 400
    assert await address_of(office, tokens) == tokens.account.email


async def test_a_new_password_stops_the_change(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    expect(await change(office, tokens), 202)
    sent = [await office.token(to, CONFIRM) for to in (tokens.account.email, new_for(tokens))]
    body = {"current_password": PASSWORD, "new_password": "x y z another phrase"}
    body["confirm_password"] = body["new_password"]
    answer = await office.post("password/change", body, headers=tokens.headers)
    assert answer.status_code == 204
    for token in sent:
        assert (await office.post("email/change/confirm", {"token": token})).status_code == 400


async def test_a_second_change_takes_the_place_of_the_first(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    old = tokens.account.email
    expect(await change(office, tokens), 202)
    other = f"other.{old}"
    first = await office.token(new_for(tokens), CONFIRM)
    assert await confirm(office, await office.token(old, CONFIRM)) is False
    expect(await change(office, tokens, email=other), 202)
    assert (await office.post("email/change/confirm", {"token": first})).status_code == 400
    # What the old address agreed to was the first one.
    assert await confirm(office, await office.token(other, CONFIRM)) is False
    assert await confirm(office, await office.token(old, CONFIRM)) is True
    assert await address_of(office, tokens) == other


async def test_links_to_the_old_address_end_with_it(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    old = tokens.account.email
    verifying = await office.token(old, "verify-email")
    expect(await office.post("password/forgot", {"email": old}), 202)
    resetting = await office.token(old, "reset-password")
    expect(await change(office, tokens), 202)
    for address in (old, new_for(tokens)):
        await confirm(office, await office.token(address, CONFIRM))
    assert await address_of(office, tokens) == new_for(tokens)
    assert (await office.post("email/verify", {"token": verifying})).status_code == 400
    body = {"token": resetting, "password": "x y z another", "confirm_password": "x y z another"}
    assert (await office.post("password/reset", body)).status_code == 400


async def test_who_asks_for_somebody_elses_address_learns_nothing_and_gets_nothing(
    office: PostOffice,
) -> None:
    victim = await register(office.client)
    tokens = await new_user(office.client)
    free = await change(office, tokens)
    taken = await change(office, tokens, email=victim.email.upper())
    assert free.status_code == taken.status_code == 202
    assert free.json() == taken.json()
    # It goes to the address that the account really has, however this one was spelled.
    assert (await office.subjects(victim.email))[1:] == ["You have an account already"]
    assert (await office.inbox(victim.email))[1].recipients == [victim.email]
    assert await confirm(office, await office.token(tokens.account.email, CONFIRM)) is False
    assert await address_of(office, tokens) == tokens.account.email


async def test_an_address_that_was_taken_meanwhile_is_refused(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    expect(await change(office, tokens), 202)
    assert await confirm(office, await office.token(tokens.account.email, CONFIRM)) is False
    last = {"token": await office.token(new_for(tokens), CONFIRM)}
    await register(office.client, email=new_for(tokens))
    answer = await office.post("email/change/confirm", last)
    assert expect(answer, 409)["error_code"] == "EMAIL_TAKEN"
    assert await address_of(office, tokens) == tokens.account.email


BAD = (
    ({"password": "CANARY-wrong"}, "password"),
    ({"email": "no address"}, "email"),
    ({"email": f"{'ﷺ' * 60}@example.com"}, "email"),
    ({"email": "a\r\nBcc: x@example.com"}, "email"),
    ({"user_id": 1}, "user_id"),
)


async def test_a_bad_change_is_refused_by_field(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    for over, field in BAD:
        answer = await change(office, tokens, **over)
        assert field in [each["field"] for each in expect(answer, 422)["errors"]]
        assert "CANARY" not in answer.text
    assert await office.subjects(tokens.account.email) == ["Confirm your e-mail address"]


async def test_ones_own_address_is_no_change(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    answer = await change(office, tokens, email=tokens.account.email.upper())
    assert expect(answer, 422)["errors"][0]["field"] == "email"


async def test_a_deleted_account_leaves_no_link_behind(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    expect(await change(office, tokens), 202)
    left = [await office.token(each, CONFIRM) for each in (tokens.account.email, new_for(tokens))]
    assert (await office.client.delete(ME, headers=tokens.headers)).status_code == 204
    for token in left:
        assert (await office.post("email/change/confirm", {"token": token})).status_code == 400


async def test_a_change_that_nobody_finished_is_forgotten(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    expect(await change(office, tokens), 202)
    db = office.app.state.resources.db
    waiting = select(email_changes).where(email_changes.c.user_id == tokens.account.id)
    await sweep(db, timedelta(days=1), timedelta(days=400))
    async with db.transaction() as connection:
        assert (await connection.execute(waiting)).first()
        ended = update(email_changes).values(expires_at=now() - timedelta(seconds=1))
        await connection.execute(ended.where(email_changes.c.user_id == tokens.account.id))
    token = await office.token(new_for(tokens), CONFIRM)
    assert (await office.post("email/change/confirm", {"token": token})).status_code == 400
    assert (await sweep(db, timedelta(days=1), timedelta(days=400)))["email_changes"] == 1
