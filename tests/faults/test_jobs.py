"""Jobs and the worker that runs them: killed, frozen out of Redis, stopped. Nothing is lost."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.doctor import peers
from app.doctor.finding import Verdict
from app.models.jobs import Job
from app.repositories.jobs import JobRepository
from app.settings import Settings
from tests.api.test_production_start import environment
from tests.conftest import MakeApp, MakeSettings
from tests.faults import job_worker
from tests.live_server import LiveServer
from tests.patience import PATIENCE

pytestmark = [pytest.mark.only("production"), pytest.mark.usefixtures("clean_database")]


@dataclass
class Worker:
    """A `kingpost worker` that can be killed and started again."""

    variables: dict[str, str]
    log: Path
    process: BaseProcess | None = None

    def start(self) -> None:
        """Start it, on a port that it chooses."""
        self.process = job_worker.start(self.variables | {"WORKER_PORT": "0"}, self.log)

    async def url(self) -> str:
        """Return where it listens, once it does."""
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(r"running on (http://[0-9.:]+)", self.log.read_text())):
                await asyncio.sleep(0.02)
        return found[1]

    def end(self, number: signal.Signals) -> int | None:
        """Send a signal and wait for the end."""
        assert self.process
        assert self.process.pid
        os.kill(self.process.pid, number)
        return self.ended()

    def ended(self) -> int | None:
        """Wait for the end; return the exit code."""
        assert self.process
        self.process.join(PATIENCE)
        return self.process.exitcode


@contextmanager
def worker(settings: Settings, **variables: str) -> Iterator[Worker]:
    """Have a worker on the test's database until the end of the block."""
    given = {**environment(settings), "JOB_LEASE_SECONDS": "1", "HOST": "127.0.0.1"}
    found = Worker(given | variables, settings.data_dir / "worker.log")
    found.start()
    try:
        yield found
    finally:
        if found.process and found.process.is_alive():
            found.end(signal.SIGKILL)


@pytest.fixture
async def app(make_app: MakeApp) -> FastAPI:
    """A server that hands its jobs over."""
    return await make_app(run_jobs="worker")


async def enqueue(app: FastAPI, kind: str, **arguments: int) -> int:
    async with app.state.resources.db.transaction() as connection:
        return await JobRepository(connection).enqueue(kind, arguments)


async def job_of(app: FastAPI, job_id: int) -> Job:
    async with app.state.resources.db.read() as connection:
        found = await JobRepository(connection).get(job_id)
    assert found
    return found


async def ended(app: FastAPI, job_id: int) -> Job:
    async with asyncio.timeout(PATIENCE):
        while (found := await job_of(app, job_id)).status in ("queued", "running"):
            await asyncio.sleep(0.02)
    return found


async def running(app: FastAPI, job_id: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await job_of(app, job_id)).status != "running":
            await asyncio.sleep(0.02)


@asynccontextmanager
async def tables(app: FastAPI) -> AsyncIterator[None]:
    """Have the tables that the counting job writes to."""
    async with app.state.resources.db.transaction() as connection:
        await connection.execute(text("CREATE TABLE runs (number int)"))
        await connection.execute(text("CREATE TABLE marks (number int PRIMARY KEY)"))
    yield


async def number_of(app: FastAPI, sql: str) -> int:
    async with app.state.resources.db.read() as connection:
        return int((await connection.execute(text(sql))).scalar_one())


async def test_a_job_is_handed_over_and_the_worker_can_be_watched(
    app: FastAPI, make_settings: MakeSettings
) -> None:
    with worker(make_settings()) as found:
        async with (
            tables(app),
            LiveServer(await found.url()).client() as at,
        ):
            job = await ended(app, await enqueue(app, "test.count", number=1))
            assert (job.status, job.attempts) == ("succeeded", 1)
            assert (await at.get("/health/ready")).status_code == 200
            shown = (await at.get("/metrics")).text
            assert 'jobs_attempts_total{kind="test.count",outcome="succeeded"} 1.0' in shown
            assert "jobs_waiting 0.0" in shown
            assert (await at.get("/api/v1/items")).status_code == 404
        assert found.end(signal.SIGTERM) in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("jobs", "kills"), [(200, 3), pytest.param(1000, 5, marks=pytest.mark.system)]
)
async def test_however_often_the_worker_is_killed_each_effect_is_there_once(
    app: FastAPI, make_settings: MakeSettings, jobs: int, kills: int
) -> None:
    async with tables(app):
        with worker(make_settings()) as found:
            for number in range(jobs):
                await enqueue(app, "test.count", number=number)
            for kill in range(1, kills + 1):
                async with asyncio.timeout(PATIENCE):
                    while await number_of(app, "SELECT count(*) FROM runs") < kill * 30:
                        await asyncio.sleep(0.01)
                found.end(signal.SIGKILL)
                found.start()
            async with asyncio.timeout(60):
                while await number_of(app, "SELECT count(*) FROM jobs WHERE status <> 'succeeded'"):
                    await asyncio.sleep(0.05)
        assert await number_of(app, "SELECT count(*) FROM marks") == jobs
        assert await number_of(app, "SELECT count(*) FROM runs") >= jobs
        assert await number_of(app, "SELECT max(attempts) FROM jobs") > 1  # or no kill struck


async def test_what_kills_its_worker_each_time_becomes_a_dead_letter(
    app: FastAPI, make_settings: MakeSettings
) -> None:
    with worker(make_settings()) as found:
        poison = await enqueue(app, "test.kill")
        for _ in range(3):
            assert await asyncio.to_thread(found.ended) == -signal.SIGKILL
            found.start()
        job = await ended(app, poison)
    assert (job.status, job.attempts) == ("failed", 4)
    assert job.error == "The process that ran it died each time"


async def test_without_redis_jobs_are_found_by_the_poll(
    make_app: MakeApp, make_settings: MakeSettings
) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    app = await make_app(run_jobs="worker", redis_url=nowhere, redis_timeout=0.05)
    async with tables(app):
        with worker(make_settings(), REDIS_URL=nowhere):
            job = await ended(app, await enqueue(app, "test.count", number=1))
    assert (job.status, job.attempts) == ("succeeded", 1)


@pytest.mark.system
async def test_a_stopped_worker_gives_back_what_it_cannot_finish(
    app: FastAPI, make_settings: MakeSettings
) -> None:
    with worker(make_settings()) as found:
        job_id = await enqueue(app, "test.sleep")
        await running(app, job_id)
        assert await asyncio.to_thread(found.end, signal.SIGTERM) in (0, -signal.SIGTERM)
    job = await job_of(app, job_id)
    assert (job.status, job.attempts, job.forgiven) == ("queued", 1, 1)


async def test_the_doctor_tells_a_worker_that_lives_from_one_that_was_killed(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(run_jobs="worker")

    async def becomes(verdict: Verdict) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                found = {each.check: each.verdict async for each in peers.examine(settings)}
                if found["worker"] is verdict:
                    return
                await asyncio.sleep(0.1)

    await becomes(Verdict.WRONG)
    with worker(settings) as process:
        await becomes(Verdict.OK)
        process.end(signal.SIGKILL)
        await becomes(Verdict.WRONG)
