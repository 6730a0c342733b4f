"""What a job is: a function under a name, with its deadline and its pauses between attempts."""

import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.models.jobs import Job
from app.repositories.jobs import JobRepository
from app.resources import Resources

_REPORT_SPACING = 0.5  # seconds; each report is a row and an event
# What an outage of a minute or a deploy should not make a dead letter of.
USUAL_WAITS = (5.0, 30.0, 120.0, 600.0)
_JITTER = 0.2  # so that what failed together does not come back together

Outcome = Mapping[str, Any] | None
Function = Callable[..., Awaitable[Outcome]]


class Failed(Exception):
    """Trying again would not help: the job is given up, with this sentence as its error."""


class RetryAfter(Exception):
    """The other side has said when to come back, in seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__("asked to come back later")
        self.seconds = seconds


class Lost(Exception):
    """Somebody else has the job by now: this run must change nothing any more."""


class Cancelled(Exception):
    """Somebody wants the job cancelled: this run ends where it is."""


@dataclass(frozen=True, slots=True)
class JobKind:
    """A function that can be queued by its name. It may run twice: make its effect idempotent."""

    name: str
    run: Function
    waits: tuple[float, ...]
    seconds: float
    every: float | None

    def wait_before(self, attempt: int) -> float | None:
        """Return the pause in seconds before an attempt, counted from 2; None if there is none."""
        if attempt - 2 >= len(self.waits):
            return None
        return self.waits[attempt - 2] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311


def job(
    name: str,
    *,
    waits: tuple[float, ...] = USUAL_WAITS,
    seconds: float = 60.0,
    every: float | None = None,
) -> Callable[[Function], JobKind]:
    """Declare a job: `waits` are the pauses before each further attempt, `seconds` its deadline.

    With `every` it is queued by itself, each so many seconds, once for all processes.
    """
    return lambda run: JobKind(name, run, waits, seconds, every)


class Run:
    """One attempt, as the job's function sees it."""

    def __init__(self, resources: Resources, job: Job) -> None:
        self.resources = resources
        self.job_id = job.id
        self.owner_id = job.owner_id
        self.attempt = job.attempts - job.forgiven
        self._job = job
        self._next_report = -math.inf

    async def progress(self, fraction: float, detail: Mapping[str, Any] | None = None) -> None:
        """Say how far the job is, between 0 and 1; what comes too soon after the last is left out.

        Raises:
            Lost: somebody else has the job by now.
            Cancelled: somebody wants it cancelled.
        """
        moment = time.monotonic()
        if moment < self._next_report:
            return
        self._next_report = moment + _REPORT_SPACING
        async with self.resources.db.transaction() as connection:
            reported = await JobRepository(connection).report(self._job, fraction, detail)
        if reported is None:
            raise Lost
        if reported.is_cancelling:  # seconds before a heartbeat would see it
            raise Cancelled
