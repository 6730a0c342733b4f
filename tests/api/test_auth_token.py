"""Signing in: nothing tells who has an account, nothing hostile is a 500, no secret is told."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from app.errors import InvalidCredentials
from app.security import passwords
from app.services.sessions import Device
from tests.factories import Account, admin, expect, new_user, register, sign_in

TOKEN = "/api/v1/auth/token"
CANARY = "CANARY-sesame-9931"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def ask(client: AsyncClient, username: str, password: str) -> Response:
    return await client.post(TOKEN, data={"username": username, "password": password})


def told(answer: Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return what a stranger could tell two answers apart by."""
    own = ("request_id", "instance")
    body = {name: value for name, value in answer.json().items() if name not in own}
    passing = ("x-request-id", "server-timing", "x-process-time")
    return (
        answer.status_code,
        body,
        {name: value for name, value in answer.headers.items() if name not in passing},
    )


async def three_kinds(client: AsyncClient, app: FastAPI) -> list[tuple[str, str]]:
    """Return logins and passwords that are wrong for different reasons."""
    boss, closed = await admin(client, app), await register(client)
    url = f"/api/v1/users/{closed.id}"
    expect(await client.patch(url, json={"is_active": False}, headers=boss.headers), 200)
    known = await register(client)
    return [
        (known.username, "not the password"),
        (f"nobody{uuid4().hex[:8]}", "not the password"),
        (closed.username, closed.password),
    ]


async def test_wrong_unknown_and_inactive_are_one_answer(client: AsyncClient, app: FastAPI) -> None:
    answers = [told(await ask(client, *each)) for each in await three_kinds(client, app)]
    assert answers[0][0] == 401
    assert answers[0] == answers[1] == answers[2]


async def test_wrong_unknown_and_inactive_take_one_argon2_each(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds, costs = await three_kinds(client, app), []
    verify = passwords.CONTEXT.verify_and_update

    def counting(secret: str, hashed: str) -> Any:
        costs.append(hashed.rsplit("$", 2)[0])
        return verify(secret, hashed)

    monkeypatch.setattr(passwords.CONTEXT, "verify_and_update", counting)
    for each in kinds:
        await ask(client, *each)
    assert len(costs) == 3
    assert len(set(costs)) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"username=a%00b&password=x",
        b"username=ada&password=%00",
        b"username=ada&password=" + b"x" * 2000,
        b"username=" + b"x" * 100_000 + b"&password=x",
        b"username=%ED%A0%80&password=" + CANARY.encode(),
        b"username=%FF%FE&password=" + CANARY.encode(),
        b"username=" + b"9" * 300 + b"&password=NaN",
        b"username=1e999&password=1e999",
        b"username=ada&username=eve&password=" + CANARY.encode(),
        b"username=&password=",
        b"username&password",
        b"&&&===",
        b"%%%",
        b"\xff\xfe\x00",
        b"a=1&" * 5000,
        b"",
    ],
)
async def test_a_hostile_form_is_refused_and_no_more(client: AsyncClient, body: bytes) -> None:
    answer = await client.post(TOKEN, content=body, headers=FORM)
    assert answer.status_code in (400, 401, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "CANARY" not in answer.text


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
        ("multipart/form-data; boundary=x", b"--y--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="username"; filename="a"\r\n\r\na\r\n'
            b'--x\r\nContent-Disposition: form-data; name="password"\r\n\r\nCANARY\r\n--x--\r\n',
        ),
        ("application/x-www-form-urlencoded; charset=nonsense", b"username=a&password=CANARY"),
        ("application/json", b'{"username": "a", "password": "CANARY"}'),
        ("text/plain", b"username=a&password=CANARY"),
    ],
)
async def test_another_kind_of_body_is_refused_and_no_more(
    client: AsyncClient, media_type: str, body: bytes
) -> None:
    answer = await client.post(TOKEN, content=body, headers={"Content-Type": media_type})
    assert answer.status_code in (400, 401, 415, 422), answer.text
    assert "CANARY" not in answer.text


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_oauth2_fixes_the_spelling_of_the_answer_in_every_version(
    client: AsyncClient, version: str
) -> None:
    account = await register(client)
    form = {"username": account.email, "password": account.password}
    answer = await client.post(f"/api/{version}/auth/token", data=form)
    assert set(expect(answer, 200)) == {
        "access_token",
        "refresh_token",
        "token_type",
        "expires_in",
        "refresh_expires_in",
    }
    # RFC 6749, section 5.1.
    assert answer.headers["cache-control"] == "no-store"


