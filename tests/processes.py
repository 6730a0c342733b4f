"""Servers started as production starts them, and what the kernel knows of them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.patience import PATIENCE

WORKERS = 2
# Compiled code is kept, as it is in production, whatever this machine wants for its tests.
_AS_USUAL = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Service:
    """A Gunicorn with its workers."""

    name: str
    size: int  # workers that it should have
    port: int
    process: subprocess.Popen[bytes]
    start_seconds: float  # to the first 200
    output: IO[bytes]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def log(self) -> str:
        """Return what it has written so far."""
        return os.pread(self.output.fileno(), 10_000_000, 0).decode(errors="replace")

    def cpu_seconds(self) -> float:
        """Return the time that the workers have spent on a CPU, of user and system."""
        return sum(self.cpu_of_each())

    def cpu_of_each(self) -> list[float]:
        """Return the same of each worker."""
        found = []
        for pid in self.workers:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            found.append((int(fields[11]) + int(fields[12])) / _TICKS)
        return found

    def memory(self) -> list[float]:
        """Return the resident memory of each worker, in MB."""
        found = []
        for pid in self.workers:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            line = next(line for line in lines if line.startswith("VmRSS"))
            found.append(int(line.split()[1]) / 1024)
        return found


@contextmanager
def reserved_port() -> Iterator[int]:
    """Hold a port that Gunicorn may listen on beside us, and nobody who looks for a free one."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def gunicorn(
    name: str, app: str, environment: Mapping[str, str], *, workers: int = WORKERS
) -> Iterator[Service]:
    """Serve an app by the shipped configuration until the end of the block."""
    with reserved_port() as port, tempfile.TemporaryFile() as log:
        started_at = time.perf_counter()
        process = start_on(port, app, environment, log, workers=workers)
        try:
            _wait_until_live(port, process)
            yield Service(name, workers, port, process, time.perf_counter() - started_at, log)
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-4000:].decode(errors="replace"))
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def start_on(
    port: int, app: str, environment: Mapping[str, str], log: IO[bytes], *, workers: int = WORKERS
) -> subprocess.Popen[bytes]:
    """Begin to serve an app on a port; whoever calls ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", app],
        env={
            **_AS_USUAL,
            **environment,
            "PORT": str(port),
            "HOST": "127.0.0.1",
            "WEB_CONCURRENCY": str(workers),
        },
        stdout=log,
        stderr=log,
    )


def _wait_until_live(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait for the first answer of a server.

    Raises:
        RuntimeError: it ended, or does not come up.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=1):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not start") from None
            time.sleep(0.01)
