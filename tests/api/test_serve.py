"""`kingpost serve`, which is what `make run` runs: embedded, in a folder of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.patience import PATIENCE
from tests.services import free_port

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.only("embedded")


@contextmanager
def kingpost(folder: Path, *command: str, port: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a folder as a new user would: with nothing set."""
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *command],
        cwd=folder,
        env=plain,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def cpu_seconds(process: subprocess.Popen[str]) -> float:
    """Return what a process has used of a CPU: how long it takes on a machine at rest."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def client_of(port: int) -> httpx.Client:
    # A TLS context takes 15 ms to make, and nothing here speaks TLS.
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, verify=False)


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    with client_of(port) as client:
        while time.monotonic() < deadline:
            try:
                if client.get("/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.02)
    raise AssertionError("the service did not start")


def test_a_first_start_makes_everything_and_tells_the_password_once(tmp_path: Path) -> None:
    port = free_port()
    with kingpost(tmp_path, "serve", port=port) as process:
        wait_until_ready(port)
        process.send_signal(signal.SIGINT)
        said, log = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, 130), log
    assert "Traceback" not in log
    found = re.search(r"password, shown this once: (\S+)", said)
    assert found, said
    secrets = list((tmp_path / "var/secrets").iterdir())
    assert secrets
    assert all(path.stat().st_mode & 0o077 == 0 for path in secrets)
    with kingpost(tmp_path, "serve", port=port) as process:
        wait_until_ready(port)
        assert cpu_seconds(process) < 2
        form = {"username": "admin", "password": found[1]}
        with client_of(port) as client:
            tokens = client.post("/api/v1/auth/token", data=form)
            assert tokens.status_code == 200
            headers = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
            users = client.get("/api/v1/users", headers=headers)
        assert [user["roles"] for user in users.json()["items"]] == [["admin", "user"]]
        process.send_signal(signal.SIGTERM)
        said, log = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, -signal.SIGTERM), log
    assert "password" not in said
    assert found[1] not in log


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with kingpost(tmp_path, "serve", port=other.getsockname()[1]) as process:
            _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "is taken" in said
    assert "Traceback" not in said


def test_a_database_is_seeded(tmp_path: Path) -> None:
    for command in (("migrate",), ("seed", "--users", "3", "--items", "7")):
        with kingpost(tmp_path, *command) as process:
            said, log = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, log
    assert "Seeded 3 accounts and 7 items" in said
