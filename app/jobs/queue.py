"""Hands jobs over to `kingpost worker` through arq, so that none waits for the worker's next look.

arq carries nothing but the number of a job, as JSON: its own default, pickle, would run the code
of whoever can write to Redis. What gets lost on the way is found in the table a second later.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from app.adapters.redis import RedisAway, RedisLink
from app.adapters.sentinel import open_pool

if TYPE_CHECKING:
    from arq import ArqRedis

logger = logging.getLogger(__name__)

_QUEUE = "kingpost:jobs"
_FUNCTION = "run"
_LOOK_EVERY = 0.2  # seconds; arq asks Redis this often
_PAUSE = 1.0  # seconds before asking a Redis again that was away
_SIGN_OF_LIFE_EVERY = 5  # seconds; it lapses a second later, and `kingpost doctor` looks for it
_LONGEST_RUN = 24 * 3600  # seconds; each job has a deadline of its own


def _dumps(value: Any) -> bytes:
    return json.dumps(value, default=str).encode()


class JobQueue:
    """The sending side, in every process that queues jobs."""

    def __init__(self, redis: RedisLink) -> None:
        self._redis = redis
        self._arq: ArqRedis | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def hand_over(self, job_ids: Sequence[int]) -> None:
        """Send the numbers of jobs that were committed; what fails is left to the worker's poll."""
        task = asyncio.create_task(self._send(job_ids))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, job_ids: Sequence[int]) -> None:
        if self._arq is None:
            from arq import ArqRedis  # 3 MB that a process without jobs does not need

            self._arq = ArqRedis(
                self._redis.pool,
                job_serializer=_dumps,
                job_deserializer=json.loads,
                default_queue_name=_QUEUE,
            )
        arq = self._arq
        for job_id in job_ids:
            with contextlib.suppress(RedisAway):
                await self._redis.run(
                    lambda _, job_id=job_id: arq.enqueue_job(_FUNCTION, job_id)  # type: ignore[misc]
                )

    async def close(self) -> None:
        """Wait for what is being sent."""
        await asyncio.gather(*self._sending, return_exceptions=True)


async def consume(url: str, run: Callable[[int], Awaitable[None]], *, at_once: int) -> None:
    """Run what is handed over until cancelled; come back by itself when Redis does."""
    from arq.connections import ArqRedis
    from arq.worker import Worker, func
    from redis.asyncio import ConnectionPool

    async def run_handed_over(ctx: dict[Any, Any], job_id: int) -> None:
        await run(job_id)

    while True:
        pool = ArqRedis(
            open_pool(ConnectionPool, url, socket_connect_timeout=2, socket_timeout=5),
            job_serializer=_dumps,
            job_deserializer=json.loads,
            default_queue_name=_QUEUE,
        )
        worker = Worker(
            [func(run_handed_over, name=_FUNCTION, max_tries=1, timeout=_LONGEST_RUN)],
            queue_name=_QUEUE,
            redis_pool=pool,
            handle_signals=False,
            max_jobs=at_once,
            keep_result=0,
            poll_delay=_LOOK_EVERY,
            health_check_key="kingpost:jobs:health",
            health_check_interval=_SIGN_OF_LIFE_EVERY,
            job_serializer=_dumps,
            job_deserializer=json.loads,
            log_results=False,
        )
        try:
            await worker.main()
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("jobs wait for the next look: redis is away (%s)", type(error).__name__)
        finally:
            for task in worker.tasks.values():
                task.cancel()
            await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await pool.aclose(close_connection_pool=True)
        await asyncio.sleep(_PAUSE)
