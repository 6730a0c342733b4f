"""Redis as production has it: a primary, its replicas, and the sentinels that watch over them."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.faults.servers import OwnServer
from tests.patience import PATIENCE
from tests.services import (
    Server,
    accepts_connections,
    find_redis,
    free_port,
    make_folder,
    readable,
    start_guarded,
    unprivileged_user,
    wait_until,
    write_private,
)

SERVICE = "kingpost-redis"


@dataclass
class Watched:
    """Servers, and the sentinels that watch over them."""

    nodes: list[OwnServer]
    sentinels: list[OwnServer]
    password: str
    sentinel_password: str

    @property
    def url(self) -> str:
        """What REDIS_URL says."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return (
            f"redis+sentinel://:{self.password}@{hosts}/{SERVICE}/0"
            f"?sentinel_password={self.sentinel_password}"
        )

    def ask(self, server: OwnServer, *command: str) -> Any:
        """Ask one of the nodes or sentinels."""
        with self._client(server) as client:
            return client.execute_command(*command)

    def role(self, node: OwnServer) -> str:
        """Return what a node is: `master`, `slave`, or nothing while it is away."""
        try:
            return str(self.ask(node, "ROLE")[0])
        except RedisError:
            return ""

    def info(self, server: OwnServer) -> dict[str, Any]:
        """Return what INFO says of one of them."""
        with self._client(server) as client:
            found: dict[str, Any] = client.info()
            return found

    @property
    def primary_port(self) -> int:
        """The port that the first sentinel names."""
        where = self.ask(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(where[1])

    @property
    def primary(self) -> OwnServer:
        """The node that the first sentinel names."""
        port = self.primary_port
        return next(node for node in self.nodes if node.port == port)

    def fail_over(self) -> None:
        """Have the sentinels elect another primary, as before maintenance."""
        self.ask(self.sentinels[0], "SENTINEL", "FAILOVER", SERVICE)

    async def has_moved_from(self, old: OwnServer) -> OwnServer:
        """Wait until another node than the old one is the primary; return that."""
        async with asyncio.timeout(PATIENCE):
            while self.primary is old or self.role(self.primary) != "master":
                await asyncio.sleep(0.02)
        return self.primary

    def is_whole(self) -> bool:
        """Tell whether every sentinel knows every other one and every replica."""
        return all(
            state["num-slaves"] == len(self.nodes) - 1
            and state["num-other-sentinels"] == len(self.sentinels) - 1
            for state in map(self._state, self.sentinels)
        )

    def _state(self, sentinel: OwnServer) -> dict[str, Any]:
        with self._client(sentinel) as client:
            found: dict[str, Any] = client.sentinel_master(SERVICE)
            return found

    def _client(self, server: OwnServer) -> Redis:
        password = self.sentinel_password if server in self.sentinels else self.password
        return Redis(port=server.port, password=password, decode_responses=True, socket_timeout=5)


@contextmanager
def watched_redis(*, replicas: int = 1, down_after_ms: int = 500) -> Iterator[Watched]:
    """Start a primary, replicas and three sentinels, and wait until they know one another."""
    watched = Watched([], [], secrets.token_hex(16), secrets.token_hex(16))
    try:
        for _ in range(1 + replicas):
            _start_node(watched)
        replica = watched.nodes[-1].server
        wait_until(lambda: _is_replicated(watched), replica.process, replica.folder)
        for _ in range(3):
            _start_sentinel(watched, down_after_ms)
        last = watched.sentinels[-1].server
        wait_until(watched.is_whole, last.process, last.folder)
        yield watched
    finally:
        for each in (*watched.sentinels, *watched.nodes):
            each.stop()


def _start_node(watched: Watched) -> None:
    lines = [f"requirepass {watched.password}", f"masterauth {watched.password}", 'save ""']
    # A copy of the data begins at once, and without a file.
    lines += ["repl-diskless-sync yes", "repl-diskless-sync-delay 0"]
    if watched.nodes:
        lines.append(f"replicaof 127.0.0.1 {watched.nodes[0].port}")
    watched.nodes.append(start_program("node", lines))


def _start_sentinel(watched: Watched, down_after_ms: int) -> None:
    lines = [
        f"requirepass {watched.sentinel_password}",
        f"sentinel monitor {SERVICE} 127.0.0.1 {watched.nodes[0].port} 2",
        f"sentinel auth-pass {SERVICE} {watched.password}",
        f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
        f"sentinel failover-timeout {SERVICE} 1000",  # a split vote costs twice as much
    ]
    watched.sentinels.append(start_program("sentinel", lines, "--sentinel"))


def start_program(kind: str, lines: list[str], *options: str) -> OwnServer:
    """Start Redis' program as a `node` or, by an option, as a `sentinel`."""
    user = unprivileged_user()
    folder = make_folder(f"kingpost-{kind}-", user)
    program = readable(find_redis(), folder / "programs", user)
    port = free_port()
    settings = folder / "redis.conf"
    where = [f"port {port}", "bind 127.0.0.1", f"dir {folder}"]
    write_private(settings, "\n".join((*where, *lines, "")), user)
    command = [str(program), str(settings), *options]
    process = start_guarded(command, folder, user=user, stop_signal="TERM")
    wait_until(lambda: accepts_connections(port), process, folder)
    return OwnServer(Server("", Path(folder), process), command, "TERM", port)


def _is_replicated(watched: Watched) -> bool:
    return all(watched.ask(node, "ROLE")[3] == "connected" for node in watched.nodes[1:])
