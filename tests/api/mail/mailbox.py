"""A service with a mail server of its own, and what its people find in their mail."""

import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import func, select, update

from app.adapters.database import leave_for_commit
from app.clock import now
from app.models.jobs import JobStatus, jobs
from app.models.users import one_time_tokens, users
from tests.factories import Account
from tests.patience import PATIENCE
from tests.smtp import Delivery, MailServer


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
        wanted = [address.casefold()]
        return [
            each for each in self.server.inbox if [r.casefold() for r in each.recipients] == wanted
        ]

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
        async with asyncio.timeout(PATIENCE):
            while True:
                async with self.app.state.resources.db.read() as connection:
                    if not (await connection.execute(waiting)).scalar_one():
                        return
                await asyncio.sleep(0.01)

    async def hurry(self) -> None:
        """Let the pauses between attempts be over."""
        async with self.app.state.resources.db.transaction() as connection:
            statement = update(jobs).where(jobs.c.status == JobStatus.QUEUED)
            hurried = statement.values(run_after=now()).returning(jobs.c.id)
            for job_id in (await connection.execute(hurried)).scalars():
                leave_for_commit(connection, job_id)

    async def let_time_pass(self, account: Account, time: timedelta) -> None:
        """Bring the end of an account's tokens nearer."""
        digest, ends = one_time_tokens.c.digest, one_time_tokens.c.expires_at
        tokens = select(digest, ends).where(one_time_tokens.c.user_id == account.id)
        async with self.app.state.resources.db.transaction() as connection:
            for row in (await connection.execute(tokens)).all():
                sooner = update(one_time_tokens).where(digest == row.digest)
                await connection.execute(sooner.values(expires_at=row.expires_at - time))

    async def is_verified(self, user_id: int) -> bool:
        """Tell whether the address of an account is confirmed."""
        async with self.app.state.resources.db.read() as connection:
            statement = select(users.c.is_verified).where(users.c.id == user_id)
            return bool((await connection.execute(statement)).scalar_one())
