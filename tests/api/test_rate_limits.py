"""Rate limits: exact, per caller, unforgeable."""

import asyncio

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from starlette.requests import HTTPConnection

from app.dependencies.limits import KeyFunction, check
from app.errors import RateLimited
from tests.conftest import MakeApp, MakeClient
from tests.factories import expect, new_user, register

ITEMS = "/api/v1/items"
LIMITED = {"rate_limits_enabled": True, "rate_limit_default": "10/minute"}


async def hammer(
    client: AsyncClient, times: int = 20, headers: dict[str, str] | None = None
) -> list[Response]:
    return await asyncio.gather(*(client.get(ITEMS, headers=headers) for _ in range(times)))


def admitted(answers: list[Response]) -> int:
    assert {each.status_code for each in answers} <= {200, 429}
    return sum(each.status_code == 200 for each in answers)


@pytest.mark.usefixtures("clean_database")
async def test_beyond_the_limit_the_answer_says_when_to_come_back(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    client = make_client(await make_app(**LIMITED), address="203.0.113.1")
    first = await client.get(ITEMS)
    assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("10", "9")
    assert 0 < int(first.headers["ratelimit-reset"]) <= 60
    answers = await hammer(client)
    assert admitted(answers) == 9
    refused = next(each for each in answers if each.status_code == 429)
    assert expect(refused, 429)["error_code"] == "RATE_LIMITED"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit-remaining"] == "0"


@pytest.mark.usefixtures("clean_database")
async def test_each_caller_has_a_limit_of_their_own(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(**LIMITED)
    one, other = (make_client(app, address=f"203.0.113.{n}") for n in (2, 3))
    assert admitted(await hammer(one)) == 10
    assert admitted(await hammer(other)) == 10
    tokens = await new_user(make_client(app, address="203.0.113.4"))
    assert admitted(await hammer(one, headers=tokens.headers)) == 10
    assert admitted(await hammer(other, headers=tokens.headers)) == 0  # the same person elsewhere


@pytest.mark.usefixtures("clean_database")
async def test_no_header_and_no_spelling_buys_more(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    client = make_client(await make_app(**LIMITED), address="203.0.113.5")
    answers: list[Response] = []
    for number in range(30):
        headers = {
            "X-Forwarded-For": f"10.0.0.{number}",
            "X-Real-IP": f"10.0.1.{number}",
            "Forwarded": f"for=10.0.2.{number}",
            "User-Agent": str(number),
        }
        path = ITEMS if number % 2 else f"/api/v2/items?limit={number + 1}"
        answers.append(await client.get(path, headers=headers))
    assert admitted(answers) == 10


@pytest.mark.usefixtures("clean_database")
async def test_behind_a_trusted_proxy_the_client_is_counted(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(**LIMITED, trusted_proxies="10.1.0.0/16")
    proxy = make_client(app, address="10.1.2.3")
    assert admitted(await hammer(proxy, headers={"X-Forwarded-For": "198.51.100.1"})) == 10
    assert admitted(await hammer(proxy, headers={"X-Forwarded-For": "198.51.100.2"})) == 10
    # The leftmost entry is whatever the client wrote; the proxy appended the last one.
    forged = await hammer(proxy, headers={"X-Forwarded-For": "1.2.3.4, 198.51.100.1"})
    assert admitted(forged) == 0


@pytest.mark.only("production")
@pytest.mark.usefixtures("clean_database")
async def test_all_workers_count_together(make_app: MakeApp, make_client: MakeClient) -> None:
    apps = [await make_app(**LIMITED) for _ in range(4)]
    clients = [make_client(app, address="203.0.113.6") for app in apps]
    answers = await asyncio.gather(*(hammer(client, 10) for client in clients))
    assert sum(map(admitted, answers)) == 10


@pytest.mark.usefixtures("clean_database")
async def test_bad_credentials_count_too(make_app: MakeApp, make_client: MakeClient) -> None:
    client = make_client(await make_app(**LIMITED), address="203.0.113.7")
    answers = await hammer(client, 15, {"Authorization": "Bearer nonsense"})
    assert sorted({each.status_code for each in answers}) == [401, 429]
    assert sum(each.status_code == 401 for each in answers) == 10


@pytest.mark.usefixtures("clean_database")
async def test_signing_in_has_a_stricter_limit(make_app: MakeApp, make_client: MakeClient) -> None:
    app = await make_app(rate_limits_enabled=True, rate_limit_login="3/minute")
    client = make_client(app, address="203.0.113.8")
    account = await register(client)
    form = {"username": account.username, "password": account.password}
    statuses = [(await client.post("/api/v1/auth/token", data=form)).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


async def test_health_is_never_limited(make_app: MakeApp, make_client: MakeClient) -> None:
    client = make_client(await make_app(rate_limits_enabled=True, rate_limit_default="1/hour"))
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert {(await client.get(path)).status_code for _ in range(3)} == {200}


async def test_without_limits_nothing_is_counted(app: FastAPI, client: AsyncClient) -> None:
    assert "ratelimit-limit" not in (await client.get(ITEMS)).headers


@pytest.mark.usefixtures("clean_database")
async def test_a_repeat_under_one_key_counts_as_well(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(**LIMITED)
    tokens = await new_user(make_client(app, address="203.0.113.10"))
    headers = {**tokens.headers, "Idempotency-Key": "again"}
    client = make_client(app, address="203.0.113.11")
    body = {"name": "Once", "price": 1}
    answers = [await client.post(ITEMS, json=body, headers=headers) for _ in range(12)]
    assert [each.status_code for each in answers] == [201] * 10 + [429] * 2
    left = [each.headers["ratelimit-remaining"] for each in answers[:10]]
    assert left == [str(9 - n) for n in range(10)]  # each is counted, and once


@pytest.mark.usefixtures("clean_database")
async def test_nobody_tries_passwords_on_a_registration_by_its_key(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(rate_limits_enabled=True, rate_limit_register="5/minute")
    client = make_client(app, address="203.0.113.12")
    body = {"email": "ada@example.com", "username": "ada"}
    statuses = []
    for n in range(8):
        password = f"correct horse battery {n}"
        answer = await client.post(
            "/api/v1/auth/register",
            json=body | {"password": password, "confirm_password": password},
            headers={"Idempotency-Key": "ada"},
        )
        statuses.append(answer.status_code)
    assert statuses == [201, *[422] * 4, *[429] * 3]


@pytest.mark.usefixtures("clean_database")
async def test_a_request_counts_once_for_each_of_two_keys_of_one_limit(make_app: MakeApp) -> None:
    app = await make_app(rate_limits_enabled=True, rate_limit_login="1/hour")

    async def ask(*keys: KeyFunction) -> None:
        request = HTTPConnection({"type": "http", "headers": [], "app": app})
        for key in (*keys, *keys):
            await check(request, "login", key=key)

    await ask(_by_address, _by_name)
    for key in (_by_address, _by_name):
        with pytest.raises(RateLimited):
            await ask(key)


def _by_address(_connection: HTTPConnection) -> str:
    return "ip:203.0.113.13"


def _by_name(_connection: HTTPConnection) -> str:
    return "name:ada"
