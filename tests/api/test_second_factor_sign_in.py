"""Signing in with a second factor, against whoever has the password already."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import update

from app.clock import now
from app.errors import SecondFactorRequired
from app.models.second_factor import second_factor_challenges, totp_factors
from app.models.users import login_failures
from app.services.retention import sweep
from app.services.sessions import Device
from tests.api.second_factors import (
    ANSWER,
    AUTH,
    ME,
    TOTP,
    Enrolled,
    answer,
    bearer,
    begin,
    challenge_for,
    code_of,
    confirm,
    enrol,
    let_steps_pass,
    password_form,
    sign_in,
    wrong_code,
)
from tests.conftest import SECRET_KEY, MakeApp, MakeClient
from tests.factories import admin, expect, new_user, register

OTHER_SECRET = "tests-only-5e0f1b3a7c9d4862b1a0c3d5e7f90214"
THIRD_SECRET = "tests-only-c3a85d1f06e24b97a8d0e6f2b4c71935"


async def test_a_password_alone_gives_no_token(client: AsyncClient, app: FastAPI) -> None:
    enrolled = await enrol(client, app)
    refused = await password_form(client, enrolled.account)
    problem = expect(refused, 401)
    assert problem["error_code"] == "SECOND_FACTOR_REQUIRED"
    assert problem["challenge_expires_in"] == 300
    assert not {"access_token", "refresh_token"} & set(problem)
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["cache-control"] == "no-store"
    assert "set-cookie" not in refused.headers
    pair = await answer(client, problem["challenge"], code_of(enrolled.secret))
    assert pair.headers["cache-control"] == "no-store"
    assert (await client.get(ME, headers=bearer(expect(pair, 200)))).status_code == 200


async def test_a_wrong_password_says_nothing_of_the_second_factor(
    client: AsyncClient, app: FastAPI
) -> None:
    enrolled, plain = await enrol(client, app), await register(client)
    told = []
    for account in (enrolled.account, plain):
        for more in ({}, {"otp": "123456"}, {"otp": code_of(enrolled.secret)}):
            refused = await password_form(client, account, **{"password": "a guess", **more})
            own = ("request_id",)
            told.append({k: v for k, v in expect(refused, 401).items() if k not in own})
            await forget_failures(app)
    assert all(each == told[0] for each in told)
    assert told[0]["error_code"] == "INVALID_CREDENTIALS"


async def forget_failures(app: FastAPI) -> None:
    async with app.state.resources.db.transaction() as connection:
        await connection.execute(login_failures.delete())


async def test_the_code_may_come_with_the_password(client: AsyncClient, app: FastAPI) -> None:
    enrolled = await enrol(client, app)
    for otp in (" ", wrong_code(enrolled.secret), enrolled.account.password):
        refused = await password_form(client, enrolled.account, otp=otp)
        assert expect(refused, 401)["error_code"] == "INVALID_CODE"
        assert "challenge" not in refused.json()
    code = code_of(enrolled.secret)
    spaced = f" {code[:3]} {code[3:]}"
    assert (await password_form(client, enrolled.account, otp=spaced)).status_code == 200
    # Whoever has no second factor may be asked for a code by a form all the same.
    plain = await register(client)
    assert (await password_form(client, plain, otp="123456")).status_code == 200


WAYS = ("with the password", "with a challenge")


async def try_code(client: AsyncClient, way: str, enrolled: Enrolled, code: str) -> Response:
    if way == WAYS[0]:
        return await password_form(client, enrolled.account, otp=code)
    return await sign_in(client, enrolled, code)


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
async def test_a_code_works_once_whichever_way_it_comes(
    client: AsyncClient, app: FastAPI, first: str, second: str
) -> None:
    enrolled = await enrol(client, app)
    code = code_of(enrolled.secret)
    assert (await try_code(client, first, enrolled, code)).status_code == 200
    refused = await try_code(client, second, enrolled, code)
    assert expect(refused, 401)["error_code"] == "INVALID_CODE"
    # Not the one before it either, which somebody may have seen unused.
    before = await try_code(client, second, enrolled, code_of(enrolled.secret, -1))
    assert before.status_code == 401
    await let_steps_pass(app, enrolled.account)
    later = await try_code(client, second, enrolled, code_of(enrolled.secret))
    assert later.status_code == 200


@pytest.mark.only("production")
async def test_a_code_works_once_over_all_workers(
    make_app: MakeApp, make_client: MakeClient, client: AsyncClient, app: FastAPI
) -> None:
    workers = [make_client(await make_app()) for _ in range(3)]
    enrolled = await enrol(client, app)
    for _ in range(3):
        await let_steps_pass(app, enrolled.account)
        challenges = [await challenge_for(workers[n % 3], enrolled.account) for n in range(9)]
        code = code_of(enrolled.secret)
        answers = await asyncio.gather(
            *(answer(workers[n % 3], each, code) for n, each in enumerate(challenges))
        )
        assert [each.status_code for each in answers].count(200) == 1
        await forget_failures(app)


@pytest.mark.only("production")
async def test_a_challenge_works_once_over_all_workers(
    make_app: MakeApp, make_client: MakeClient, client: AsyncClient, app: FastAPI
) -> None:
    workers = [make_client(await make_app()) for _ in range(3)]
    enrolled = await enrol(client, app)
    challenge = await challenge_for(client, enrolled.account)
    codes = [code_of(enrolled.secret), *enrolled.recovery_codes[:5]]
    answers = await asyncio.gather(
        *(answer(workers[n % 3], challenge, code) for n, code in enumerate(codes))
    )
    assert sorted(each.status_code for each in answers) == [200] + [401] * 5
    # What was refused for the challenge's sake was not used up.
    seen = expect(await client.get(TOTP, headers=enrolled.headers), 200)
    assert seen["recovery_codes_left"] >= 9


@pytest.mark.parametrize(("steps", "status"), [(-20, 401), (-3, 401), (0, 200), (3, 401)])
async def test_codes_of_other_times_are_wrong(
    client: AsyncClient, app: FastAPI, steps: int, status: int
) -> None:
    enrolled = await enrol(client, app)
    async with app.state.resources.db.transaction() as connection:
        mine = update(totp_factors).where(totp_factors.c.user_id == enrolled.account.id)
        await connection.execute(mine.values(last_step=None))
    code = code_of(enrolled.secret, steps)
    assert (await sign_in(client, enrolled, code)).status_code == status


async def test_a_clock_a_step_away_is_forgiven(client: AsyncClient, app: FastAPI) -> None:
    # Of two tries one may fall on the very change of a step; two in a row cannot.
    enrolled = await enrol(client, app)
    for steps in (-1, 1):
        statuses = []
        for _ in range(2):
            await let_steps_pass(app, enrolled.account)
            answered = await sign_in(client, enrolled, code_of(enrolled.secret, steps))
            statuses.append(answered.status_code)
        assert 200 in statuses


async def test_a_challenge_works_once(client: AsyncClient, app: FastAPI) -> None:
    enrolled = await enrol(client, app)
    challenge = await challenge_for(client, enrolled.account)
    assert (await answer(client, challenge, code_of(enrolled.secret))).status_code == 200
    again = await answer(client, challenge, enrolled.recovery_codes[0])
    assert expect(again, 401)["error_code"] == "INVALID_CHALLENGE"


async def test_a_challenge_allows_five_attempts(client: AsyncClient, app: FastAPI) -> None:
    enrolled = await enrol(client, app)
    challenge = await challenge_for(client, enrolled.account)
    for _ in range(5):
        refused = await answer(client, challenge, wrong_code(enrolled.secret))
        assert expect(refused, 401)["error_code"] == "INVALID_CODE"
    await forget_failures(app)
    refused = await answer(client, challenge, code_of(enrolled.secret))
    assert expect(refused, 401)["error_code"] == "INVALID_CHALLENGE"
    assert (await sign_in(client, enrolled)).status_code == 200


async def test_a_burst_gets_no_more_attempts(
    client: AsyncClient, app: FastAPI, make_client: MakeClient
) -> None:
    enrolled = await enrol(client, app)
    challenge = await challenge_for(client, enrolled.account)
    thieves = [make_client(app, address=f"203.0.{number}.62") for number in range(9)]
    answers = await asyncio.gather(
        *(answer(each, challenge, wrong_code(enrolled.secret)) for each in thieves)
    )
    told = [expect(each, 401)["error_code"] for each in answers]
    assert sorted(told) == ["INVALID_CHALLENGE"] * 4 + ["INVALID_CODE"] * 5


async def test_a_challenge_runs_out_and_is_swept(client: AsyncClient, app: FastAPI) -> None:
    enrolled = await enrol(client, app)
    challenge = await challenge_for(client, enrolled.account)
    async with app.state.resources.db.transaction() as connection:
        mine = second_factor_challenges.c.user_id == enrolled.account.id
        older = update(second_factor_challenges).where(mine)
        await connection.execute(older.values(expires_at=now() - timedelta(seconds=1)))
    refused = await answer(client, challenge, code_of(enrolled.secret))
    assert expect(refused, 401)["error_code"] == "INVALID_CHALLENGE"
    a_day = timedelta(days=1)
    assert (await sweep(app.state.resources.db, a_day, a_day))["tokens"] >= 1


async def test_no_other_token_is_a_challenge_and_a_challenge_no_other_token(
    client: AsyncClient, app: FastAPI
) -> None:
    enrolled = await enrol(client, app)
    ticket = await client.post(f"{AUTH}/ws-ticket", headers=enrolled.headers)
    tokens = enrolled.tokens
    code = code_of(enrolled.secret)
    for wrong in (tokens.access, tokens.refresh, expect(ticket, 200)["ticket"], "", "kpc_", "x"):
        refused = await answer(client, wrong, code)
        assert expect(refused, 401)["error_code"] == "INVALID_CHALLENGE"
    challenge = await challenge_for(client, enrolled.account)
    assert (
        await client.get(ME, headers={"Authorization": f"Bearer {challenge}"})
    ).status_code == 401
    refused = await client.post(f"{AUTH}/refresh", json={"refresh_token": challenge})
    assert refused.status_code == 401
    # None of this used the code up.
    assert (await answer(client, challenge, code)).status_code == 200


async def test_somebody_elses_code_does_not_answer_a_challenge(
    client: AsyncClient, app: FastAPI
) -> None:
    victim, thief = await enrol(client, app), await enrol(client, app)
    challenge = await challenge_for(client, victim.account)
    for code in (code_of(thief.secret), thief.recovery_codes[0]):
        assert (await answer(client, challenge, code)).status_code == 401
    # They were not used up either.
    assert (await sign_in(client, thief)).status_code == 200
    assert (await sign_in(client, thief, thief.recovery_codes[0])).status_code == 200


async def test_a_new_password_makes_waiting_challenges_void(
    client: AsyncClient, app: FastAPI
) -> None:
    enrolled = await enrol(client, app)
    challenge = await challenge_for(client, enrolled.account)
    new = "a wholly different phrase"
    old = enrolled.account.password
    body = {"current_password": old, "new_password": new, "confirm_password": new}
    changed = await client.post(f"{AUTH}/password/change", json=body, headers=enrolled.headers)
    assert changed.status_code == 204
    refused = await answer(client, challenge, code_of(enrolled.secret))
    assert expect(refused, 401)["error_code"] == "INVALID_CHALLENGE"


async def test_a_deactivated_account_answers_no_challenge(
    client: AsyncClient, app: FastAPI
) -> None:
    boss, enrolled = await admin(client, app), await enrol(client, app)
    challenge = await challenge_for(client, enrolled.account)
    url = f"/api/v1/users/{enrolled.account.id}"
    off = await client.patch(url, json={"is_active": False}, headers=boss.headers)
    assert off.status_code == 200
    refused = await answer(client, challenge, code_of(enrolled.secret))
    assert expect(refused, 401)["error_code"] == "INVALID_CHALLENGE"


async def test_no_way_in_leads_around_it(client: AsyncClient, app: FastAPI) -> None:
    """Whoever was found before the factor was turned on is asked for it all the same."""
    tokens = await new_user(client)
    resources, device = app.state.resources, Device("127.0.0.1", None)
    account = tokens.account
    proven = await resources.accounts.prove(account.username, account.password, device)
    had_none = await resources.second_factor.prove(proven, "123456", device)
    secret = (await begin(client, tokens))["secret"]
    expect(await confirm(client, tokens, code_of(secret)), 200)
    with pytest.raises(SecondFactorRequired):
        await resources.sessions.open(proven, device, has_proven_factor=had_none)


async def test_codes_are_guessed_a_few_times_and_the_right_password_buys_no_more(
    app: FastAPI, make_client: MakeClient
) -> None:
    home = make_client(app, address="198.51.100.60")
    enrolled = await enrol(home, app)
    guessed = 0
    for number in range(24):
        thief = make_client(app, address=f"203.0.{number}.60")
        refused = await password_form(thief, enrolled.account, otp=wrong_code(enrolled.secret))
        assert refused.status_code in (401, 429)
        guessed += refused.status_code == 401
    assert guessed <= 10
    # Nor does a challenge, or the right code: nobody learns it any more.
    locked = await sign_in(thief, enrolled)
    assert expect(locked, 429)["error_code"] == "ACCOUNT_LOCKED"
    assert int(locked.headers["retry-after"]) >= 1
    # The owner gets in from home, by another code.
    await let_steps_pass(app, enrolled.account)
    assert (await sign_in(home, enrolled)).status_code == 200


async def let_time_pass(app: FastAPI, passed: timedelta) -> None:
    async with app.state.resources.db.transaction() as connection:
        for row in (await connection.execute(login_failures.select())).all():
            locked = row.locked_until - passed if row.locked_until else None
            this = login_failures.c.account_key == row.account_key
            older = {"last_failed_at": row.last_failed_at - passed, "locked_until": locked}
            await connection.execute(update(login_failures).where(this).values(older))


@pytest.mark.usefixtures("clean_database")
async def test_for_a_day_there_is_one_more_guess_each_quarter_of_an_hour(
    app: FastAPI, make_client: MakeClient
) -> None:
    enrolled = await enrol(make_client(app, address="198.51.100.61"), app)
    guessed = 0
    for quarter in range(8):
        for number in range(12):
            thief = make_client(app, address=f"203.{quarter}.{number}.61")
            refused = await password_form(thief, enrolled.account, otp=wrong_code(enrolled.secret))
            guessed += refused.status_code == 401
            if refused.status_code == 429:
                break
        await let_time_pass(app, timedelta(minutes=15, seconds=1))
    assert guessed <= 10 + 7


@pytest.mark.only("production")
async def test_a_burst_of_codes_over_many_workers_is_counted_as_if_it_came_in_line(
    make_app: MakeApp, make_client: MakeClient, client: AsyncClient, app: FastAPI
) -> None:
    workers = [await make_app() for _ in range(3)]
    enrolled = await enrol(client, app)
    thieves = [make_client(workers[n % 3], address=f"203.9.{n}.1") for n in range(6)]
    challenges = [await challenge_for(each, enrolled.account) for each in thieves]
    answers = await asyncio.gather(
        *(answer(thieves[n % 6], challenges[n % 6], wrong_code(enrolled.secret)) for n in range(30))
    )
    assert [each.status_code for each in answers].count(401) <= 10
    assert {each.status_code for each in answers} == {401, 429}


@pytest.mark.parametrize("form", [str.lower, str.upper, lambda code: code.replace("-", " ")])
async def test_a_recovery_code_works_once_however_it_is_typed(
    client: AsyncClient, app: FastAPI, form: Callable[[str], str]
) -> None:
    enrolled = await enrol(client, app)
    one, *_, other = enrolled.recovery_codes
    assert (await sign_in(client, enrolled, form(one))).status_code == 200
    refused = await sign_in(client, enrolled, one)
    assert expect(refused, 401)["error_code"] == "INVALID_CODE"
    seen = expect(await client.get(TOTP, headers=enrolled.headers), 200)
    assert seen["recovery_codes_left"] == 9
    assert (await password_form(client, enrolled.account, otp=other)).status_code == 200


async def test_a_recovery_code_used_many_times_at_once_works_once(
    client: AsyncClient, app: FastAPI
) -> None:
    enrolled = await enrol(client, app)
    code = enrolled.recovery_codes[0]
    answers = await asyncio.gather(
        *(password_form(client, enrolled.account, otp=code) for _ in range(5))
    )
    assert sorted(each.status_code for each in answers) == [200] + [401] * 4


@pytest.mark.parametrize(
    "content",
    [
        b'{"challenge": "kpc_CANARY\\u0000", "code": "123456"}',
        b'{"challenge": "kpc_x", "code": "CANARY\\u0000"}',
        b'{"challenge": "kpc_x", "code": "CANARY\\ud800"}',
        b'{"challenge": "kpc_x", "code": "' + b"9" * 10_000 + b'"}',
        b'{"challenge": "kpc_x", "code": 123456}',
        b'{"challenge": "kpc_x", "code": ["CANARY"]}',
        b'{"challenge": "kpc_x", "code": null}',
        b'{"challenge": "kpc_x", "code": "1", "user_id": "CANARY"}',
        b'{"challenge": "kpc_x"}',
        b'{"code": "123456"}',
        b"[]",
        b"null",
        b"",
    ],
)
async def test_a_hostile_body_is_unprocessable_and_not_echoed(
    client: AsyncClient, content: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    refused = await client.post(ANSWER, content=content, headers=headers)
    assert refused.status_code in (400, 422), refused.text
    assert "CANARY" not in refused.text


async def test_what_looks_like_a_code_to_some_is_only_wrong(
    client: AsyncClient, app: FastAPI
) -> None:
    enrolled = await enrol(client, app)
    code = code_of(enrolled.secret)
    arabic = code.translate({ord("0") + n: chr(0x0660 + n) for n in range(10)})
    for odd in (arabic, f"+{code}", f"{code}.0", f"0{code}", code[:5], "ß" * 8, "²" * 6, "\x7f"):
        refused = await password_form(client, enrolled.account, otp=odd)
        assert expect(refused, 401)["error_code"] == "INVALID_CODE", odd
        await forget_failures(app)
    assert (await password_form(client, enrolled.account, otp=code)).status_code == 200


async def test_codes_outlive_a_rotation_of_the_secret_and_the_next_one(
    make_app: MakeApp, make_client: MakeClient, client: AsyncClient, app: FastAPI
) -> None:
    enrolled, lost = await enrol(client, app), await enrol(client, app)
    other = await make_app(secret_key=OTHER_SECRET, secret_key_previous=SECRET_KEY)
    rotated = make_client(other)
    assert (await sign_in(rotated, enrolled)).status_code == 200
    await other.state.resources.second_factor.reseal()
    await let_steps_pass(app, enrolled.account)
    third = await make_app(secret_key=THIRD_SECRET, secret_key_previous=OTHER_SECRET)
    assert (await sign_in(make_client(third), enrolled)).status_code == 200
    # The first secret is needed no more; and who has another altogether still has the paper.
    async with app.state.resources.db.transaction() as connection:
        mine = update(totp_factors).where(totp_factors.c.user_id == lost.account.id)
        await connection.execute(mine.values(sealed_secret="00000000.AAAA"))
    assert (await sign_in(client, lost)).status_code == 401
    assert (await sign_in(client, lost, lost.recovery_codes[0])).status_code == 200


async def test_no_code_and_no_secret_reaches_the_log(
    client: AsyncClient, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        enrolled = await enrol(client, app)
        challenge = await challenge_for(client, enrolled.account)
        code = code_of(enrolled.secret)
        await answer(client, challenge, wrong_code(enrolled.secret))
        expect(await answer(client, challenge, code), 200)
    logged = "".join(f"{record.getMessage()}{record.__dict__}" for record in caplog.records)
    for secret in (enrolled.secret, challenge, enrolled.recovery_codes[0]):
        assert secret not in logged
