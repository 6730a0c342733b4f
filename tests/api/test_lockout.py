"""Guessing passwords: bounded for whoever guesses, never a lock-out of the owner."""

import asyncio
from datetime import timedelta

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import select, update

from app.models.users import login_failures
from tests.conftest import MakeApp, MakeClient
from tests.factories import Account, Tokens, expect, register, sign_in

TOKEN = "/api/v1/auth/token"


async def attempt(client: AsyncClient, account: Account, password: str = "a guess") -> int:
    form = {"username": account.username, "password": password}
    answer = await client.post(TOKEN, data=form)
    if answer.status_code == 429:
        assert expect(answer, 429)["error_code"] == "ACCOUNT_LOCKED"
        assert int(answer.headers["retry-after"]) >= 1
    return answer.status_code


async def test_guesses_from_one_place_soon_have_to_wait(
    app: FastAPI, make_client: MakeClient
) -> None:
    attacker = make_client(app, address="203.0.113.7")
    account = await register(attacker)
    statuses = [await attempt(attacker, account) for _ in range(8)]
    assert statuses[:5] == [401] * 5
    assert 429 in statuses[5:]
    assert await attempt(attacker, account, account.password) == 429


async def test_a_burst_is_counted_as_if_it_came_in_line(
    app: FastAPI, make_client: MakeClient
) -> None:
    attacker = make_client(app, address="203.0.113.8")
    account = await register(attacker)
    statuses = await asyncio.gather(*(attempt(attacker, account) for _ in range(30)))
    assert list(statuses).count(401) <= 6


async def test_guesses_from_everywhere_are_bounded_and_the_owner_still_gets_in(
    app: FastAPI, make_client: MakeClient
) -> None:
    home = make_client(app, address="198.51.100.20")
    account = await register(home)
    assert await attempt(home, account, account.password) == 200
    guessed = 0
    for number in range(30):
        attacker = make_client(app, address=f"203.0.{number}.1")
        guessed += await attempt(attacker, account) == 401
    assert guessed <= 10
    assert await attempt(home, account, account.password) == 200


async def test_an_unknown_account_locks_like_a_known_one(
    app: FastAPI, make_client: MakeClient
) -> None:
    attacker = make_client(app, address="203.0.113.9")
    nobody = Account(0, "x@example.com", "nobody.of.that.name", "")
    somebody = await register(attacker)
    assert [await attempt(attacker, nobody) for _ in range(7)] == [
        await attempt(attacker, somebody) for _ in range(7)
    ]


async def test_a_right_password_starts_the_count_anew(
    app: FastAPI, make_client: MakeClient
) -> None:
    client = make_client(app, address="203.0.113.10")
    account = await register(client)
    for _ in range(3):
        assert [await attempt(client, account) for _ in range(4)] == [401] * 4
        assert await attempt(client, account, account.password) == 200


async def let_time_pass(app: FastAPI, passed: timedelta) -> None:
    """Make every failure older: nobody waits a quarter of an hour for a test."""
    async with app.state.resources.db.transaction() as connection:
        for row in (await connection.execute(select(login_failures))).all():
            locked_until = row.locked_until - passed if row.locked_until else None
            statement = update(login_failures).where(
                login_failures.c.account_key == row.account_key
            )
            older = {"last_failed_at": row.last_failed_at - passed, "locked_until": locked_until}
            await connection.execute(statement.values(older))


@pytest.mark.usefixtures("clean_database")
async def test_at_home_too_there_are_ten_guesses_in_a_quarter_of_an_hour(
    app: FastAPI, make_client: MakeClient
) -> None:
    home = make_client(app, address="198.51.100.20")
    account = await register(home)
    await sign_in(home, account)
    guessed, step = 0, timedelta(seconds=15)
    for _ in range(int(timedelta(minutes=15) / step)):
        while await attempt(home, account) == 401:
            guessed += 1
        await let_time_pass(app, step)
    assert guessed <= 10
    await let_time_pass(app, timedelta(minutes=15))
    assert await attempt(home, account, account.password) == 200


