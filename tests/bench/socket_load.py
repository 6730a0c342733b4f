"""Thousands of WebSockets in a process of its own, by hand: epoll, no library, hardly a copy.

Takes orders as lines of JSON, one answer to each: `open` sockets, collect `arrivals` of events,
`stall` and read nothing any more, `drain` what has come meanwhile up to the close frames.
"""

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.raw_socket import HANDSHAKE, Opcode, frame, request

_EVENT = b'{"type":"event"'
_AT_ONCE = 64  # handshakes under way
_PER_ADDRESS = 5_000  # sockets; one address of the loopback interface has about 28,000 ports
_SMALL_BUFFER = 4096  # bytes, so that who stalls is noticed before megabytes lie in the kernel


@dataclass(slots=True)
class _Live:
    peer: socket.socket
    rest: bytes = b""  # of a frame that has not come whole
    is_open: bool = False


@dataclass
class _Sockets:
    """All the sockets of this process; times are those of the monotonic clock, the same for all."""

    port: int
    poll: select.epoll = field(default_factory=select.epoll)
    live: dict[int, _Live] = field(default_factory=dict)
    arrivals: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    sample: str = ""

    def connect(self, headers: str, *, small: bool) -> None:
        """Connect and send the handshake."""
        peer = socket.socket()
        if small:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        peer.bind((f"127.0.0.{2 + len(self.live) // _PER_ADDRESS}", 0))
        peer.connect(("127.0.0.1", self.port))
        peer.setblocking(False)
        peer.sendall(request("/ws", {**HANDSHAKE, **json.loads(headers)}))
        self.live[peer.fileno()] = _Live(peer)
        self.poll.register(peer, select.EPOLLIN)

    def read(self, seconds: float) -> int:
        """Take in what has come; return how many sockets have come to their subscription."""
        opened = 0
        for number, _ in self.poll.poll(seconds):
            live = self.live[number]
            try:
                came = live.peer.recv(65536)
            except OSError:
                came = b""
            moment = time.monotonic()
            if not came:
                self.poll.unregister(number)
                self.live.pop(number).peer.close()
                continue
            data = live.rest + came
            if not live.is_open:
                head, end, data = data.partition(b"\r\n\r\n")
                if not end:
                    live.rest = head
                    continue
                if not head.startswith(b"HTTP/1.1 101"):
                    raise RuntimeError(head.decode())
                live.is_open = True
            opened += self._take_in(live, data, moment)
        return opened

    def _take_in(self, live: _Live, data: bytes, moment: float) -> int:
        opened = 0
        for opcode, payload in _frames(data):
            if opcode is None:
                live.rest = payload
                break
            live.rest = b""
            if payload.startswith(_EVENT):
                self.arrivals.append(moment)
                self.sample = self.sample or payload.decode()
            elif opcode == Opcode.PING:
                live.peer.send(frame(Opcode.PONG, payload))
            elif opcode == Opcode.CLOSE:
                self.codes[int.from_bytes(payload[:2], "big")] += 1
            elif payload.startswith(b'{"type":"welcome"'):
                live.peer.send(frame(Opcode.TEXT, b'{"action":"subscribe","channel":"items"}'))
            elif payload.startswith(b'{"type":"subscribed"'):
                opened += 1
        return opened


def _frames(data: bytes) -> Iterator[tuple[int | None, bytes]]:
    """Yield opcodes and payloads; last, with None, the bytes of a frame that is not whole."""
    at = 0
    while True:
        length, start = data[at + 1] if len(data) > at + 1 else 0, at + 2
        if length == 126:
            length, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
        if len(data) < start + length:
            yield None, data[at:]
            return
        yield data[at] & 15, data[start : start + length]
        at = start + length


def _open(sockets: _Sockets, order: dict[str, Any]) -> dict[str, Any]:
    started, opened, sent = time.monotonic(), 0, 0
    headers = [json.dumps(each) for each in order["headers"]]
    while opened < order["count"]:
        while sent < order["count"] and sent - opened < _AT_ONCE:
            sockets.connect(headers[sent % len(headers)], small=order["small"])
            sent += 1
        opened += sockets.read(1)
        if sockets.codes:
            raise RuntimeError(f"closed: {dict(sockets.codes)}")
    return {"seconds": time.monotonic() - started}


def _collect(sockets: _Sockets, order: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + order["within"]
    sockets.arrivals = []
    while len(sockets.arrivals) < order["count"] and time.monotonic() < deadline:
        sockets.read(0.05)
    return {"arrivals": sockets.arrivals, "sample": sockets.sample}


def _idle(sockets: _Sockets, order: dict[str, Any]) -> dict[str, Any]:
    """Answer pings and read what comes, for a while."""
    deadline = time.monotonic() + order["seconds"]
    while time.monotonic() < deadline:
        sockets.read(0.05)
    return {"open": len(sockets.live)}


def _drain(sockets: _Sockets, _order: dict[str, Any]) -> dict[str, Any]:
    while sockets.live:
        sockets.read(1)
    return {"codes": sockets.codes}


_ORDERS = {"open": _open, "arrivals": _collect, "idle": _idle, "drain": _drain}


class SocketLoad:
    """The same from outside: a process that is given orders."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.socket_load", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, name: str, **values: Any) -> None:
        """Say what to do, and do not wait for it."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"name": name, **values}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the answer to the order."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the sockets' process failed")
        return json.loads(line)

    def open(
        self, count: int, headers: Sequence[dict[str, str]] = ({},), *, small: bool = False
    ) -> float:
        """Open and subscribe sockets; return the seconds that it took."""
        self.order("open", count=count, headers=list(headers), small=small)
        return float(self.answer()["seconds"])

    def close(self) -> None:
        """End the process, and all its sockets with it."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Take orders until their end."""
    sockets = _Sockets(int(sys.argv[1]))
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            order = json.loads(line)
            print(json.dumps(_ORDERS[order["name"]](sockets, order)), flush=True)


if __name__ == "__main__":
    main()
