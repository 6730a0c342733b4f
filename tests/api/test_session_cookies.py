"""A browser's refresh token as a cookie: no script reads it, and no other site's page uses it."""

import asyncio
from datetime import timedelta
from http.cookies import Morsel, SimpleCookie

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import select, update

from app.clock import now
from app.models.users import Session, sessions
from app.services import session_use
from tests.api.second_factors import answer, challenge_for, code_of, enrol
from tests.conftest import MakeApp, MakeClient
from tests.factories import Account, expect, new_user, register
from tests.patience import within

AUTH = "/api/v1/auth"
ME = "/api/v1/users/me"
NAME = "kingpost_refresh"
OWN = {"Origin": "http://testserver"}
OTHER_SITES = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://testserver.evil.example"},
    {"Origin": "http://evil.example:80/testserver"},
    {"Origin": "http://testserver:8080"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "file://"},
    {"Origin": "https://evil.example", "X-Requested-With": "XMLHttpRequest"},
    {"Referer": "http://testserver/"},
    {},
]


@pytest.fixture
def browser(app: FastAPI, make_client: MakeClient) -> AsyncClient:
    """A client with a jar of its own."""
    return make_client(app)


async def sign_in(
    client: AsyncClient, account: Account, headers: dict[str, str], version: str = "v1"
) -> Response:
    form = {"username": account.username, "password": account.password}
    url = f"/api/{version}/auth/token?cookie=true"
    return await client.post(url, data=form, headers=headers)


async def refresh(client: AsyncClient, headers: dict[str, str], version: str = "v1") -> Response:
    return await client.post(f"/api/{version}/auth/refresh", headers=headers)


def cookie_of(response: Response) -> Morsel[str]:
    (header,) = response.headers.get_list("set-cookie")
    (morsel,) = SimpleCookie(header).values()
    return morsel


def bearer(response: Response) -> dict[str, str]:
    return {"Authorization": f"Bearer {expect(response, 200)['access_token']}"}


async def test_the_cookie_is_hardened_and_the_body_has_no_refresh_token(
    browser: AsyncClient,
) -> None:
    answered = await sign_in(browser, await register(browser), OWN)
    body = expect(answered, 200)
    assert "refresh_token" not in body
    assert body["access_token"]
    cookie = cookie_of(answered)
    assert (cookie.key, cookie["path"], cookie["samesite"]) == (NAME, "/api", "strict")
    assert cookie["httponly"]
    assert not cookie["secure"]  # plain HTTP: the browser would not keep it
    assert not cookie["domain"]
    assert int(cookie["max-age"]) == body["refresh_expires_in"]
    assert answered.headers["cache-control"] == "no-store"
    assert cookie.value not in answered.text


async def test_over_tls_it_is_secure_and_nobody_without_tls_can_plant_one(
    app: FastAPI, make_client: MakeClient
) -> None:
    client = make_client(app)
    client.base_url = "https://testserver"
    account = await register(client)
    answered = await sign_in(client, account, {"Origin": "https://testserver"})
    cookie = cookie_of(answered)
    assert (cookie.key, cookie["secure"]) == (f"__Secure-{NAME}", True)
    assert (await sign_in(client, account, OWN)).status_code == 403  # our own name without TLS
    https = {"Origin": "https://testserver"}
    assert (await refresh(client, https)).status_code == 200
    planted = make_client(app, cookies={NAME: cookie.value})
    planted.base_url = client.base_url
    assert (await refresh(planted, https)).status_code == 422


async def test_without_being_asked_for_there_is_none(browser: AsyncClient) -> None:
    account = await register(browser)
    form = {"username": account.username, "password": account.password}
    for query in ("", "?cookie=false"):
        answered = await browser.post(f"{AUTH}/token{query}", data=form)
        assert "refresh_token" in expect(answered, 200)
        assert "set-cookie" not in answered.headers
    body = {"refresh_token": answered.json()["refresh_token"]}
    answered = await browser.post(f"{AUTH}/refresh", json=body)
    assert "refresh_token" in expect(answered, 200)
    assert "set-cookie" not in answered.headers


async def test_it_is_spent_for_the_next_in_every_version(browser: AsyncClient) -> None:
    answered = await sign_in(browser, await register(browser), OWN, "v2")
    assert "refreshToken" not in expect(answered, 200)
    seen = {browser.cookies[NAME]}
    for version in ("v1", "v2", "v1"):
        answered = await refresh(browser, OWN, version)
        assert "refresh_token" not in expect(answered, 200)
        assert (await browser.get(ME, headers=bearer(answered))).status_code == 200
        seen.add(browser.cookies[NAME])
    unversioned = await browser.post("/api/auth/refresh", headers={**OWN, "API-Version": "2"})
    assert unversioned.status_code == 200
    seen.add(browser.cookies[NAME])
    assert len(seen) == 5


