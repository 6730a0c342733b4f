"""Guessing passwords: bounded for whoever guesses, never a lock-out of the owner."""

import asyncio

from fastapi import FastAPI
from httpx import AsyncClient

from tests.conftest import MakeClient
from tests.factories import Account, expect, register

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
