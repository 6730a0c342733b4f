"""A service with a mail server of its own, and what its people find in their mail."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import func, select, update

from app.clock import now
from app.models.jobs import JobStatus, jobs
from app.models.users import one_time_tokens, users
from tests.conftest import MakeApp, MakeClient
from tests.smtp import Delivery, MailServer, mail_server

_PATIENCE = 10.0  # seconds, on a machine that is busy with tests


@dataclass(frozen=True)
class PostOffice:
    """The service, a client of it, and the server that takes its mail."""

    app: FastAPI
    client: AsyncClient
    server: MailServer

    async def post(self, path: str, body: dict[str, Any], **options: Any) -> Response:
        """Call an operation of `/auth`."""
        return await self.client.post(f"/api/v1/auth/{path}", json=body, **options)

    async def inbox(self, address: str) -> list[Delivery]:
        """Return what an address has got, once nothing is on its way any more."""
        await self.settled()
        return [each for each in self.server.inbox if each.recipients == [address]]

    async def subjects(self, address: str) -> list[str]:
        """Return the subjects of what an address has got."""
        return [str(each.message["Subject"]) for each in await self.inbox(address)]

    async def token(self, address: str, action: str) -> str:
        """Return the token of the newest mail with a link for this."""
        for delivery in reversed(await self.inbox(address)):
            found = re.search(rf"#{action}=(\S+)", delivery.text())
            if found:
                return found[1]
        raise AssertionError(f"no mail to {address} has a link to {action}")

    async def settled(self) -> None:
        """Wait until every job whose time has come is done."""
        waiting = select(func.count()).where(
            jobs.c.status.in_([JobStatus.QUEUED, JobStatus.RUNNING]),
            jobs.c.run_after <= now() + timedelta(seconds=1),
        )
        async with asyncio.timeout(_PATIENCE):
            while True:
                async with self.app.state.resources.db.read() as connection:
                    if not (await connection.execute(waiting)).scalar_one():
                        return
                await asyncio.sleep(0.01)

    async def hurry(self) -> None:
        """Let the pauses between attempts be over."""
        async with self.app.state.resources.db.transaction() as connection:
            statement = update(jobs).where(jobs.c.status == JobStatus.QUEUED)
            await connection.execute(statement.values(run_after=now()))

    async def let_tokens_run_out(self, life: timedelta) -> None:
        """Make every token as old as it may become."""
        async with self.app.state.resources.db.transaction() as connection:
            for table in (one_time_tokens,):
                shifted = update(table).values(expires_at=now() - timedelta(seconds=1))
                await connection.execute(shifted.where(table.c.expires_at <= now() + life))

    async def is_verified(self, user_id: int) -> bool:
        """Tell whether the address of an account is confirmed."""
        async with self.app.state.resources.db.read() as connection:
            statement = select(users.c.is_verified).where(users.c.id == user_id)
            return bool((await connection.execute(statement)).scalar_one())


@asynccontextmanager
async def post_office(
    make_app: MakeApp, make_client: MakeClient, **over: Any
) -> AsyncIterator[PostOffice]:
    """Start a service with a mail server. The test takes `clean_database` as well: another app on
    the same database would send this one's mails.
    """
    async with mail_server() as server:
        smtp = {"smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_tls": "none"}
        app = await make_app(public_url="https://kingpost.example", **smtp | over)
        yield PostOffice(app, make_client(app), server)
