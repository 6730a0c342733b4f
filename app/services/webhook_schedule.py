"""What comes of an attempt to send a webhook: done, once more and when, or never again."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from app.models.webhooks import DeliveryStatus, DisabledReason

# Before the second attempt, the third … (Standard Webhooks): about three days in all.
WAITS = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 5 * 60, 30 * 60, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24)))
)
FAILING_FOR = timedelta(days=5)  # without a single success; then an endpoint is switched off
_JITTER = (1.0, 1.2)  # what failed together does not come back together
_LONGEST_RETRY_AFTER = timedelta(hours=24)
_GONE = 410


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of an attempt."""

    status: DeliveryStatus
    next_attempt_at: datetime | None = None
    disable: DisabledReason | None = None


def judge(
    *,
    status: int | None,
    retry_after: str | None,
    attempt: int,
    failing_since: datetime | None,
    moment: datetime,
    scale: float,
) -> Verdict:
    """Return what comes of the attempt with this number, the first being 1; no status, no answer.

    Only 2xx is success: a redirect is not followed, since it would lead past the owner's word.
    """
    if status is not None and 200 <= status < 300:
        return Verdict(DeliveryStatus.SUCCEEDED)
    if status == _GONE:
        return Verdict(DeliveryStatus.FAILED, disable=DisabledReason.GONE)
    disable = None
    if failing_since is not None and moment - failing_since >= FAILING_FOR * scale:
        disable = DisabledReason.FAILING
    if disable or attempt > len(WAITS):
        return Verdict(DeliveryStatus.FAILED, disable=disable)
    wait = WAITS[attempt - 1] * scale * random.uniform(*_JITTER)  # noqa: S311
    wait = max(wait, asked_wait(retry_after, moment))
    return Verdict(DeliveryStatus.PENDING, next_attempt_at=moment + wait)


def asked_wait(retry_after: str | None, moment: datetime) -> timedelta:
    """Return how long an endpoint asks to be left alone (RFC 9110, 10.2.3), at most a day."""
    if retry_after is None:
        return timedelta()
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return timedelta(seconds=min(int(text[:10]), _LONGEST_RETRY_AFTER.total_seconds()))
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return timedelta()
    wait = until.replace(tzinfo=until.tzinfo or UTC) - moment
    return min(max(wait, timedelta()), _LONGEST_RETRY_AFTER)
