"""Who may see, cancel and retry a job: whoever asked for it, and admins."""

from app.adapters.database import Database
from app.errors import JobFinished, JobNotFailed, NotFound
from app.models.jobs import Job
from app.repositories.jobs import JobRepository
from app.security.principal import Principal

_UNKNOWN = "There is no such job"


async def read(db: Database, job_id: int, caller: Principal) -> Job:
    """Return a job.

    Raises:
        NotFound: there is none, or it is not the caller's.
    """
    async with db.read() as connection:
        job = await JobRepository(connection).get(job_id)
    if job is None or not (caller.is_admin or job.owner_id == caller.user_id):
        raise NotFound(_UNKNOWN)
    return job


async def cancel(db: Database, job_id: int, caller: Principal) -> Job:
    """Cancel a job: at once where it waits, within seconds where it runs.

    Raises:
        NotFound: there is none, or it is not the caller's.
        JobFinished: there is nothing left to cancel.
    """
    await read(db, job_id, caller)
    async with db.transaction() as connection:
        job = await JobRepository(connection).cancel(job_id)
    if job is None:
        raise JobFinished
    return job


async def retry(db: Database, job_id: int, caller: Principal) -> Job:
    """Queue a job anew that failed or was cancelled.

    Raises:
        NotFound: there is none, or it is not the caller's.
        JobNotFailed: it waits, runs or has succeeded.
    """
    await read(db, job_id, caller)
    async with db.transaction() as connection:
        job = await JobRepository(connection).retry(job_id)
    if job is None:
        raise JobNotFailed
    return job
