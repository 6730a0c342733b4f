"""Background jobs: run at least once, seen, cancelled and retried, and never lost by a stop."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import update

from app.clock import now
from app.jobs import definition, registry, runner
from app.jobs.definition import Failed, JobKind, Outcome, RetryAfter, Run, job
from app.models.jobs import jobs
from app.repositories.jobs import JobRepository
from tests.conftest import MakeApp
from tests.factories import Tokens, admin, expect, new_user
from tests.patience import PATIENCE, within

ran: list[tuple[str, int]] = []
going: dict[str, asyncio.Event] = {}


@dataclass
class Crowd:
    """How many jobs of a name are there at once."""

    there: int = 0
    most: int = 0
    gone: int = 0
    met: asyncio.Event = field(default_factory=asyncio.Event)  # that two were there at once


crowds: dict[str, Crowd] = {}


@job("test.greet")
async def greet(run: Run, name: str) -> Outcome:
    ran.append((name, run.attempt))
    await run.progress(0.5, {"done": 1})
    return {"greeted": name}


@job("test.flaky", waits=(0.01, 0.01))
async def flaky(run: Run, name: str, succeeds_at: int) -> Outcome:
    ran.append((name, run.attempt))
    if run.attempt < succeeds_at:
        raise RuntimeError("postgresql://user:secret@host")
    return None


@job("test.hopeless", waits=(0.01,))
async def hopeless(run: Run, name: str) -> Outcome:
    ran.append((name, run.attempt))
    raise Failed("There is no such place")


@job("test.busy", waits=(60.0,))
async def busy(run: Run, name: str) -> Outcome:
    ran.append((name, run.attempt))
    if run.attempt == 1:
        raise RetryAfter(0.01)
    return None


@job("test.slow", waits=(0.01,), seconds=0.05)
async def slow(run: Run, name: str) -> Outcome:
    ran.append((name, run.attempt))
    await asyncio.sleep(60)
    return None


@job("test.steps", seconds=60)
async def steps(run: Run, name: str) -> Outcome:
    while True:
        await run.progress(0.5)
        going.setdefault(name, asyncio.Event()).set()
        await asyncio.sleep(0.01)


@job("test.endless", seconds=60)
async def endless(run: Run, name: str) -> Outcome:
    ran.append((name, run.attempt))
    going.setdefault(name, asyncio.Event()).set()
    await asyncio.sleep(60)
    return None


@job("test.crowd")
async def crowd(_run: Run, name: str) -> Outcome:
    crowds[name].there += 1
    crowds[name].most = max(crowds[name].most, crowds[name].there)
    if crowds[name].there > 1:
        crowds[name].met.set()
    await crowds[name].met.wait()
    await asyncio.sleep(0.05)  # for a third, were it let in
    crowds[name].there -= 1
    crowds[name].gone += 1
    return None


OURS = {each.name: each for each in (greet, flaky, hopeless, busy, slow, endless, steps, crowd)}


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known: Callable[[], dict[str, JobKind]] = lambda: registry.kinds() | OURS  # noqa: E731
    monkeypatch.setattr(runner, "kinds", known)
    yield
    ran.clear()
    going.clear()


async def enqueue(app: FastAPI, kind: str, owner: Tokens | None = None, **arguments: Any) -> int:
    async with app.state.resources.db.transaction() as connection:
        return await JobRepository(connection).enqueue(
            kind, arguments, owner_id=owner.account.id if owner else None
        )


async def ended(client: AsyncClient, owner: Tokens, job_id: int) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            url = f"/api/v1/jobs/{job_id}"
            found = expect(await client.get(url, headers=owner.headers), 200)
            if found["status"] not in ("queued", "running"):
                return found
            await asyncio.sleep(0.01)


async def test_a_job_runs_after_the_commit_and_its_owner_sees_what_came_of_it(
    app: FastAPI, client: AsyncClient
) -> None:
    owner = await new_user(client)
    job_id = await enqueue(app, "test.greet", owner, name="Ada")
    found = await ended(client, owner, job_id)
    assert found["status"] == "succeeded"
    assert found["result"] == {"greeted": "Ada"}
    assert (found["progress"], found["attempts"], found["error"]) == (1.0, 1, None)
    assert found["created_at"] <= found["started_at"] <= found["finished_at"]


async def test_nothing_runs_of_a_transaction_that_is_rolled_back(
    app: FastAPI, client: AsyncClient
) -> None:
    owner = await new_user(client)

    async def fail() -> None:
        async with app.state.resources.db.transaction() as connection:
            await JobRepository(connection).enqueue("test.greet", {"name": "undone"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    await ended(client, owner, await enqueue(app, "test.greet", owner, name="done"))
    assert ("undone", 1) not in ran


async def test_what_fails_is_tried_again_and_tells_no_secret(
    app: FastAPI, client: AsyncClient
) -> None:
    owner = await new_user(client)
    job_id = await enqueue(app, "test.flaky", owner, name="third", succeeds_at=3)
    assert (await ended(client, owner, job_id))["attempts"] == 3
    job_id = await enqueue(app, "test.flaky", owner, name="never", succeeds_at=9)
    found = await ended(client, owner, job_id)
    assert (found["status"], found["attempts"]) == ("failed", 3)
    assert found["error"] == "RuntimeError"


async def test_the_function_may_give_up_or_choose_when_to_come_back(
    app: FastAPI, client: AsyncClient
) -> None:
    owner = await new_user(client)
    found = await ended(client, owner, await enqueue(app, "test.hopeless", owner, name="x"))
    assert (found["status"], found["error"]) == ("failed", "There is no such place")
    assert found["attempts"] == 1
    found = await ended(client, owner, await enqueue(app, "test.busy", owner, name="y"))
    assert (found["status"], found["attempts"]) == ("succeeded", 2)


async def test_an_attempt_has_a_deadline(app: FastAPI, client: AsyncClient) -> None:
    owner = await new_user(client)
    found = await ended(client, owner, await enqueue(app, "test.slow", owner, name="z"))
    assert (found["status"], found["attempts"]) == ("failed", 2)
    assert found["error"] == "Not done within 0.05 seconds"


async def test_a_dead_letter_can_be_retried_and_a_success_cannot(
    app: FastAPI, client: AsyncClient
) -> None:
    owner, boss = await new_user(client), await admin(client, app)
    job_id = await enqueue(app, "test.hopeless", owner, name="again")
    await ended(client, owner, job_id)
    url = f"/api/v1/jobs/{job_id}/retry"
    answer = expect(await client.post(url, headers=boss.headers), 200)
    assert (answer["status"], answer["error"]) == ("queued", None)
    assert (await ended(client, owner, job_id))["status"] == "failed"
    assert ran.count(("again", 1)) == 2
    fine = await enqueue(app, "test.greet", owner, name="fine")
    await ended(client, owner, fine)
    answer = expect(await client.post(f"/api/v1/jobs/{fine}/retry", headers=owner.headers), 409)
    assert answer["error_code"] == "JOB_NOT_FAILED"


async def test_what_waits_is_cancelled_at_once(app: FastAPI, client: AsyncClient) -> None:
    owner = await new_user(client)
    async with app.state.resources.db.transaction() as connection:
        job_id = await JobRepository(connection).enqueue(
            "test.greet",
            {"name": "later"},
            owner_id=owner.account.id,
            run_after=now() + timedelta(hours=1),
        )
    url = f"/api/v1/jobs/{job_id}"
    assert (await client.delete(url, headers=owner.headers)).status_code == 204
    assert expect(await client.get(url, headers=owner.headers), 200)["status"] == "cancelled"
    again = expect(await client.delete(url, headers=owner.headers), 409)
    assert again["error_code"] == "JOB_FINISHED"
    assert ("later", 1) not in ran


async def test_what_runs_is_cut_off(make_app: MakeApp, client: AsyncClient) -> None:
    app = await make_app(job_lease_seconds=0.6)
    owner = await new_user(client)
    job_id = await enqueue(app, "test.endless", owner, name="cut")
    async with asyncio.timeout(PATIENCE):
        await going.setdefault("cut", asyncio.Event()).wait()
    url = f"/api/v1/jobs/{job_id}"
    assert (await client.delete(url, headers=owner.headers)).status_code == 204
    found = await ended(client, owner, job_id)
    assert (found["status"], found["is_cancelling"]) == ("cancelled", True)


async def test_what_tells_its_progress_ends_there(
    make_app: MakeApp, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition, "_REPORT_SPACING", 0.0)
    app = await make_app(job_lease_seconds=600)  # no heartbeat comes so soon
    owner = await new_user(client)
    job_id = await enqueue(app, "test.steps", owner, name="steps")
    async with asyncio.timeout(5):
        await going.setdefault("steps", asyncio.Event()).wait()
    assert (await client.delete(f"/api/v1/jobs/{job_id}", headers=owner.headers)).is_success
    found = await ended(client, owner, job_id)
    assert (found["status"], found["progress"]) == ("cancelled", 0.5)


async def test_strangers_see_no_job_and_admins_all(app: FastAPI, client: AsyncClient) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    boss = await admin(client, app)
    job_id = await enqueue(app, "test.greet", owner, name="mine")
    systems = await enqueue(app, "test.greet", name="nobody's")
    await ended(client, boss, systems)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
        for each in (job_id, systems):
            url = f"/api/v1/jobs/{each}{path}"
            answer = await client.request(method, url, headers=stranger.headers)
            assert expect(answer, 404)["detail"] == "There is no such job"
    listed = expect(await client.get("/api/v1/jobs", headers=stranger.headers), 200)
    assert listed == {"items": [], "total": 0, "skip": 0, "limit": 20}
    own = expect(await client.get("/api/v1/jobs", headers=owner.headers), 200)
    assert [each["id"] for each in own["items"]] == [job_id]
    answer = await client.get("/api/v1/jobs?kind=test.greet&limit=100", headers=boss.headers)
    assert {job_id, systems} <= {each["id"] for each in expect(answer, 200)["items"]}


async def test_pages_by_cursor_show_each_job_once(app: FastAPI, client: AsyncClient) -> None:
    owner = await new_user(client)
    ids = [await enqueue(app, "test.greet", owner, name=str(n)) for n in range(5)]
    seen: list[int] = []
    cursor = ""
    while True:
        url = f"/api/v2/jobs?limit=2{cursor}"
        page = expect(await client.get(url, headers=owner.headers), 200)
        seen += [each["id"] for each in page["items"]]
        if not page["hasMore"]:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert seen == ids[::-1]


async def test_one_unfinished_job_of_a_key(app: FastAPI, client: AsyncClient) -> None:
    owner = await new_user(client)
    later = now() + timedelta(hours=1)
    key = f"only-{owner.account.id}"
    async with app.state.resources.db.transaction() as connection:
        repository = JobRepository(connection)
        first = await repository.enqueue("test.greet", {"name": "k"}, key=key, run_after=later)
        assert await repository.enqueue("test.greet", {"name": "k"}, key=key) == first
        await repository.cancel(first)
        assert await repository.enqueue("test.greet", {"name": "k"}, key=key) != first


async def test_who_lost_its_lease_changes_nothing_any_more(
    app: FastAPI, client: AsyncClient
) -> None:
    owner = await new_user(client)
    db, lease = app.state.resources.db, timedelta(seconds=60)
    async with db.transaction() as connection:
        repository = JobRepository(connection)
        job_id = await repository.enqueue("test.none", owner_id=owner.account.id)
        first = await repository.claim(job_id, lease)
        assert first is not None
        assert await repository.claim(job_id, lease) is None
        lapsed = update(jobs).where(jobs.c.id == job_id).values(leased_until=now() - lease)
        await connection.execute(lapsed)
        second = await repository.claim(job_id, lease)
        assert second is not None
        assert not await repository.succeed(first, {"by": "the first"})
        assert await repository.extend(first, lease) is None
        assert await repository.report(first, 0.9, None) is None
        assert await repository.succeed(second, {"by": "the second"})
    found = await ended(client, owner, job_id)
    assert found["result"] == {"by": "the second"}


@pytest.mark.usefixtures("clean_database")
async def test_a_stop_gives_back_what_runs_and_the_attempt_does_not_count(
    make_app: MakeApp,
) -> None:
    app = await make_app(run_jobs="worker")
    own = runner.Runner(app.state.resources, concurrency=1, lease_seconds=60)
    job_id = await enqueue(app, "test.endless", name="stopped")
    own.start([job_id])
    async with asyncio.timeout(PATIENCE):
        await going.setdefault("stopped", asyncio.Event()).wait()
    await own.stop(0.01)
    async with app.state.resources.db.read() as connection:
        found = await JobRepository(connection).get(job_id)
    assert found is not None
    assert (found.status, found.attempts, found.forgiven) == ("queued", 1, 1)


@pytest.mark.usefixtures("clean_database")
async def test_what_is_handed_over_and_what_is_found_share_one_limit(make_app: MakeApp) -> None:
    app = await make_app(run_jobs="worker")
    own = runner.Runner(app.state.resources, concurrency=2, lease_seconds=60)
    crowd_of_test = crowds["shared"] = Crowd()
    job_ids = [await enqueue(app, "test.crowd", name="shared") for _ in range(8)]
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(own.run())
        for job_id in job_ids:
            tasks.create_task(own.run_handed_over(job_id))
        while crowd_of_test.gone < len(job_ids):
            await asyncio.sleep(0.01)
        looking.cancel()
    await own.stop(5)
    assert (crowd_of_test.most, crowd_of_test.gone) == (2, len(job_ids))


@pytest.mark.only("embedded")
@pytest.mark.usefixtures("clean_database")
async def test_what_waits_for_room_is_counted_and_begins_when_there_is_some(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await make_app(job_concurrency=1)
    waiting = app.state.resources.metrics.jobs_waiting
    held = crowds["held"] = Crowd()

    await enqueue(app, "test.crowd", name="held")
    async with asyncio.timeout(PATIENCE):
        while not held.there:
            await asyncio.sleep(0.01)
    for _ in range(2):
        await enqueue(app, "test.crowd", name="held")
    async with asyncio.timeout(PATIENCE):
        while [sample.value for sample in waiting.collect()[0].samples] != [2]:
            await asyncio.sleep(0.05)
    monkeypatch.setattr(runner, "_POLL_SECONDS", PATIENCE)
    held.met.set()
    async with within(10):
        while held.gone < 3:
            await asyncio.sleep(0.01)
    assert held.most == 1


async def test_a_schedule_runs_once_for_all(app: FastAPI) -> None:
    async with app.state.resources.db.transaction() as connection:
        repository = JobRepository(connection)
        moment = now()
        await repository.enqueue_scheduled("test.schedule", not_since=moment)
        await repository.enqueue_scheduled("test.schedule", not_since=moment)
        found = await repository.page(owner_id=None, kind="test.schedule", limit=10)
        assert len(found) == 1
        await repository.cancel(found[0].id)
        await repository.enqueue_scheduled("test.schedule", not_since=moment)
        assert len(await repository.page(owner_id=None, kind="test.schedule", limit=10)) == 1
        await repository.enqueue_scheduled("test.schedule", not_since=now() + timedelta(seconds=1))
        assert len(await repository.page(owner_id=None, kind="test.schedule", limit=10)) == 2