@pytest.mark.parametrize("headers", OTHER_SITES)
async def test_another_sites_page_rotates_nothing(
    browser: AsyncClient, app: FastAPI, headers: dict[str, str]
) -> None:
    """As if the browser sent the cookie all the same: an old one, or from a sibling domain."""
    account = await register(browser)
    await sign_in(browser, account, OWN)
    before, kept = await row_of(app, account), browser.cookies[NAME]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for more in ({}, form, {"Content-Type": "text/plain"}):
        refused = await browser.post(f"{AUTH}/refresh", headers={**headers, **more})
        assert expect(refused, 403)["error_code"] == "CROSS_SITE_REQUEST"
        assert "set-cookie" not in refused.headers
    assert await row_of(app, account) == before
    assert browser.cookies[NAME] == kept
    assert (await refresh(browser, OWN)).status_code == 200


async def row_of(app: FastAPI, account: Account) -> Session:
    async with app.state.resources.db.read() as connection:
        mine = select(sessions).where(sessions.c.user_id == account.id)
        return Session._make((await connection.execute(mine)).one())


@pytest.mark.parametrize("headers", OTHER_SITES)
async def test_another_sites_page_signs_nobody_in_here(
    browser: AsyncClient, headers: dict[str, str]
) -> None:
    """A form posted there would make the visitor work in the attacker's account unawares."""
    refused = await sign_in(browser, await register(browser), headers)
    assert expect(refused, 403)["error_code"] == "CROSS_SITE_REQUEST"
    assert "set-cookie" not in refused.headers


async def test_a_program_says_by_a_header_that_it_is_no_form(browser: AsyncClient) -> None:
    headers = {"X-Requested-With": "XMLHttpRequest"}
    assert (await sign_in(browser, await register(browser), headers)).status_code == 200
    assert (await refresh(browser, headers)).status_code == 200


