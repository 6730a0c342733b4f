"""Arranges what a test starts from, through the public API, as a client would."""

from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import update

from app.models.users import users
from app.security.principal import Role

PASSWORD = "violet-anchor-74-meadow"
_numbers = count(1)


@dataclass(frozen=True)
class Account:
    """A registered account and what its owner knows."""

    id: int
    email: str
    username: str
    password: str


@dataclass(frozen=True)
class Tokens:
    """What signing in gave."""

    access: str
    refresh: str
    account: Account

    @property
    def headers(self) -> dict[str, str]:
        """The header that signs a request in."""
        return {"Authorization": f"Bearer {self.access}"}


async def register(client: AsyncClient, **over: Any) -> Account:
    """Register an account with a name that nobody has; keywords replace fields of the body."""
    username = f"user{next(_numbers)}{uuid4().hex[:10]}"
    body = {"email": f"{username}@example.com", "username": username, "password": PASSWORD} | over
    body.setdefault("confirm_password", body["password"])
    answer = expect(await client.post("/api/v1/auth/register", json=body), 201)
    return Account(answer["id"], body["email"], body["username"], body["password"])


async def sign_in(client: AsyncClient, account: Account) -> Tokens:
    """Sign an account in by its password."""
    form = {"username": account.username, "password": account.password}
    answer = expect(await client.post("/api/v1/auth/token", data=form), 200)
    return Tokens(answer["access_token"], answer["refresh_token"], account)


async def new_user(client: AsyncClient, **over: Any) -> Tokens:
    """Register an account and sign it in."""
    return await sign_in(client, await register(client, **over))


async def give_roles(app: FastAPI, account: Account, *roles: Role) -> None:
    """Write an account's roles into the database: somebody has to be the first admin."""
    async with app.state.resources.db.transaction() as connection:
        statement = update(users).where(users.c.id == account.id)
        await connection.execute(statement.values(roles=[role.value for role in roles]))


async def admin(client: AsyncClient, app: FastAPI, **over: Any) -> Tokens:
    """Return a signed-in admin."""
    account = await register(client, **over)
    await give_roles(app, account, Role.USER, Role.ADMIN)
    return await sign_in(client, account)


async def analyst(client: AsyncClient, app: FastAPI, **over: Any) -> Tokens:
    """Return a signed-in analyst."""
    account = await register(client, **over)
    await give_roles(app, account, Role.USER, Role.ANALYST)
    return await sign_in(client, account)


async def create_item(client: AsyncClient, tokens: Tokens, **over: Any) -> dict[str, Any]:
    """Create an item and return it as answered; keywords replace fields of the body."""
    body = {"name": f"Item {next(_numbers)}", "price": 10} | over
    answer = await client.post("/api/v1/items", json=body, headers=tokens.headers)
    return expect(answer, 201)


def expect(answer: Response, status: int) -> dict[str, Any]:
    """Return the answer's body, or fail the test with what was answered instead."""
    assert answer.status_code == status, f"{answer.request.url}: {answer.status_code} {answer.text}"
    body: dict[str, Any] = answer.json()
    return body
