"""A provider that people sign in by, and the service that believes it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.settings import Settings
from app.settings.identity_providers import PRESETS
from tests.backends import Backend
from tests.conftest import MakeClient, MakeSettings, new_app
from tests.live_server import running
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, running_provider

AppOf = Callable[[Backend, Callable[[], Settings]], Awaitable[FastAPI]]


@pytest.fixture(scope="session")
async def shared_provider() -> AsyncIterator[OidcProvider]:
    """The worker's own provider."""
    async with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: OidcProvider) -> OidcProvider:
    """A provider that vouches truly for somebody new."""
    shared_provider.reset()
    return shared_provider


@pytest.fixture
def oidc_settings(shared_provider: OidcProvider) -> dict[str, Any]:
    """What the service is told of the provider, which also plays Facebook."""
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    return {
        "oidc_providers": {
            "house": {**client, "issuer": shared_provider.url, "label": "The House"},
            "facebook": client,
        },
        "oidc_timeout": 12.0,  # the longest there is
        "cors_origins": ("https://app.example.com",),
    }


@pytest.fixture(autouse=True)
def facebook_is_here(shared_provider: OidcProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is known of Facebook lead to the tests' own provider."""
    known = PRESETS["facebook"]
    assert known.oauth
    url = shared_provider.url
    here = replace(
        known.oauth,
        authorization=f"{url}/authorize",
        token=f"{url}/token",
        userinfo=f"{url}/userinfo?fields=id,name,email",
    )
    monkeypatch.setitem(PRESETS, "facebook", replace(known, oauth=here))


@pytest.fixture(scope="session")
async def shared_social_app() -> AsyncIterator[AppOf]:
    """The worker's own apps with the provider, each started when first asked for."""
    apps: dict[Backend, FastAPI] = {}
    async with AsyncExitStack() as stack:

        async def app_of(backend: Backend, settings: Callable[[], Settings]) -> FastAPI:
            if backend not in apps:
                app = new_app(settings())
                apps[backend] = await stack.enter_async_context(running(app))
            return apps[backend]

        yield app_of


@pytest.fixture
async def app(
    backend: Backend,
    make_settings: MakeSettings,
    oidc_settings: dict[str, Any],
    shared_social_app: AppOf,
) -> FastAPI:
    """The service, started, with the provider."""
    return await shared_social_app(backend, lambda: make_settings(**oidc_settings))


@pytest.fixture
def browser(app: FastAPI, make_client: MakeClient) -> httpx.AsyncClient:
    """Somebody's browser, as far as cookies go; it asks for pages."""
    return make_client(app, headers={"Accept": "text/html,*/*;q=0.8"})
