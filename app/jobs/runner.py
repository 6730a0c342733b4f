"""Runs jobs in this process: claims one, keeps its lease, and writes down how it ended.

The table is the truth. Whoever hands a job over only makes it quicker: what a crash leaves behind
is found again when its lease runs out, and what waits for its time is found when that has come.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial

from app.clock import now
from app.concurrency.ending import ended
from app.errors import DomainError
from app.jobs.definition import Cancelled, Failed, JobKind, Lost, RetryAfter, Run
from app.jobs.registry import kinds
from app.models.jobs import Job
from app.observability.tracing import TRACEPARENT
from app.repositories.jobs import Backlog, JobRepository
from app.resources import Resources

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_SCHEDULE_SECONDS = 30.0
_OUTCOMES = ("succeeded", "retried", "failed", "cancelled")
_HEARTBEATS = 6  # in a lease: missing a few must not lose the job


class Runner:
    """The jobs that run in this process, at most `concurrency` at once."""

    def __init__(self, resources: Resources, *, concurrency: int, lease_seconds: float) -> None:
        self._resources = resources
        self._db = resources.db
        self._metrics = resources.metrics
        self._lease = timedelta(seconds=lease_seconds)
        self._concurrency = concurrency
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._next_schedule = time.monotonic() + _SCHEDULE_SECONDS
        self._next_poll = time.monotonic()
        for kind in kinds():  # a series that begins at 1 never rises, and would alert nobody
            for outcome in _OUTCOMES:
                self._metrics.job_attempts.labels(kind, outcome)
            self._metrics.job_seconds.labels(kind)

    def wake(self, _job_ids: Sequence[int] = ()) -> None:
        """Look for work at once."""
        self._wake.set()

    async def run(self) -> None:
        """Find work and run it until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._schedule()
                self.start(await self._due())
            except DomainError as error:
                logger.warning("no jobs for now: %s", error.title)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._wake.wait()

    def start(self, job_ids: Iterable[int]) -> None:
        """Run jobs beside everything else, as many as there is room for.

        The others wait in the table, and are looked for when one of these has ended.
        """
        for job_id in job_ids:
            if job_id not in self._tasks and len(self._tasks) < self._concurrency:
                task = asyncio.create_task(self.run_one(job_id), name=f"job-{job_id}")
                self._tasks[job_id] = task
                task.add_done_callback(partial(self._ended, job_id))

    def _ended(self, job_id: int, _task: asyncio.Task[None]) -> None:
        had_room = len(self._tasks) < self._concurrency
        del self._tasks[job_id]
        if not had_room:  # else nothing waits for the room: whatever was due has begun
            self._wake.set()

    async def run_handed_over(self, job_id: int) -> None:
        """Run a job that a queue names; return when it has ended, or if there is no room."""
        self.start([job_id])
        if task := self._tasks.get(job_id):
            with contextlib.suppress(Exception):
                await asyncio.shield(task)

    async def stop(self, grace_seconds: float) -> None:
        """Let what runs end in time; then cut it off and give it back, uncounted."""
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def run_one(self, job_id: int) -> None:
        """Run one job to the end of an attempt, if nobody else has it."""
        try:
            async with self._db.transaction() as connection:
                job = await JobRepository(connection).claim(job_id, self._lease)
            if job is not None:
                await self._attempt(job)
        except DomainError as error:
            logger.warning("job %s is left for later: %s", job_id, error.title)
        except Exception:
            logger.exception("job %s broke", job_id)

    async def _attempt(self, job: Job) -> None:
        kind = kinds().get(job.kind)
        if kind is None:
            await self._give_up(job, f"Nothing here runs {job.kind}")
            return
        number = job.attempts - job.forgiven
        if number > len(kind.waits) + 1:  # each time it took its process with it
            await self._give_up(job, job.error or "The process that ran it died each time")
            return
        started = time.monotonic()
        with self._traced(job):
            outcome = await self._watched(kind, job)
        if outcome is not None:
            self._metrics.job_attempts.labels(job.kind, outcome).inc()
            self._metrics.job_seconds.labels(job.kind).observe(time.monotonic() - started)
            logger.info(
                "job %s",
                outcome,
                extra={"fields": {"job_id": job.id, "kind": job.kind, "attempt": number}},
            )

    def _traced(self, job: Job) -> AbstractContextManager[None]:
        tracing, traceparent = self._resources.tracing, job.arguments.pop(TRACEPARENT, None)
        return tracing.job(job.kind, job.id, traceparent) if tracing else nullcontext()

    async def _watched(self, kind: JobKind, job: Job) -> str | None:
        """Run the function beside its heartbeat; return the outcome, None where it was lost."""
        work = asyncio.create_task(self._work(kind, job))
        heart = asyncio.create_task(self._keep(job))
        try:
            await asyncio.wait((work, heart), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            await ended(work)
            return await self._cancelled(job) if heart.result() else None
        except asyncio.CancelledError:
            await ended(work)
            with contextlib.suppress(DomainError):
                await asyncio.shield(self._release(job))
            raise
        finally:
            await ended(heart)

    async def _cancelled(self, job: Job) -> str | None:
        async with self._db.transaction() as connection:
            return "cancelled" if await JobRepository(connection).cancel_held(job) else None

    async def _keep(self, job: Job) -> bool:
        """Extend the lease until cancelled; return True to end the job, False where it was lost."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / _HEARTBEATS)
            with contextlib.suppress(DomainError):  # away for a moment; the lease lasts longer
                async with self._db.single_change() as connection:
                    is_cancelling = await JobRepository(connection).extend(job, self._lease)
                if is_cancelling is not False:
                    return bool(is_cancelling)

    async def _work(self, kind: JobKind, job: Job) -> str | None:
        try:
            async with asyncio.timeout(kind.seconds):
                result = await kind.run(Run(self._resources, job), **job.arguments)
        except Lost:
            return None
        except Cancelled:
            return await self._cancelled(job)
        except Failed as failed:
            return await self._give_up(job, str(failed))
        except RetryAfter as later:
            return await self._try_again(kind, job, str(later), later.seconds)
        except TimeoutError:
            return await self._try_again(kind, job, f"Not done within {kind.seconds:g} seconds")
        except DomainError as error:
            return await self._try_again(kind, job, error.detail)
        except Exception as error:
            logger.exception("job %s (%s) failed", job.id, kind.name)
            return await self._try_again(kind, job, type(error).__name__)
        async with self._db.transaction() as connection:
            is_ours = await JobRepository(connection).succeed(job, result)
        return "succeeded" if is_ours else None

    async def _try_again(
        self, kind: JobKind, job: Job, error: str, seconds: float | None = None
    ) -> str | None:
        wait = kind.wait_before(job.attempts - job.forgiven + 1)
        if wait is None:
            return await self._give_up(job, error)
        pause = wait if seconds is None else seconds
        async with self._db.transaction() as connection:
            await JobRepository(connection).retry_later(
                job, now() + timedelta(seconds=pause), error
            )
        if pause < _POLL_SECONDS:
            asyncio.get_running_loop().call_later(pause, self.wake)
        return "retried"

    async def _give_up(self, job: Job, error: str) -> str | None:
        logger.error("job %s (%s) is given up: %s", job.id, job.kind, error)
        async with self._db.transaction() as connection:
            return "failed" if await JobRepository(connection).fail(job, error) else None

    async def _release(self, job: Job) -> None:
        async with self._db.transaction() as connection:
            await JobRepository(connection).release(job)

    async def _due(self) -> list[int]:
        """Return the jobs to begin, as many as there is room for.

        Being woken tells of new ones alone. Whose holder has died, and how much waits, also where
        there is no room, is looked up no more often than one polls.
        """
        is_polling = time.monotonic() >= self._next_poll
        free = self._concurrency - len(self._tasks)
        if not (is_polling or free):
            return []
        async with self._db.read() as connection:
            repository = JobRepository(connection)
            if is_polling:
                self._next_poll = time.monotonic() + _POLL_SECONDS
                self._show(await repository.backlog())
            limit = free + len(self._tasks)
            found = await repository.due(limit, with_lapsed=is_polling) if free else []
        return [each for each in found if each not in self._tasks][:free]

    def _show(self, backlog: Backlog) -> None:
        self._metrics.jobs_waiting.set(backlog.waiting)
        age = (now() - backlog.oldest).total_seconds() if backlog.oldest else 0.0
        self._metrics.jobs_oldest_seconds.set(max(0.0, age))

    async def _schedule(self) -> None:
        if time.monotonic() < self._next_schedule:
            return
        self._next_schedule = time.monotonic() + _SCHEDULE_SECONDS
        for kind in kinds().values():
            if kind.every is not None:
                async with self._db.transaction() as connection:
                    await JobRepository(connection).enqueue_scheduled(
                        kind.name, not_since=now() - timedelta(seconds=kind.every)
                    )
