"""Every committed change arrives once, in order, and where it may, whatever dies meanwhile."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Set
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.events.outbox import EventDraft, record
from app.models.events import Audience
from app.services.retention import sweep
from app.settings import Settings
from tests.conftest import MakeApp
from tests.factories import Tokens, create_item, new_user
from tests.faults.conftest import Production, producing
from tests.faults.listeners import Listener, follow_socket, follow_stream
from tests.patience import PATIENCE

pytestmark = [pytest.mark.only("production"), pytest.mark.usefixtures("clean_database")]

CHANNELS = ("items", "jobs")
ARRIVAL_SECONDS = 20.0  # after the last change; the machine may be busy with other tests


@dataclass
class Writers:
    """What writes: half through the API, half beside it with commits that are out of id order."""

    production: Production
    engine: AsyncEngine
    tokens: Tokens
    left: int  # changes that are still to be made
    made: int = 0
    refused: dict[int, int] = field(default_factory=dict)

    async def through_the_api(self) -> None:
        """Create items and change them; a worker that dies meanwhile is no reason to stop."""
        async with self.production.client() as client:
            client.headers.update(self.tokens.headers)
            while self._takes_one():
                try:
                    made = await client.post("/api/v1/items", json={"name": "New", "price": 1})
                    self._note(made)
                    if made.status_code == 201 and self._takes_one():
                        path = f"/api/v1/items/{made.json()['id']}"
                        visibility = random.choice(("public", "private"))
                        self._note(await client.patch(path, json={"visibility": visibility}))
                except httpx.TransportError:
                    continue

    async def beside_it(self) -> None:
        """Commit some time after the event took its id, or roll back."""
        while self._takes_one():
            async with self.engine.connect() as connection:
                await connection.execute(text("SELECT pg_current_xact_id()"))
                draft = EventDraft("job.progress", "job", 1, self.tokens.account.id, _OWNER, {})
                await record(connection, draft)
                await asyncio.sleep(random.random() * 0.03)
                if random.random() < 0.9:
                    await connection.commit()
                    self.made += 1

    def _takes_one(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def _note(self, answer: httpx.Response) -> None:
        status = answer.status_code
        self.made += status < 300
        if status >= 300:
            self.refused[status] = self.refused.get(status, 0) + 1


_OWNER = Audience.OWNER


async def written(engine: AsyncEngine, after: int) -> dict[str, list[int]]:
    """Return the ids of what was committed, by channel: the truth."""
    statement = text("SELECT id, subject FROM events WHERE id > :after ORDER BY id")
    async with engine.connect() as connection:
        rows = (await connection.execute(statement, {"after": after})).all()
    names = {"item": "items", "job": "jobs"}
    return {
        channel: [row.id for row in rows if names.get(row.subject) == channel]
        for channel in CHANNELS
    }


@asynccontextmanager
async def following(
    production: Production, tokens: Tokens, *, since: int, of_each: int, turns: int
) -> AsyncIterator[list[Listener]]:
    """Follow by streams and by sockets while the block runs."""
    kinds = [follow for follow in (follow_stream, follow_socket) for _ in range(of_each)]
    listeners = [Listener(production.url, tokens, CHANNELS, since, turns) for _ in kinds]
    tasks = [
        asyncio.create_task(follow(listener))
        for follow, listener in zip(kinds, listeners, strict=True)
    ]
    try:
        yield listeners
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results


async def disturb(writers: Writers, redis_url: str, times: int) -> None:
    """Spread over the changes, kill a worker and restart Redis: what that had is lost, too."""
    all_of_them, production = writers.left, writers.production
    for number in range(1, times + 1):
        while writers.left > all_of_them * (1 - number / (times + 1)):
            await asyncio.sleep(0.02)
        os.kill(random.choice(production.service.workers), signal.SIGKILL)
        await asyncio.sleep(0.2)
        production.redis.cut()
        async with Redis.from_url(redis_url) as redis:
            await redis.flushdb()
        await asyncio.sleep(0.2)
        production.redis.heal()


async def all_arrives(
    production: Production, settings: Settings, *, changes: int, disturbances: int
) -> None:
    """Write, disturb, and compare what each client received with what was committed."""
    assert settings.redis_url
    engine = create_async_engine(settings.sqlalchemy_url, pool_size=8)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        client = await stack.enter_async_context(production.client())
        tokens, stranger = await new_user(client), await new_user(client)
        await create_item(client, tokens)
        turns = max(40, changes // 50)
        async with engine.connect() as connection:
            found = await connection.execute(text("SELECT coalesce(max(id), 0) FROM events"))
            since: int = found.scalar_one()
        listeners, others = [
            await stack.enter_async_context(
                following(production, who, since=since, of_each=of_each, turns=turns)
            )
            for who, of_each in ((tokens, 3), (stranger, 1))
        ]
        writers = Writers(production, engine, tokens, left=changes)
        redis_url = settings.redis_url.get_secret_value()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(writers.through_the_api())
                tasks.create_task(writers.beside_it())
            tasks.create_task(disturb(writers, redis_url, disturbances))
        truth, public = await written(engine, since), await public_ones(engine, since)
        with contextlib.suppress(TimeoutError):  # then what is missing is told below
            async with asyncio.timeout(ARRIVAL_SECONDS):
                while not all(has_all(listener, truth) for listener in listeners):
                    await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)  # what came twice, or late, would come now
        made = await changes_of_items(engine)
    for listener in listeners:
        assert listener.refusals == []
        for name in CHANNELS:
            assert listener.received[name] == truth[name], differences(listener, truth)
    for listener in others:
        shown = listener.received["items"]
        assert listener.received["jobs"] == []
        assert shown == sorted(set(shown))
        # Of what has turned private since, they saw what was read before that.
        assert public.still <= set(shown) <= public.once, differences(listener, truth)
    assert set(writers.refused) <= {503}
    assert writers.made <= sum(map(len, truth.values())) <= changes
    assert made == len(truth["items"]) + 1  # and the one from before


@dataclass(frozen=True)
class PublicOnes:
    """The events that anybody might see when they happened, and those that anybody may see now."""

    once: Set[int]
    still: Set[int]


async def public_ones(engine: AsyncEngine, after: int) -> PublicOnes:
    """Return the ids of what strangers may have been shown, and of what they must have been."""
    statement = text(
        "SELECT events.id, visibility FROM events JOIN items ON items.id = subject_id "
        "WHERE events.id > :after AND subject = 'item' AND audience = 'public'"
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(statement, {"after": after})).all()
    still = {row.id for row in rows if row.visibility == "public"}
    return PublicOnes({row.id for row in rows}, still)


def has_all(listener: Listener, truth: dict[str, list[int]]) -> bool:
    """Tell whether a client has come to the end of every channel."""
    return all(listener.position(name) >= ids[-1] for name, ids in truth.items())


def differences(listener: Listener, truth: dict[str, list[int]]) -> str:
    """Say what a client missed, got twice or got out of order."""
    said = [f"{listener.connections} connections"]
    for name, ids in truth.items():
        received = listener.received[name]
        said.append(f"{name}: lost {sorted(set(ids) - set(received))[:20]}")
        said.append(f"doubled {len(received) - len(set(received))}")
        said.append(f"in order {received == sorted(received)}, last {received[-1:]} of {ids[-1]}")
    return "; ".join(said)


async def changes_of_items(engine: AsyncEngine) -> int:
    """Return how many changes the items themselves have seen: each version is one."""
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT sum(version) FROM items"))).scalar_one())


async def seen_by(app: FastAPI) -> list[int]:
    """Return a list that fills with the subjects of what an app's tail hands on."""
    seen: list[int] = []
    app.state.resources.tail.listen(lambda batch: seen.extend(each.subject_id for each in batch))
    return seen


