"""Ten thousand WebSockets on one worker, events to 5,000 of them, readers that stall, idle workers.

The floor of an event is a bare server of the same kind, which sends a text that it was given to all
its sockets in one loop; the two take turns. The clients are by hand, in processes of their own.
"""

import argparse
import json
import os
import resource
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median, quantiles

from tests.bench import idle_workers, report
from tests.bench.socket_load import SocketLoad
from tests.bench.sockets import sign_in
from tests.bench.stand import seeded, servers
from tests.processes import Service, gunicorn

_USERS = 40  # who share the sockets: signing in takes long
_SPARE_FILES = 500  # of a worker, beside its sockets
_IDLE_SECONDS = 40.0  # two pings to each socket
_EVENTS = 30
_STALLED, _BESIDE = 50, 500  # sockets that do not read, and sockets that do
_STALL_SECONDS = 300.0  # at most until all who stall have been cut off
_SHORT, _LONG = "A very fine desk. ", "ä" * 2000  # six bytes each in a frame
_WITHIN = 30.0  # seconds, for an event to come to all


@dataclass(frozen=True)
class Target:
    """A server with its sockets, and how to make it send one event."""

    service: Service
    load: SocketLoad
    publish: Callable[[], None]


@dataclass
class Delays:
    """From publishing to arrival, in ms, of each socket and event."""

    all: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)  # of each event
    cpu_seconds: float = 0.0  # of the worker, for all

    def add(self, more: "Delays") -> None:
        """Take in those of further events."""
        self.all += more.all
        self.last += more.last
        self.cpu_seconds += more.cpu_seconds

    def percentile(self, number: int) -> float:
        """Return the value that so many hundredths stay below."""
        return quantiles(self.all, n=100)[number - 1]


def main() -> None:
    """Measure and print; with `--write`, put the tables into the page."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.sockets_scale", description=__doc__
    )
    parser.add_argument("--sockets", type=int, default=10_000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    most = _raise_file_limit() - _SPARE_FILES
    sockets = min(options.sockets, most)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        environment = seeded(stack)
        environment |= {
            "WEBSOCKET_CONNECTIONS_PER_USER": "100000",
            "WEBSOCKET_CONNECTIONS_PER_ADDRESS": "100000",
        }
        tables = [
            _idle(environment, [sockets // 10, sockets // 2, sockets]),
            _fan_out(environment, sockets // 2),
            _stalled(environment),
            idle_workers.table(environment),
        ]
    text = "\n\n".join([f"Measured {report.machine(load, servers())}", *tables])
    print(text)
    if options.write:
        report.write(text, "sockets")


def _raise_file_limit() -> int:
    """Let the servers and clients that are started from here have as many files as may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _tokens(service: Service) -> list[dict[str, str]]:
    return [
        {"Authorization": f"Bearer {sign_in(service, number)}"} for number in range(1, _USERS + 1)
    ]


def _say(what: str) -> None:
    print(what, file=sys.stderr)


def _idle(environment: Mapping[str, str], steps: Sequence[int]) -> str:
    """Open more and more sockets on one worker, and look at it while nothing happens."""
    rows = [
        "| idle sockets of one worker, signed in and subscribed | KiB each | connected in"
        " | connected a second | CPU while idle, of one core |",
        "|---|---|---|---|---|",
    ]
    with ExitStack() as stack:
        service = stack.enter_context(gunicorn("idle", "app.main:app", environment, workers=1))
        load = SocketLoad(service.port)
        stack.callback(load.close)
        headers = _tokens(service)
        load.open(50, headers)  # what the first ones make the worker load is not theirs
        before, opened, seconds = sum(service.memory()), 0, 0.0
        for step in steps:
            _say(f"{step:,} idle sockets")
            seconds += load.open(step - opened, headers)
            opened = step
            kib = (sum(service.memory()) - before) * 1024 / opened
            cpu = service.cpu_seconds()
            load.order("idle", seconds=_IDLE_SECONDS)
            if load.answer()["open"] != opened + 50:
                raise RuntimeError("sockets were lost while they were idle")
            share = (service.cpu_seconds() - cpu) / _IDLE_SECONDS
            rows.append(
                f"| {opened:,} | {kib:.1f} | {seconds:.1f} s | {opened / seconds:,.0f}"
                f" | {share:.1%} |"
            )
    return "\n".join(rows)


def _fan_out(environment: Mapping[str, str], sockets: int) -> str:
    """Send events to many sockets, by turns through the service and through a bare server."""
    with ExitStack() as stack:
        ours = _ours(stack, environment, sockets)
        _delays(ours, 1, sockets)
        bare = _bare(stack, environment, sockets, _sample(ours, sockets))
        figures: dict[str, Delays] = {"bare": Delays(), "ours": Delays()}
        for number in range(_EVENTS):
            _say(f"event {number + 1}/{_EVENTS} to {sockets:,} sockets")
            for name, target in (("bare", bare), ("ours", ours)):
                figures[name].add(_delays(target, 1, sockets))
    lines = [
        f"| one event to {sockets:,} sockets of one worker, {_EVENTS} times | p50 ms | p99 ms"
        " | to the last, median ms | server CPU µs a socket |",
        "|---|---|---|---|---|",
    ]
    values = {name: _row(delays) for name, delays in figures.items()}
    for label, name in (("a bare server, a loop over all", "bare"), ("the service", "ours")):
        lines.append(f"| {label} | " + " | ".join(f"{each:.1f}" for each in values[name]) + " |")
    ratios = [ours / bare for ours, bare in zip(values["ours"], values["bare"], strict=True)]
    lines.append("| ratio | " + " | ".join(f"{each:.2f}" for each in ratios) + " |")
    return "\n".join(lines)


