"""All SQL of jobs: queueing in the caller's transaction, claiming, finishing, starting again.

Whoever has claimed a job holds it by the number of that attempt and until its lease runs out. What
it writes names the attempt, so that one who lost its lease changes nothing any more.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adapters.database import leave_for_commit
from app.clock import now
from app.events import outbox
from app.events.outbox import EventDraft
from app.models.events import Audience, EventKind
from app.models.jobs import Job, JobStatus, jobs
from app.observability.tracing import TRACEPARENT, current_traceparent

_UNFINISHED = jobs.c.status.in_([JobStatus.QUEUED, JobStatus.RUNNING])
_LONGEST_ERROR = 2000  # characters


class Backlog(NamedTuple):
    """How much waits that could run, and since when the oldest of it."""

    waiting: int
    oldest: datetime | None


class JobRepository:
    """Jobs, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def enqueue(
        self,
        kind: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        owner_id: int | None = None,
        run_after: datetime | None = None,
        key: str | None = None,
    ) -> int:
        """Queue a job in the caller's transaction; it is handed over after the commit.

        While a job of the same key is unfinished, there is no second one: its id is returned.
        """
        moment = now()
        traceparent = current_traceparent()
        trace = {TRACEPARENT: traceparent} if traceparent else {}
        is_postgres = self._connection.dialect.name == "postgresql"
        statement = (
            (postgresql.insert if is_postgres else sqlite.insert)(jobs)
            .values(
                kind=kind,
                arguments={**(arguments or {}), **trace},
                owner_id=owner_id,
                key=key,
                status=JobStatus.QUEUED,
                run_after=run_after or moment,
                created_at=moment,
            )
            .on_conflict_do_nothing(index_elements=["key"], index_where=_UNFINISHED_TEXT)
            .returning(jobs.c.id)
        )
        job_id: int | None = (await self._connection.execute(statement)).scalar_one_or_none()
        if job_id is None:
            known = select(jobs.c.id).where(jobs.c.key == key, _UNFINISHED)
            job_id = (await self._connection.execute(known)).scalar_one()
        elif run_after is None or run_after <= moment:
            leave_for_commit(self._connection, job_id)
        return job_id

    async def enqueue_scheduled(self, kind: str, *, not_since: datetime) -> None:
        """Queue a job of a schedule, unless one was queued since a moment or still runs."""
        latest = select(func.max(jobs.c.created_at)).where(jobs.c.kind == kind)
        found = (await self._connection.execute(latest)).scalar_one()
        if found is None or found < not_since:
            await self.enqueue(kind, key=f"schedule:{kind}")

    async def due(self, limit: int, *, with_lapsed: bool) -> list[int]:
        """Return the jobs whose time has come, before them those whose holder has died."""
        moment = now()
        waiting = and_(jobs.c.status == JobStatus.QUEUED, jobs.c.run_after <= moment)
        lapsed = and_(jobs.c.status == JobStatus.RUNNING, jobs.c.leased_until < moment)
        orders = [(lapsed, jobs.c.leased_until)] if with_lapsed else []
        found: list[int] = []
        for condition, order in (*orders, (waiting, jobs.c.run_after)):
            statement = select(jobs.c.id).where(condition).order_by(order, jobs.c.id).limit(limit)
            found += (await self._connection.execute(statement)).scalars()
        return found[:limit]

    async def claim(self, job_id: int, lease: timedelta) -> Job | None:
        """Take a job that may run; None where somebody else has it or it is finished."""
        moment = now()
        statement = (
            update(jobs)
            .where(
                jobs.c.id == job_id,
                or_(
                    and_(jobs.c.status == JobStatus.QUEUED, jobs.c.run_after <= moment),
                    and_(jobs.c.status == JobStatus.RUNNING, jobs.c.leased_until < moment),
                ),
            )
            .values(
                status=JobStatus.RUNNING,
                attempts=jobs.c.attempts + 1,
                started_at=func.coalesce(jobs.c.started_at, moment),
                leased_until=moment + lease,
            )
            .returning(*jobs.c)
        )
        row = (await self._connection.execute(statement)).first()
        return Job._make(row) if row else None

    async def extend(self, job: Job, lease: timedelta) -> bool | None:
        """Keep a job for longer; tell whether it shall be cancelled, None where it was lost."""
        statement = update(jobs).where(_held(job)).values(leased_until=now() + lease)
        row = (await self._connection.execute(statement.returning(jobs.c.is_cancelling))).first()
        return bool(row[0]) if row else None

    async def report(
        self, job: Job, progress: float, detail: Mapping[str, Any] | None
    ) -> Job | None:
        """Note how far a job is, as an event too where somebody asked for it; None if lost."""
        values = {"progress": progress, "detail": dict(detail) if detail is not None else None}
        changed = await self._change(job, values)
        if changed and job.owner_id is not None:
            await outbox.record(self._connection, _event(EventKind.JOB_PROGRESS, changed))
        return changed

    async def succeed(self, job: Job, result: Mapping[str, Any] | None) -> bool:
        """Finish a job; False where it was lost."""
        values = {"progress": 1.0, "result": None if result is None else dict(result)}
        return await self._finish(job, JobStatus.SUCCEEDED, values)

    async def fail(self, job: Job, error: str) -> bool:
        """Give a job up: it stays as a dead letter. False where it was lost."""
        return await self._finish(job, JobStatus.FAILED, {"error": error[:_LONGEST_ERROR]})

    async def cancel_held(self, job: Job) -> bool:
        """Finish a job that somebody wanted cancelled; False where it was lost."""
        return await self._finish(job, JobStatus.CANCELLED, {})

    async def retry_later(self, job: Job, run_after: datetime, error: str) -> None:
        """Give a job back, to be tried again."""
        values = {"run_after": run_after, "error": error[:_LONGEST_ERROR]}
        await self._change(job, {"status": JobStatus.QUEUED, "leased_until": None, **values})

    async def release(self, job: Job) -> None:
        """Give a job back that a stop cut off; the attempt does not count."""
        values = {"run_after": now(), "forgiven": jobs.c.forgiven + 1}
        await self._change(job, {"status": JobStatus.QUEUED, "leased_until": None, **values})

    async def get(self, job_id: int) -> Job | None:
        """Return a job, or None."""
        row = (await self._connection.execute(select(jobs).where(jobs.c.id == job_id))).first()
        return Job._make(row) if row else None

    async def cancel(self, job_id: int) -> Job | None:
        """Cancel a job that waits, or ask the one who runs it; None where it is finished."""
        waiting = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.status == JobStatus.QUEUED)
            .values(status=JobStatus.CANCELLED, finished_at=now())
            .returning(*jobs.c)
        )
        row = (await self._connection.execute(waiting)).first()
        if row:
            job = Job._make(row)
            await self._tell(job)
            return job
        running = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.status == JobStatus.RUNNING)
            .values(is_cancelling=True)
            .returning(*jobs.c)
        )
        row = (await self._connection.execute(running)).first()
        return Job._make(row) if row else None

    async def retry(self, job_id: int) -> Job | None:
        """Queue a failed or cancelled job anew, with all its attempts; None where it is neither."""
        statement = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.status.in_([JobStatus.FAILED, JobStatus.CANCELLED]))
            .values(
                status=JobStatus.QUEUED,
                run_after=now(),
                forgiven=jobs.c.attempts,
                is_cancelling=False,
                leased_until=None,
                finished_at=None,
                error=None,
            )
            .returning(*jobs.c)
        )
        row = (await self._connection.execute(statement)).first()
        if row is None:
            return None
        leave_for_commit(self._connection, job_id)
        return Job._make(row)

    async def failed_ids(self) -> list[int]:
        """Return the dead letters, the oldest first."""
        statement = select(jobs.c.id).where(jobs.c.status == JobStatus.FAILED).order_by(jobs.c.id)
        return list((await self._connection.execute(statement)).scalars())

    async def purge(self, job_ids: Sequence[int]) -> int:
        """Forget dead letters, all where none are named; return how many."""
        statement = delete(jobs).where(jobs.c.status == JobStatus.FAILED)
        if job_ids:
            statement = statement.where(jobs.c.id.in_(job_ids))
        return (await self._connection.execute(statement)).rowcount

    async def page(
        self,
        *,
        owner_id: int | None,
        status: JobStatus | None = None,
        kind: str | None = None,
        skip: int = 0,
        limit: int,
        before_id: int | None = None,
    ) -> list[Job]:
        """Return jobs, the newest first; everybody's where no owner is named."""
        conditions = _conditions(owner_id, status, kind)
        if before_id is not None:
            conditions.append(jobs.c.id < before_id)
        statement = (
            select(jobs).where(*conditions).order_by(jobs.c.id.desc()).offset(skip).limit(limit)
        )
        return [Job._make(row) for row in await self._connection.execute(statement)]

    async def count(
        self, *, owner_id: int | None, status: JobStatus | None = None, kind: str | None = None
    ) -> int:
        """Return how many jobs a list has."""
        statement = (
            select(func.count()).select_from(jobs).where(*_conditions(owner_id, status, kind))
        )
        return (await self._connection.execute(statement)).scalar_one()

    async def backlog(self) -> Backlog:
        """Return how much waits although its time has come."""
        statement = select(func.count(), func.min(jobs.c.run_after)).where(
            jobs.c.status == JobStatus.QUEUED, jobs.c.run_after <= now()
        )
        return Backlog(*(await self._connection.execute(statement)).one())

    async def delete_finished(self, *, before: datetime, failed_before: datetime) -> int:
        """Forget finished jobs, failed ones by a moment of their own; return how many."""
        statement = delete(jobs).where(
            or_(
                and_(jobs.c.finished_at < before, jobs.c.status != JobStatus.FAILED),
                and_(jobs.c.finished_at < failed_before, jobs.c.status == JobStatus.FAILED),
            )
        )
        return (await self._connection.execute(statement)).rowcount

    async def _change(self, job: Job, values: Mapping[str, Any]) -> Job | None:
        statement = update(jobs).where(_held(job)).values(values).returning(*jobs.c)
        row = (await self._connection.execute(statement)).first()
        return Job._make(row) if row else None

    async def _finish(self, job: Job, status: JobStatus, values: Mapping[str, Any]) -> bool:
        moment = now()
        finished = {"status": status, "finished_at": moment, "leased_until": None, **values}
        changed = await self._change(job, finished)
        if changed:
            await self._tell(changed)
        return changed is not None

    async def _tell(self, job: Job) -> None:
        # What nobody asked for is told of only when it is given up: admins hear of that.
        if job.owner_id is not None or job.status == JobStatus.FAILED:
            await outbox.record(self._connection, _event(EventKind.JOB_FINISHED, job))


_UNFINISHED_TEXT = next(
    each for each in jobs.indexes if each.name == "uq_jobs_key"
).dialect_options["postgresql"]["where"]


def _held(job: Job) -> ColumnElement[bool]:
    return and_(
        jobs.c.id == job.id,
        jobs.c.status == JobStatus.RUNNING,
        jobs.c.attempts == job.attempts,
    )


def _conditions(
    owner_id: int | None, status: JobStatus | None, kind: str | None
) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if owner_id is not None:
        found.append(jobs.c.owner_id == owner_id)
    if status is not None:
        found.append(jobs.c.status == status)
    if kind is not None:
        found.append(jobs.c.kind == kind)
    return found


def _event(kind: EventKind, job: Job) -> EventDraft:
    return EventDraft(
        kind=kind,
        subject="job",
        subject_id=job.id,
        owner_id=job.owner_id,
        audience=Audience.OWNER,
        data={
            "kind": job.kind,
            "status": job.status,
            "progress": job.progress,
            "detail": job.detail,
            "result": job.result,
            "error": job.error,
        },
    )
