"""Somebody whom tests share that change nothing of theirs."""

from weakref import WeakKeyDictionary

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.factories import Tokens, new_user

Known = WeakKeyDictionary[FastAPI, Tokens]


@pytest.fixture(scope="session")
def known() -> Known:
    """Who signed in to an app of the worker's last."""
    return Known()


@pytest.fixture
async def somebody(app: FastAPI, client: AsyncClient, known: Known) -> Tokens:
    """Somebody signed in, for tests of what is refused: a new account for each takes longer.

    Others may have ended them: what Schemathesis tries as an admin hits anybody.
    """
    tokens = known.get(app)
    if tokens is None or not await is_signed_in(client, tokens):
        tokens = known[app] = await new_user(client)
    return tokens


async def is_signed_in(client: AsyncClient, tokens: Tokens) -> bool:
    """Tell whether access tokens are still good."""
    return (await client.get("/api/v1/users/me", headers=tokens.headers)).status_code == 200