def draft(subject_id: int) -> EventDraft:
    """Return an event of something that nobody has."""
    return EventDraft("job.progress", "job", subject_id, None, _OWNER, {})


async def test_a_lower_id_of_a_later_transaction_is_waited_for(app: FastAPI) -> None:
    seen = await seen_by(app)
    transaction = app.state.resources.db.transaction
    async with transaction() as slow:
        async with transaction() as quick:
            # Numbers in one order, ids in the other: no completed transaction is beyond the slow.
            await quick.execute(text("SELECT pg_current_xact_id()"))
            await slow.execute(text("SELECT pg_current_xact_id()"))
            await record(slow, draft(1))
            await record(quick, draft(2))
        await asyncio.sleep(0.3)
        assert seen == []
    async with asyncio.timeout(PATIENCE):
        while len(seen) < 2:
            await asyncio.sleep(0.01)
    assert seen == [1, 2]


async def test_a_process_starts_behind_what_is_under_way(app: FastAPI, make_app: MakeApp) -> None:
    transaction = app.state.resources.db.transaction
    async with transaction() as slow:
        async with transaction() as quick:
            await quick.execute(text("SELECT pg_current_xact_id()"))
            await slow.execute(text("SELECT pg_current_xact_id()"))
            await record(slow, draft(1))
            await record(quick, draft(2))
        starting = asyncio.ensure_future(make_app())
        await asyncio.sleep(0.5)
        assert not starting.done()
    await starting


async def test_a_stranger_s_long_transaction_holds_nothing_up(
    app: FastAPI, settings: Settings
) -> None:
    seen = await seen_by(app)
    transaction = app.state.resources.db.transaction
    engine = create_async_engine(settings.sqlalchemy_url)
    async with engine.begin() as stranger:  # a dump, a migration, another database's batch
        await stranger.execute(text("SELECT pg_current_xact_id()"))
        async with engine.connect() as undone:
            await undone.execute(text("SELECT pg_current_xact_id()"))
            await record(undone, draft(1))
            await undone.rollback()
        async with transaction() as kept:
            await record(kept, draft(2))
        async with asyncio.timeout(PATIENCE):
            while not seen:
                await asyncio.sleep(0.01)
    await engine.dispose()
    assert seen == [2]


async def test_after_a_quiet_time_a_client_goes_on_where_it_was(
    app: FastAPI, client: httpx.AsyncClient, make_app: MakeApp
) -> None:
    tokens = await new_user(client)
    await create_item(client, tokens)
    db = app.state.resources.db
    async with db.transaction() as connection:
        await connection.execute(text("UPDATE events SET created_at = now() - interval '2 days'"))
        found = await connection.execute(text("SELECT max(id) FROM events"))
        since = found.scalar_one()
    await sweep(db, timedelta(days=1), timedelta(days=400))
    restarted = await make_app()
    assert restarted.state.resources.tail.position == since
    async with db.engine.connect() as undone:  # an id that never comes
        await record(undone, draft(1))
        await undone.rollback()
    await create_item(client, tokens)
    await restarted.state.resources.hub.check_since(since)


@pytest.mark.parametrize(
    ("workers", "changes", "disturbances"),
    [(2, 300, 1), pytest.param(4, 10_000, 8, marks=pytest.mark.system)],
)
async def test_each_change_arrives_once_and_in_order(
    settings: Settings, workers: int, changes: int, disturbances: int
) -> None:
    async with producing(settings, workers=workers) as production:
        await all_arrives(production, settings, changes=changes, disturbances=disturbances)