async def test_an_origin_allowed_to_send_credentials_may_use_it(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    headers = {"Origin": "https://app.example.com"}
    origins = {"cors_origins": ("https://app.example.com",)}
    allowed = make_client(await make_app(**origins, cors_credentials=True))
    account = await register(allowed)
    assert (await sign_in(allowed, account, headers)).status_code == 200
    assert (await refresh(allowed, headers)).status_code == 200
    without = make_client(await make_app(**origins))
    assert (await sign_in(without, account, headers)).status_code == 403
    anyone = make_client(await make_app(cors_origins=("*",)))
    assert (await sign_in(anyone, account, headers)).status_code == 403


async def test_two_tabs_that_wake_together_both_go_on(browser: AsyncClient) -> None:
    await sign_in(browser, await register(browser), OWN)
    answers = await asyncio.gather(*(refresh(browser, OWN) for _ in range(6)))
    assert {each.status_code for each in answers} == {200}
    assert len({cookie_of(each).value for each in answers}) == 1
    assert (await refresh(browser, OWN)).status_code == 200


async def test_a_stolen_cookie_used_later_ends_the_session(
    browser: AsyncClient, app: FastAPI, make_client: MakeClient
) -> None:
    account = await register(browser)
    await sign_in(browser, account, OWN)
    thief = make_client(app, cookies={NAME: browser.cookies[NAME]})
    signed_in = bearer(await refresh(browser, OWN))
    async with app.state.resources.db.transaction() as connection:
        mine = update(sessions).where(sessions.c.user_id == account.id)
        await connection.execute(mine.values(rotated_at=now() - timedelta(minutes=1)))
    assert expect(await refresh(thief, OWN), 401)["error_code"] == "TOKEN_REUSED"
    assert (await browser.get(ME, headers=signed_in)).status_code == 401


@pytest.mark.parametrize("path", ["logout", "logout-all"])
async def test_signing_out_takes_the_cookie_back(browser: AsyncClient, path: str) -> None:
    signed_in = bearer(await sign_in(browser, await register(browser), OWN))
    answered = await browser.post(f"{AUTH}/{path}", headers=signed_in)
    assert answered.status_code == 204
    cookie = cookie_of(answered)
    assert (cookie.value, cookie["path"], cookie["max-age"]) == ("", "/api", "0")
    assert NAME not in browser.cookies
    assert (await refresh(browser, OWN)).status_code == 422


async def test_the_cookie_alone_signs_no_request_in_and_nobody_out(browser: AsyncClient) -> None:
    await sign_in(browser, await register(browser), OWN)
    assert (await browser.get(ME, headers=OWN)).status_code == 401
    for path in ("logout", "logout-all", "ws-ticket"):
        assert (await browser.post(f"{AUTH}/{path}", headers=OWN)).status_code == 401
    assert (await refresh(browser, OWN)).status_code == 200


@pytest.mark.parametrize("value", ["", "x", "kpr_1.1.0", "kpr_" + "9" * 5000, '"', "kpr_٣.1.0"])
async def test_a_hostile_cookie_is_only_invalid(
    app: FastAPI, make_client: MakeClient, value: str
) -> None:
    headers = [(b"Cookie", f"{NAME}={value}".encode()), (b"Origin", b"http://testserver")]
    client = make_client(app, headers=headers)
    assert (await client.post(f"{AUTH}/refresh")).status_code == 401


async def test_a_second_factor_is_asked_for_before_there_is_a_cookie(
    browser: AsyncClient, app: FastAPI
) -> None:
    enrolled = await enrol(browser, app)
    refused = await sign_in(browser, enrolled.account, OWN)
    challenge = expect(refused, 401)["challenge"]
    assert "set-cookie" not in refused.headers
    body = {"challenge": challenge, "code": code_of(enrolled.secret)}
    url = f"{AUTH}/token/second-factor?cookie=true"
    assert (await browser.post(url, json=body, headers=OTHER_SITES[0])).status_code == 403
    answered = await browser.post(url, json=body, headers=OWN)
    assert "refresh_token" not in expect(answered, 200)
    assert (await refresh(browser, OWN)).status_code == 200
    plainly = await challenge_for(browser, enrolled.account)
    answered = await answer(browser, plainly, enrolled.recovery_codes[0])
    assert "refresh_token" in expect(answered, 200)


async def test_a_session_ends_in_time_however_much_it_is_used(
    browser: AsyncClient, make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(session_days=40, refresh_token_days=30)
    client = make_client(app)
    account = await register(client)
    opened = await sign_in(client, account, OWN)
    day = 24 * 60 * 60
    assert 30 * day - 5 < expect(opened, 200)["refresh_expires_in"] <= 30 * day
    await make_older(app, account, timedelta(days=25))
    later = expect(await refresh(client, OWN), 200)
    assert 15 * day - 5 < later["refresh_expires_in"] <= 15 * day
    await make_older(app, account, timedelta(days=15) - timedelta(seconds=90))
    last = await refresh(client, OWN)
    body = expect(last, 200)
    assert 80 < body["refresh_expires_in"] <= 90
    # Nor does the access token outlive it.
    assert body["expires_in"] <= 90
    await make_older(app, account, timedelta(seconds=90))
    assert (await refresh(client, OWN)).status_code == 401
    await make_older(app, account, timedelta(days=1))
    app.state.resources.authenticator.forget_user(account.id)
    assert (await client.get(ME, headers=bearer(last))).status_code == 401


async def make_older(app: FastAPI, account: Account, passed: timedelta) -> None:
    async with app.state.resources.db.transaction() as connection:
        mine = sessions.c.user_id == account.id
        row = (await connection.execute(select(sessions).where(mine))).one()
        times = ("created_at", "rotated_at", "last_used_at", "expires_at")
        older = {name: getattr(row, name) - passed for name in times}
        await connection.execute(update(sessions).where(mine).values(older))


async def last_used(client: AsyncClient, headers: dict[str, str]) -> str:
    (mine,) = expect(await client.get(f"{AUTH}/sessions", headers=headers), 200)["items"]
    found: str = mine["last_used_at"]
    return found


async def test_the_last_use_is_noted_at_most_once_a_minute(
    client: AsyncClient, app: FastAPI
) -> None:
    resources = app.state.resources
    tokens = await new_user(client)
    opened_at = await last_used(client, tokens.headers)
    await session_use.note(resources.db, resources.authenticator)
    assert await last_used(client, tokens.headers) == opened_at
    await make_older(app, tokens.account, timedelta(minutes=5))
    older = await last_used(client, tokens.headers)
    assert older < opened_at
    await session_use.note(resources.db, resources.authenticator)
    noted = await last_used(client, tokens.headers)
    assert noted > opened_at
    await session_use.note(resources.db, resources.authenticator)
    assert await last_used(client, tokens.headers) == noted
    # A session that nobody uses is left alone.
    await make_older(app, tokens.account, timedelta(minutes=5))
    resources.authenticator.take_used()
    before = await row_of(app, tokens.account)
    await session_use.note(resources.db, resources.authenticator)
    assert await row_of(app, tokens.account) == before


@pytest.mark.only("production")
async def test_workers_that_note_at_once_do_not_wait_for_one_another(
    client: AsyncClient, app: FastAPI, make_app: MakeApp, make_client: MakeClient
) -> None:
    other = await make_app()
    people = [await new_user(client) for _ in range(3)]
    for each in people:
        await make_older(app, each.account, timedelta(minutes=5))
        for worker in (app, other):
            assert (await make_client(worker).get(ME, headers=each.headers)).status_code == 200
    here, there = app.state.resources, other.state.resources
    async with here.db.transaction() as connection:
        used = sessions.c.user_id.in_([each.account.id for each in people])
        await connection.execute(select(sessions).where(used).with_for_update())
        async with within(2):
            await session_use.note(there.db, there.authenticator)
    await session_use.note(here.db, here.authenticator)
    for each in people:
        assert (await row_of(app, each.account)).last_used_at > now() - timedelta(minutes=1)
