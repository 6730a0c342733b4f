"""`kingpost jobs`: the dead letters seen, tried again and forgotten, and nothing else touched."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from app.cli import main
from app.clock import now
from app.commands.migrate import opened
from app.models.jobs import JobStatus
from app.repositories.jobs import JobRepository
from app.settings import Settings

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, with the embedded database as `kingpost migrate` makes it."""
    monkeypatch.chdir(tmp_path)
    assert main(["migrate"]) == 0


async def left_by_a_service(dead: int) -> list[int]:
    """Leave dead letters, and one job that waits; return their ids."""
    async with opened(Settings()) as db, db.transaction() as connection:
        jobs = JobRepository(connection)
        ids = [await jobs.enqueue("mail.send", {"sealed": "CANARY"}) for _ in range(dead + 1)]
        for each in ids[:dead]:
            job = await jobs.claim(each, timedelta(minutes=1))
            assert job
            assert await jobs.fail(job, "The mail server refused it")
        return ids


async def statuses(ids: list[int]) -> list[str | None]:
    """Return what has become of jobs; None of one that is gone."""
    async with opened(Settings()) as db, db.read() as connection:
        found = [await JobRepository(connection).get(each) for each in ids]
    return [each.status if each else None for each in found]


def test_the_failed_ones_are_listed_and_what_they_carry_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    dead, waiting = asyncio.run(left_by_a_service(1))
    capsys.readouterr()
    assert main(["jobs", "list"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[0] == f"{now():%Y-%m-%d}"
    assert line.split()[2:5] == [str(dead), "mail.send", "1"]
    assert line.endswith("The mail server refused it")
    assert "CANARY" not in line
    assert main(["jobs", "list", "--status", "queued"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[2] == str(waiting)


def test_those_that_are_named_are_tried_again_and_else_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = asyncio.run(left_by_a_service(3))
    capsys.readouterr()
    assert main(["jobs", "retry", str(ids[1]), str(ids[3]), "999"]) == 0
    assert capsys.readouterr().out == "Queued again: 1\n"
    failed, queued = JobStatus.FAILED, JobStatus.QUEUED
    assert asyncio.run(statuses(ids)) == [failed, queued, failed, queued]
    assert main(["jobs", "retry"]) == 0
    assert capsys.readouterr().out == "Queued again: 2\n"
    assert asyncio.run(statuses(ids)) == [queued] * 4


def test_only_dead_letters_are_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    ids = asyncio.run(left_by_a_service(3))
    capsys.readouterr()
    assert main(["jobs", "purge", str(ids[1]), str(ids[3])]) == 0
    assert capsys.readouterr().out == "Forgotten: 1\n"
    failed, queued = JobStatus.FAILED, JobStatus.QUEUED
    assert asyncio.run(statuses(ids)) == [failed, None, failed, queued]
    assert main(["jobs", "purge"]) == 0
    assert capsys.readouterr().out == "Forgotten: 2\n"
    assert asyncio.run(statuses(ids)) == [None, None, None, queued]


def test_a_status_that_there_is_none_of_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "list", "--status", "dead"]) == 2
    assert "failed" in capsys.readouterr().err