def _row(delays: Delays) -> list[float]:
    return [
        delays.percentile(50),
        delays.percentile(99),
        median(delays.last),
        delays.cpu_seconds * 1e6 / len(delays.all),
    ]


def _stalled(environment: Mapping[str, str]) -> str:
    """Let some of the sockets read nothing, until all of those have been cut off."""
    # The queue is to decide, and not a ping that nobody answers.
    quiet = {**environment, "WEBSOCKET_PING_SECONDS": "600"}
    with ExitStack() as stack:
        ours = _ours(stack, quiet, _BESIDE, description=_LONG)
        other = _ours(stack, quiet, _BESIDE, description=_LONG)
        _quiet(ours)  # of the other's item it was told, too
        slow = SocketLoad(ours.service.port)
        stack.callback(slow.close)
        slow.open(_STALLED, _tokens(ours.service), small=True)
        alone, beside = Delays(), Delays()
        events, started = 0, time.monotonic()
        while _open_sockets(ours.service) > _BESIDE:
            if time.monotonic() - started > _STALL_SECONDS:
                raise RuntimeError("some who do not read are still there")
            for _ in range(10):
                _delays_of_both((ours, other), (beside, alone))
            events += 10
        slow.order("drain")
        codes = slow.answer()["codes"]
    told = ", ".join(f"{count} by {code}" for code, count in codes.items())
    lines = [
        f"| events of 12 KB to {_BESIDE} sockets of two workers at once | p50 ms | p99 ms"
        " | slowest ms |",
        "|---|---|---|---|",
    ]
    for label, delays in (
        ("where everyone reads", alone),
        (f"where {_STALLED} more do not read: closed after {events} events, {told}", beside),
    ):
        cells = (delays.percentile(50), delays.percentile(99), max(delays.all))
        lines.append(f"| {label} | " + " | ".join(f"{each:.1f}" for each in cells) + " |")
    return "\n".join(lines)


def _delays(target: Target, events: int, sockets: int) -> Delays:
    found = Delays()
    for _ in range(events):
        target.load.order("arrivals", count=sockets, within=_WITHIN)
        cpu, published = target.service.cpu_seconds(), time.monotonic()
        target.publish()
        arrivals = target.load.answer()["arrivals"]
        if len(arrivals) != sockets:
            raise RuntimeError(f"{target.service.name}: {len(arrivals)} of {sockets} arrived")
        found.cpu_seconds += target.service.cpu_seconds() - cpu
        found.all += [(arrival - published) * 1000 for arrival in arrivals]
        found.last.append((max(arrivals) - published) * 1000)
    return found


def _delays_of_both(targets: Sequence[Target], found: Sequence[Delays]) -> None:
    """Send one event to the sockets of several services on one database, at the same time."""
    for target in targets:
        target.load.order("arrivals", count=_BESIDE, within=_WITHIN)
    published = time.monotonic()
    targets[0].publish()
    for target, delays in zip(targets, found, strict=True):
        arrivals = target.load.answer()["arrivals"]
        if len(arrivals) != _BESIDE:
            raise RuntimeError(f"{len(arrivals)} of {_BESIDE} arrived")
        delays.all += [(each - published) * 1000 for each in arrivals]


def _quiet(target: Target) -> None:
    """Let what is under way arrive and be forgotten."""
    target.load.order("idle", seconds=2)
    target.load.answer()


def _sample(ours: Target, sockets: int) -> str:
    """Return an event as it comes."""
    ours.load.order("arrivals", count=sockets, within=_WITHIN)
    ours.publish()
    return str(ours.load.answer()["sample"])


def _ours(
    stack: ExitStack, environment: Mapping[str, str], sockets: int, *, description: str = _SHORT
) -> Target:
    service = stack.enter_context(gunicorn("kingpost", "app.main:app", environment, workers=1))
    load = SocketLoad(service.port)
    stack.callback(load.close)
    headers = _tokens(service)
    load.open(sockets, headers)
    item = {"name": "Oak desk", "price": 349.5, "description": description}
    made = json.loads(_asked(service, "POST", "/api/v1/items", item, headers[0]))
    path = f"/api/v1/items/{made['id']}"

    def publish() -> None:
        _asked(service, "PATCH", path, {"price": time.monotonic_ns() % 100_000 / 100}, headers[0])

    target = Target(service, load, publish)
    _quiet(target)
    return target


def _bare(stack: ExitStack, environment: Mapping[str, str], sockets: int, event: str) -> Target:
    app = "tests.bench.floor:broadcast"
    service = stack.enter_context(gunicorn("bare sockets", app, environment, workers=1))
    load = SocketLoad(service.port)
    stack.callback(load.close)
    load.open(sockets)
    return Target(service, load, lambda: _broadcast(service, event))


def _broadcast(service: Service, event: str) -> None:
    _asked(service, "POST", "/", json.loads(event), {})


def _asked(
    service: Service, method: str, path: str, body: object, headers: Mapping[str, str]
) -> bytes:
    data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    url = f"http://127.0.0.1:{service.port}{path}"
    sent = {"Content-Type": "application/json", **headers}
    with urllib.request.urlopen(urllib.request.Request(url, data, sent, method=method)) as answer:
        return bytes(answer.read())


def _open_sockets(service: Service) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    line = next(line for line in lines if line.startswith("websocket_connections"))
    return int(float(line.split()[-1]))


if __name__ == "__main__":
    main()
