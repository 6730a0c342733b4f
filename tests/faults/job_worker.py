"""`kingpost worker` with three kinds of jobs more: one to count, one that kills, one that takes.

It is forked from a process that has imported all of it once: the tests start some twenty of them.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

from sqlalchemy import text

import app.commands.serve
import app.main  # noqa: F401 - what a worker imports when it is started
from app import cli
from app.jobs import registry, runner
from app.jobs.definition import Outcome, Run, job


@job("test.count")
async def count(run: Run, number: int) -> Outcome:
    """Leave a mark, once however often it is run; note each run."""
    async with run.resources.db.transaction() as connection:
        await connection.execute(text("INSERT INTO runs (number) VALUES (:n)"), {"n": number})
    await asyncio.sleep(0.02)
    mark = text("INSERT INTO marks (number) VALUES (:n) ON CONFLICT DO NOTHING")
    async with run.resources.db.transaction() as connection:
        await connection.execute(mark, {"n": number})
    return None


@job("test.kill", waits=(0.01, 0.01))
async def kill(_run: Run) -> Outcome:
    """Take the whole process with it."""
    os.kill(os.getpid(), signal.SIGKILL)
    return None


@job("test.sleep", seconds=300)
async def sleep(_run: Run) -> Outcome:
    """Go on for longer than any stop waits."""
    await asyncio.sleep(300)
    return None


OURS = {each.name: each for each in (count, kill, sleep)}
_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload([__name__])


def start(variables: dict[str, str], log: Path) -> BaseProcess:
    """Start it with these variables; what it says goes into the log."""
    log.touch()
    process = _forked.Process(target=_work, args=(variables, log))
    process.start()
    return process


def _work(variables: dict[str, str], log: Path) -> None:
    os.environ.update(variables)
    with log.open("ab") as said:
        os.dup2(said.fileno(), sys.stderr.fileno())
    setattr(runner, "kinds", lambda: registry.kinds() | OURS)  # noqa: B010
    sys.exit(cli.main(["worker"]))
