"""The service, whose workers write down how late timers of their loops are, and whose fault it was.

A timer is late because the loop was busy, or because the machine ran something else: how long the
loop's thread was ready and did not run, the kernel knows (`schedstat`: CPU, waiting for a CPU, in
nanoseconds). What is left of the lateness is the service's own.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from app import main

_PAUSE = 0.005  # seconds


@dataclass(frozen=True)
class Timer:
    """One timer of a worker; times in seconds."""

    at: float  # of the monotonic clock
    late: float
    waited: float  # of that for a CPU
    worked: float  # what the loop's thread had of a CPU meanwhile

    @property
    def held(self) -> float:
        """How long the loop itself kept it waiting."""
        return max(0.0, self.late - self.waited)


def timers_of(folder: Path, *, after: float, before: float) -> list[Timer]:
    """Return what the workers wrote down at their end of the time between."""
    rows = [row for path in folder.iterdir() for row in json.loads(path.read_text())]
    return [Timer(*row) for row in rows if after <= row[0] < before]


def quantile(times: Iterable[float], *, share: float = 0.999) -> float:
    """Return what so large a share of the times does not exceed."""
    ordered = sorted(times)
    return ordered[int(len(ordered) * share)]


def __getattr__(name: str) -> Any:
    """Make the app when Gunicorn asks for it."""
    if name != "app":
        raise AttributeError(name)
    app: FastAPI = main.app  # as production makes it: what it does about garbage counts too
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def probed(app: FastAPI) -> AsyncIterator[Any]:
        rows: list[tuple[float, ...]] = []
        async with lifespan(app) as state:
            watching = asyncio.create_task(_watch(rows))
            yield state
            watching.cancel()
        (Path(os.environ["PROBE_FOLDER"]) / str(os.getpid())).write_text(json.dumps(rows))

    app.router.lifespan_context = probed
    globals()["app"] = app
    return app


async def _watch(rows: list[tuple[float, ...]]) -> None:
    schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    worked, waited = _so_far(schedule)
    while True:
        due = time.monotonic() + _PAUSE
        await asyncio.sleep(_PAUSE)
        now, before = time.monotonic(), (worked, waited)
        worked, waited = _so_far(schedule)
        rows.append((now, now - due, waited - before[1], worked - before[0]))


def _so_far(schedule: int) -> tuple[float, float]:
    worked, waited, _ = os.pread(schedule, 100, 0).split()
    return int(worked) / 1e9, int(waited) / 1e9
