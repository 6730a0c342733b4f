"""A PostgreSQL and a Redis of one test's own, which can be ended, frozen and brought back."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.patience import PATIENCE
from tests.services import (
    Server,
    accepts_connections,
    says_ready,
    start_guarded,
    start_postgres,
    start_redis,
    unprivileged_user,
    wait_until,
)


@dataclass
class OwnServer:
    """A server whose process can be replaced by another one on the same port and data."""

    server: Server
    command: list[str]
    stop_signal: str
    port: int
    restarted: list[Server] = field(default_factory=list)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one that runs, or ran last."""
        return (self.restarted or [self.server])[-1].process

    def end(self, number: signal.Signals) -> None:
        """End it by a signal, and wait until it is gone."""
        self.process.send_signal(number)
        self.process.wait(PATIENCE)

    def start(self) -> None:
        """Start it again, and wait until it takes connections."""
        folder = self.server.folder
        process = start_guarded(
            self.command, folder, user=unprivileged_user(), stop_signal=self.stop_signal
        )
        self.restarted.append(Server(self.server.url, folder, process))
        lock_file = folder / "data" / "postmaster.pid"
        if self.stop_signal == "QUIT":
            wait_until(lambda: says_ready(lock_file), process, folder)
        wait_until(lambda: accepts_connections(self.port), process, folder)

    def stop(self) -> None:
        """End whatever runs, and remove its files."""
        for each in [*self.restarted[::-1], self.server]:
            each.stop()


@contextmanager
def own_postgres() -> Iterator[OwnServer]:
    """Start a PostgreSQL."""
    server = start_postgres()
    line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    yield from _lent(OwnServer(server, _words(line), "QUIT", _port(server)))


@contextmanager
def own_redis() -> Iterator[OwnServer]:
    """Start a Redis."""
    server = start_redis()
    program = str(Path(f"/proc/{server.process.pid}/exe").readlink())
    command = [program, str(server.folder / "redis.conf")]
    yield from _lent(OwnServer(server, command, "TERM", _port(server)))


def _lent(server: OwnServer) -> Iterator[OwnServer]:
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGCONT)
        server.stop()


def _words(line: bytes) -> list[str]:
    return [word.decode() for word in line.split(b"\0") if word]


def _port(server: Server) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])
