"""Which process runs jobs and sends webhooks: the server itself, or `kingpost worker`."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from app.concurrency.ending import ended
from app.concurrency.unending import unending
from app.jobs.queue import JobQueue, consume
from app.jobs.runner import Runner
from app.resources import Resources

# What runs may go on for so long when the process ends; then it is cut off and given back.
_GRACE_OF_SERVER = 2.0
_GRACE_OF_WORKER = 20.0


@asynccontextmanager
async def jobs_beside_requests(resources: Resources) -> AsyncIterator[None]:
    """Run jobs in this server where no worker is meant to; else hand them over to it."""
    if resources.settings.runs_jobs_inline:
        async with _running(resources, grace=_GRACE_OF_SERVER) as runner:
            resources.db.on_enqueued.append(runner.wake)
            yield
    elif resources.redis is not None:
        queue = JobQueue(resources.redis)
        resources.db.on_enqueued.append(queue.hand_over)
        yield
        await queue.close()
    else:
        yield


@asynccontextmanager
async def jobs_of_worker(resources: Resources) -> AsyncIterator[None]:
    """Run jobs as `kingpost worker` does: what is handed over at once, the rest by a poll."""
    settings = resources.settings
    async with _running(resources, grace=_GRACE_OF_WORKER) as runner:
        resources.db.on_enqueued.append(runner.wake)
        if settings.redis_url is None:
            yield
            return
        url = settings.redis_url.get_secret_value()
        run = partial(consume, url, runner.run_handed_over, at_once=settings.job_concurrency)
        async with beside(unending("queue", run)):
            yield


@asynccontextmanager
async def _running(resources: Resources, *, grace: float) -> AsyncIterator[Runner]:
    settings = resources.settings
    runner = Runner(
        resources,
        concurrency=settings.job_concurrency,
        lease_seconds=settings.job_lease_seconds,
    )
    try:
        async with (
            beside(unending("jobs", runner.run)),
            beside(unending("webhooks", resources.webhook_loop.run)),
        ):
            yield runner
    finally:
        await runner.stop(grace)


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do some work beside what is inside, and end it with that.

    Raises:
        Exception: what the work failed with.
    """
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await ended(task)
        if not task.cancelled():
            task.result()
