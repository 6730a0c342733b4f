"""`kingpost jobs`: lists jobs, and retries or forgets the failed ones."""

import argparse
import asyncio
import sys

from app.commands.migrate import is_migrated, opened
from app.models.jobs import JobStatus
from app.repositories.jobs import JobRepository
from app.settings import Settings


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Run one of them; return its exit code: 0 done, 1 failed, 2 refused."""
    if options.status not in set(JobStatus):
        print(f"--status is one of {', '.join(JobStatus)}", file=sys.stderr)
        return 2
    if not is_migrated(settings):
        return 1
    asyncio.run(_look_after_jobs(settings, options))
    return 0


async def _look_after_jobs(settings: Settings, options: argparse.Namespace) -> None:
    async with opened(settings) as db, db.transaction() as connection:
        jobs = JobRepository(connection)
        match options.act:
            case "list":
                for job in await jobs.page(
                    owner_id=None, status=JobStatus(options.status), limit=1000
                ):
                    told = f"{job.id}  {job.kind}  {job.attempts} attempts  {job.error or ''}"
                    print(f"{job.created_at:%Y-%m-%d %H:%M}  {told}")
            case "retry":
                ids = options.ids or await jobs.failed_ids()
                retried = [each for each in ids if await jobs.retry(each)]
                print(f"Queued again: {len(retried)}")
            case _:
                print(f"Forgotten: {await jobs.purge(options.ids)}")
