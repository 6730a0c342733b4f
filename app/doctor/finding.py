"""What a check found, and how to mend it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is: `wrong` does harm or will not start, `warning` is meant by few."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's: what was looked at, what is the case, what to do about it."""

    check: str
    verdict: Verdict
    said: str
    mend: str = ""


def ok(check: str, said: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Verdict.OK, said)


def warning(check: str, said: str, mend: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(check, Verdict.WARNING, said, mend)


def wrong(check: str, said: str, mend: str) -> Finding:
    """It must be mended."""
    return Finding(check, Verdict.WRONG, said, mend)