async def test_the_owners_coming_and_going_buys_no_guesses(
    app: FastAPI, make_client: MakeClient
) -> None:
    home = make_client(app, address="198.51.100.21")
    account = await register(home)
    guessed = 0
    for number in range(24):
        if number % 3 == 0:
            await sign_in(home, account)
        attacker = make_client(app, address=f"203.0.{number}.2")
        guessed += await attempt(attacker, account) == 401
    assert guessed <= 10


@pytest.mark.parametrize(
    ("before", "later"),
    [("198.51.100.20", "198.51.100.99"), ("2001:db8:1:2::a", "2001:db8:1:2:8d3e:1:2:3")],
)
async def test_the_owner_is_known_by_the_neighbourhood(
    app: FastAPI, make_client: MakeClient, before: str, later: str
) -> None:
    account = await register(make_client(app, address=before))
    await sign_in(make_client(app, address=before), account)
    for number in range(12):
        await attempt(make_client(app, address=f"203.0.{number}.3"), account)
    assert await attempt(make_client(app, address="192.0.2.1"), account, account.password) == 429
    assert await attempt(make_client(app, address=later), account, account.password) == 200


async def test_guessing_at_a_number_locks_nobody_of_that_id(
    app: FastAPI, make_client: MakeClient
) -> None:
    home = make_client(app, address="198.51.100.22")
    account = await register(home)
    numbered = Account(0, "x@example.com", f"{account.id}", "")
    for number in range(12):
        await attempt(make_client(app, address=f"203.0.{number}.4"), numbered)
        await attempt(home, numbered)
    assert await attempt(home, account, account.password) == 200
    elsewhere = make_client(app, address="192.0.2.2")
    assert await attempt(elsewhere, account, account.password) == 200


@pytest.mark.only("production")
async def test_a_burst_over_many_workers_is_counted_as_if_it_came_in_line(
    make_app: MakeApp, make_client: MakeClient, client: AsyncClient
) -> None:
    workers = [await make_app() for _ in range(3)]
    for round_ in range(3):
        account = await register(client)
        near = [make_client(worker, address=f"203.0.113.{round_}") for worker in workers]
        statuses = await asyncio.gather(*(attempt(near[n % 3], account) for n in range(30)))
        assert list(statuses).count(401) <= 5
        account = await register(client)
        far = [make_client(workers[n % 3], address=f"203.{round_}.{n}.1") for n in range(40)]
        statuses = await asyncio.gather(*(attempt(each, account) for each in far))
        assert list(statuses).count(401) <= 10


@pytest.mark.only("production")
async def test_right_passwords_on_many_workers_at_once_all_get_in(
    make_app: MakeApp, make_client: MakeClient, client: AsyncClient
) -> None:
    workers = [make_client(await make_app()) for _ in range(3)]
    account = await register(client)
    answers = [attempt(workers[n % 3], account, account.password) for n in range(24)]
    assert set(await asyncio.gather(*answers)) == {200}


async def change_password(client: AsyncClient, tokens: Tokens, current: str) -> int:
    new = "a wholly different phrase"
    body = {"current_password": current, "new_password": new, "confirm_password": new}
    answer = await client.post("/api/v1/auth/password/change", json=body, headers=tokens.headers)
    return answer.status_code


async def test_a_stolen_token_guesses_the_password_no_more_often(
    app: FastAPI, make_client: MakeClient
) -> None:
    home = make_client(app, address="198.51.100.23")
    tokens = await sign_in(home, await register(home))
    thieves = [make_client(app, address=f"203.0.{number}.5") for number in range(30)]
    guesses = [await change_password(each, tokens, "a guess") for each in thieves]
    assert set(guesses) == {422, 429}
    assert guesses.count(422) <= 10
    # Both doors have one lock; the owner still gets in, and can end the thief's session.
    assert await attempt(thieves[-1], tokens.account, tokens.account.password) == 429
    assert await attempt(home, tokens.account, tokens.account.password) == 200
    assert await change_password(home, tokens, tokens.account.password) == 204
