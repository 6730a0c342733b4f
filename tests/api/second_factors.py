"""Arranges second factors through the public API, with an authenticator app's arithmetic."""

import time
from dataclasses import dataclass
from typing import Any

import pyotp
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import update

from app.models.second_factor import totp_factors
from tests.factories import Account, Tokens, expect, new_user

AUTH = "/api/v1/auth"
TOTP = f"{AUTH}/totp"
TOKEN = f"{AUTH}/token"
ANSWER = f"{TOKEN}/second-factor"
ME = "/api/v1/users/me"


@dataclass(frozen=True)
class Enrolled:
    """Somebody with a second factor, signed in."""

    tokens: Tokens
    secret: str
    recovery_codes: list[str]

    @property
    def account(self) -> Account:
        return self.tokens.account

    @property
    def headers(self) -> dict[str, str]:
        return self.tokens.headers


def code_of(secret: str, steps: int = 0) -> str:
    """Return what the app shows now, or some steps of 30 seconds from now."""
    return pyotp.TOTP(secret).at(int(time.time()) + 30 * steps)


def wrong_code(secret: str) -> str:
    """Return a code that is not right anywhere near now."""
    near = {code_of(secret, steps) for steps in range(-10, 11)}
    return next(code for code in map("{:06}".format, range(100)) if code not in near)


async def begin(client: AsyncClient, tokens: Tokens) -> dict[str, Any]:
    body = {"password": tokens.account.password}
    return expect(await client.post(TOTP, json=body, headers=tokens.headers), 200)


async def confirm(client: AsyncClient, tokens: Tokens, code: str) -> Response:
    return await client.post(f"{TOTP}/confirm", json={"code": code}, headers=tokens.headers)


async def enrol(client: AsyncClient, app: FastAPI, tokens: Tokens | None = None) -> Enrolled:
    """Give somebody a second factor; the code used for it counts as used long ago."""
    tokens = tokens or await new_user(client)
    secret = (await begin(client, tokens))["secret"]
    codes = expect(await confirm(client, tokens, code_of(secret)), 200)["recovery_codes"]
    await let_steps_pass(app, tokens.account)
    return Enrolled(tokens, secret, codes)


async def let_steps_pass(app: FastAPI, account: Account) -> None:
    """Make the last code one of minutes ago: nobody waits half a minute for a test."""
    async with app.state.resources.db.transaction() as connection:
        mine = update(totp_factors).where(totp_factors.c.user_id == account.id)
        await connection.execute(mine.values(last_step=totp_factors.c.last_step - 10))


async def password_form(client: AsyncClient, account: Account, **more: str) -> Response:
    form = {"username": account.username, "password": account.password, **more}
    return await client.post(TOKEN, data=form)


async def challenge_for(client: AsyncClient, account: Account) -> str:
    problem = expect(await password_form(client, account), 401)
    assert problem["error_code"] == "SECOND_FACTOR_REQUIRED"
    challenge: str = problem["challenge"]
    return challenge


async def answer(client: AsyncClient, challenge: str, code: str) -> Response:
    return await client.post(ANSWER, json={"challenge": challenge, "code": code})


async def sign_in(client: AsyncClient, enrolled: Enrolled, code: str | None = None) -> Response:
    """Sign in by both factors."""
    challenge = await challenge_for(client, enrolled.account)
    return await answer(client, challenge, code or code_of(enrolled.secret))


def bearer(pair: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}
