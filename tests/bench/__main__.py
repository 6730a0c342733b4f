"""`make bench`: the service as production runs it, beside its floors, in interleaved rounds.

`ARGS=--quick` takes 40 s and writes nothing.
"""

import argparse
import os
import secrets
import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.backends import fresh_database
from tests.bench import report, sockets
from tests.bench.cases import ITEMS, USERS, Case, cases
from tests.bench.measure import Round, beside_logins, one_round, sample
from tests.processes import Service, gunicorn
from tests.services import find_postgres, find_redis, start_postgres, start_redis


def main() -> None:
    """Start everything, measure, report."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds, nothing written")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    rounds, seconds = (2, 0.5) if options.quick else (5, 1.5)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        service, bare, hello = _start(stack)
        known = cases(service)
        chosen = [case for case in known if options.only in case.name]
        figures = _measure(chosen, service, bare, rounds=rounds, seconds=seconds)
        text = "\n\n".join(
            [
                f"Measured {report.machine(load, _servers())}",
                report.table(chosen, figures),
                _further(known, service, hello, seconds=seconds),
            ]
        )
    print(text)
    if not (options.quick or options.only):
        report.write(text)


def _servers() -> list[str]:
    """Return the names and versions of PostgreSQL and Redis, as their programs give them."""
    postgres = _said_by(find_postgres() / "postgres", "--version").split()[2]
    redis = _said_by(find_redis(), "--version").partition("v=")[2].split()[0]
    return [f"PostgreSQL {postgres}", f"Redis {redis}"]


def _said_by(program: Path, question: str) -> str:
    command = [str(program), question]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _start(stack: ExitStack) -> tuple[Service, Service, Service]:
    postgres, redis = start_postgres(), start_redis()
    stack.callback(postgres.stop)
    stack.callback(redis.stop)
    environment = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DATABASE_URL": stack.enter_context(fresh_database(postgres.url)),
        "REDIS_URL": redis.url,
        "LOG_FORMAT": "json",
        # On, and counted, but never reached.
        "RATE_LIMIT_DEFAULT": "100000000/minute",
        "RATE_LIMIT_LOGIN": "1000000/minute",
    }
    for command in (("migrate",), ("seed", "--users", str(USERS), "--items", str(ITEMS))):
        subprocess.run(
            [sys.executable, "-m", "app.cli", *command],
            env={**os.environ, **environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    ours = stack.enter_context(gunicorn("kingpost", "app.main:app", environment))
    bare = stack.enter_context(gunicorn("bare", "tests.bench.floor:bare", environment))
    hello = stack.enter_context(gunicorn("hello", "tests.bench.floor:hello", environment))
    return ours, bare, hello


def _measure(
    chosen: list[Case], service: Service, bare: Service, *, rounds: int, seconds: float
) -> dict[str, list[Round]]:
    figures: dict[str, list[Round]] = defaultdict(list)
    for number in range(rounds):
        for case in chosen:
            print(f"round {number + 1}/{rounds}: {case.name}", file=sys.stderr)
            figures[case.name].append(one_round(case, service, bare, seconds=seconds))
    return figures


def _further(known: list[Case], service: Service, hello: Service, *, seconds: float) -> str:
    """Return what is no request's cost: start, memory, sockets, and company during sign-ins."""
    by_name = {case.name: case for case in known}
    reads, logins = by_name["GET item, signed in"], by_name["login (4 connections)"]
    company = [beside_logins(reads, logins, service, seconds=seconds) for _ in range(3)]
    raw = sample(hello, by_name["live"].requests, seconds=seconds, connections=16, status="200")
    memory = service.memory()
    return "\n".join(
        [
            "| beside that | measured | first landing |",
            "|---|---|---|",
            f"| raw ASGI hello, CPU | {raw.cpu_us:,.0f} µs | – |",
            f"| GET item's p99 during 2 logins at once"
            f" | {median(each.p99_ms for each in company):.1f} ms | ≤ 12 ms |",
            f"| start to the first 200 (2 workers) | {service.start_seconds:.2f} s | ≤ 1.0 s |",
            f"| memory of a worker after the load | {max(memory):.0f} MB | ≤ 105 MB |",
            f"| an idle WebSocket, signed in | {sockets.idle_memory(service):.0f} KiB | ≤ 48 KiB |",
        ]
    )


if __name__ == "__main__":
    main()