async def test_a_password_is_the_same_however_the_keyboard_writes_it(client: AsyncClient) -> None:
    account = await register(client, password="caf\u00e9 au lait \u2460")
    composed = Account(account.id, account.email, account.username, "cafe\u0301 au lait 1")
    assert await sign_in(client, composed)


async def test_a_password_keeps_its_case_and_its_spaces(client: AsyncClient) -> None:
    account = await register(client, password="  Spaces And Case  ")
    for other in ("Spaces And Case", "  spaces and case  "):
        assert (await ask(client, account.username, other)).status_code == 401
    assert (await ask(client, account.username, account.password)).status_code == 200


async def test_a_sign_in_that_a_password_change_overtakes_opens_nothing(
    client: AsyncClient, app: FastAPI
) -> None:
    tokens = await new_user(client)
    account, device = tokens.account, Device("203.0.113.9", None)
    resources = app.state.resources
    proven = await resources.accounts.prove(account.username, account.password, device)
    new = "a wholly different phrase"
    body = {"current_password": account.password, "new_password": new, "confirm_password": new}
    url = "/api/v1/auth/password/change"
    assert (await client.post(url, json=body, headers=tokens.headers)).status_code == 204
    with pytest.raises(InvalidCredentials):
        await resources.sessions.open(proven, device)


async def test_a_hash_of_another_cost_is_made_anew_at_signing_in(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap = passwords.CONTEXT.copy(argon2__memory_cost=8192, argon2__time_cost=1)
    account = await register(client)
    with monkeypatch.context() as patch:
        patch.setattr(passwords, "CONTEXT", cheap)
        account = await register(client)
    before = (await app.state.resources.accounts.get(account.id)).password_hash
    assert "m=8192,t=1" in before
    assert await sign_in(client, account)
    after = (await app.state.resources.accounts.get(account.id)).password_hash
    assert "m=8,t=1" in after
    assert await sign_in(client, account)


async def test_many_devices_sign_in_at_once(client: AsyncClient) -> None:
    account = await register(client)
    tokens = await asyncio.gather(*(sign_in(client, account) for _ in range(8)))
    assert len({each.refresh for each in tokens}) == 8


async def test_no_secret_reaches_the_log(
    client: AsyncClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    account = await register(client, password=CANARY)
    tokens = await sign_in(client, account)
    await ask(client, account.username, f"{CANARY}-wrong")
    await client.post("/api/v1/auth/refresh", json={"refresh_token": f"kpr_{CANARY}"})
    await client.post("/api/v1/auth/refresh", json={"refresh_token": tokens.refresh})
    await client.get("/api/v1/users/me", headers=tokens.headers)
    await client.get("/api/v1/users/me", headers={"Authorization": f"Bearer {CANARY}"})
    await client.post("/api/v1/auth/register", json={"password": CANARY, CANARY: 1})
    body = {"current_password": CANARY, "new_password": "short", "confirm_password": CANARY}
    await client.post("/api/v1/auth/password/change", json=body, headers=tokens.headers)
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    written = logged + "".join(capfd.readouterr())
    assert "/api/v1/users/me" in written  # requests are logged
    for secret in (CANARY, tokens.access, tokens.refresh, "$argon2id"):
        assert secret not in written


async def test_a_client_that_names_itself_by_http_basic_signs_in(client: AsyncClient) -> None:
    account = await register(client)
    form = {"grant_type": "password", "username": account.username, "password": account.password}
    answer = await client.post("/api/v1/auth/token", data=form, auth=("", ""))
    assert "access_token" in expect(answer, 200)
