"""`make bench`: the service as production runs it, beside its floors, in interleaved rounds.

`ARGS=--quick` takes 40 s and writes nothing.
"""

import argparse
import os
import sys
from collections import defaultdict
from contextlib import ExitStack
from statistics import median

from tests.bench import report, sockets, stand
from tests.bench.cases import Case, cases
from tests.bench.measure import Round, beside_logins, one_round, sample
from tests.bench.stand import Stand


def main() -> None:
    """Start everything, measure, report."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds, nothing written")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    rounds, seconds = (2, 0.5) if options.quick else (5, 1.5)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        on = stand.build(stack)
        known = cases(on.ours)
        chosen = [case for case in known if options.only in case.name]
        figures = _measure(chosen, on, rounds=rounds, seconds=seconds)
        text = "\n\n".join(
            [
                f"Measured {report.machine(load, stand.servers())}",
                report.table(chosen, figures),
                _further(known, on, seconds=seconds),
            ]
        )
    print(text)
    if not (options.quick or options.only):
        report.write(text)


def _measure(
    chosen: list[Case], on: Stand, *, rounds: int, seconds: float
) -> dict[str, list[Round]]:
    figures: dict[str, list[Round]] = defaultdict(list)
    for number in range(rounds):
        for case in chosen:
            print(f"round {number + 1}/{rounds}: {case.name}", file=sys.stderr)
            measured = one_round(case, on.ours, on.bare, seconds=seconds)
            figures[case.name].append(measured)
            if case.adds_items and (created := on.restore()) != measured.answers:
                raise RuntimeError(f"{case.name}: {measured.answers} answers, {created} items")
    return figures


def _further(known: list[Case], on: Stand, *, seconds: float) -> str:
    """Return what is no request's cost: start, memory, sockets, and company during sign-ins."""
    by_name = {case.name: case for case in known}
    reads, logins = by_name["GET item, signed in"], by_name["login (4 connections)"]
    company = [beside_logins(reads, logins, on.ours, seconds=seconds) for _ in range(3)]
    raw = sample(on.hello, by_name["live"].requests, seconds=seconds, connections=16, status="200")
    memory = on.ours.memory()
    return "\n".join(
        [
            "| beside that | measured | first landing |",
            "|---|---|---|",
            f"| raw ASGI hello, CPU | {raw.cpu_us:,.0f} µs | – |",
            f"| GET item's p99 during 2 logins at once"
            f" | {median(each.p99_ms for each in company):.1f} ms | ≤ 12 ms |",
            f"| start to the first 200 (2 workers) | {stand.start_seconds(on):.2f} s | ≤ 1.0 s |",
            f"| memory of a worker after the load | {max(memory):.0f} MB | ≤ 105 MB |",
            f"| an idle WebSocket, signed in | {sockets.idle_memory(on.ours):.0f} KiB | ≤ 48 KiB |",
        ]
    )


if __name__ == "__main__":
    main()
