"""One measurement: load on one server while the kernel counts what its workers spend."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.cases import Case
from tests.bench.load import Generator
from tests.processes import Service


@dataclass(frozen=True)
class Sample:
    """One round of one case on one server."""

    answers: int
    per_second: float
    cpu_us: float  # of the workers, per answer
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Round:
    """The same case on the service and, in the same minute, on its floor."""

    ours: Sample
    floor: Sample | None

    @property
    def answers(self) -> int:
        """Answers of both."""
        return self.ours.answers + (self.floor.answers if self.floor else 0)


def sample(
    service: Service, requests: Sequence[bytes], *, seconds: float, connections: int, status: str
) -> Sample:
    """Return what a load cost.

    Raises:
        RuntimeError: an answer was not the one that the case is about.
    """
    before = service.cpu_seconds()
    outcome = Generator(service.port, requests, seconds=seconds, connections=connections).outcome()
    spent = service.cpu_seconds() - before
    if set(outcome.statuses) != {status}:
        raise RuntimeError(f"{service.name}: wanted {status}, got {outcome.statuses}")
    return Sample(
        outcome.answers,
        outcome.per_second,
        spent / outcome.answers * 1e6,
        outcome.p50 * 1e3,
        outcome.p99 * 1e3,
    )


def one_round(case: Case, service: Service, bare: Service, *, seconds: float) -> Round:
    """Measure a case on the service and on the bare stack, one right after the other."""
    ours = sample(
        service,
        case.requests,
        seconds=seconds,
        connections=case.connections,
        status=case.status,
    )
    floor = None
    if case.floor:
        floor = sample(
            bare, case.floor, seconds=seconds, connections=case.connections, status=case.status
        )
    return Round(ours, floor)


def beside_logins(case: Case, logins: Case, service: Service, *, seconds: float) -> Sample:
    """Measure a case while two clients do nothing but sign in."""
    other = Generator(service.port, logins.requests, seconds=seconds + 1, connections=2)
    measured = sample(service, case.requests, seconds=seconds, connections=8, status=case.status)
    other.outcome()
    return measured
