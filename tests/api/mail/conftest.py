"""Services with a mail server and a database of their own: another app would send their mails."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import FastAPI

from app.settings import Settings
from tests.api.mail.mailbox import PostOffice
from tests.backends import Backend, Foundation, Place, places
from tests.conftest import MakeApp, MakeClient, MakeSettings
from tests.smtp import MailServer, mail_server

MakeOffice = Callable[..., Awaitable[PostOffice]]


@pytest.fixture(scope="session")
def shared_place(
    foundation: Foundation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Backend], Place]]:
    """Databases apart from the other tests' ones."""
    with places(foundation, tmp_path_factory.mktemp, redis_offset=1) as place_of:
        yield place_of


@pytest.fixture(scope="session")
async def shared_mail_server() -> AsyncIterator[Callable[[Backend], Awaitable[MailServer]]]:
    """A mail server for each backend."""
    servers: dict[Backend, MailServer] = {}
    async with AsyncExitStack() as stack:

        async def server_of(backend: Backend) -> MailServer:
            if backend not in servers:
                servers[backend] = await stack.enter_async_context(mail_server())
            return servers[backend]

        yield server_of


@pytest.fixture
async def office(
    backend: Backend,
    make_settings: MakeSettings,
    make_client: MakeClient,
    shared_app: Callable[[Settings], Awaitable[FastAPI]],
    shared_mail_server: Callable[[Backend], Awaitable[MailServer]],
) -> PostOffice:
    """A service that other tests of mail use as well."""
    server = await shared_mail_server(backend)
    app = await shared_app(make_settings(**_sending_to(server)))
    return PostOffice(app, make_client(app), server)


@pytest.fixture
async def make_office(
    clean_database: Place, make_app: MakeApp, make_client: MakeClient
) -> AsyncIterator[MakeOffice]:
    """Start a service for this test alone: `await make_office(rate_limits_enabled=True)`."""
    async with AsyncExitStack() as stack:

        async def make(**over: Any) -> PostOffice:
            server = await stack.enter_async_context(mail_server())
            app = await make_app(**_sending_to(server) | over)
            return PostOffice(app, make_client(app), server)

        yield make


def _sending_to(server: MailServer) -> dict[str, Any]:
    return {
        "public_url": "https://kingpost.example",
        "smtp_host": "127.0.0.1",
        "smtp_port": server.port,
        "smtp_tls": "none",
    }
