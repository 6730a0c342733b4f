"""Somebody whom tests share that change nothing of theirs."""

import time
from weakref import WeakKeyDictionary

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.factories import Tokens, new_user

_GOOD_FOR = 300.0  # seconds; an access token lasts for 900

Known = WeakKeyDictionary[FastAPI, tuple[float, Tokens]]


@pytest.fixture(scope="session")
def known() -> Known:
    """Who signed in to an app of the worker's last, and when."""
    return Known()


@pytest.fixture
async def somebody(app: FastAPI, client: AsyncClient, known: Known) -> Tokens:
    """Somebody signed in, for tests of what is refused: a new account for each takes longer."""
    since, tokens = known.get(app, (float("-inf"), None))
    if tokens is None or time.monotonic() - since > _GOOD_FOR:
        tokens = await new_user(client)
        known[app] = time.monotonic(), tokens
    return tokens
