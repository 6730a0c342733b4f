"""What comes of an attempt: waits that grow, what an endpoint asks for, and giving up."""

from datetime import UTC, datetime, timedelta

import pytest

from app.models.webhooks import DeliveryStatus, DisabledReason
from app.services.webhook_schedule import WAITS, Verdict, asked_wait, judge

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def judged(
    status: int | None = 500,
    *,
    attempt: int = 1,
    retry_after: str | None = None,
    failing_since: datetime | None = None,
    scale: float = 1.0,
) -> Verdict:
    return judge(
        status=status,
        retry_after=retry_after,
        attempt=attempt,
        failing_since=failing_since,
        moment=NOON,
        scale=scale,
    )


def wait_of(verdict: Verdict) -> timedelta:
    assert verdict.status is DeliveryStatus.PENDING
    assert verdict.next_attempt_at
    return verdict.next_attempt_at - NOON


def test_the_waits_are_those_of_standard_webhooks_with_jitter() -> None:
    seconds = [wait.total_seconds() for wait in WAITS]
    assert seconds == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    for attempt, wait in enumerate(WAITS, 1):
        found = {wait_of(judged(attempt=attempt)) for _ in range(20)}
        assert len(found) > 1
        assert all(wait <= each <= wait * 1.2 for each in found)


def test_the_waits_can_be_scaled_for_tests() -> None:
    assert wait_of(judged(scale=0.001)) < timedelta(seconds=0.01)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_success(status: int) -> None:
    assert judged(status) == Verdict(DeliveryStatus.SUCCEEDED)


@pytest.mark.parametrize("status", [None, 100, 301, 302, 307, 308, 400, 404, 429, 500, 503])
def test_everything_else_is_tried_again(status: int | None) -> None:
    assert judged(status).status is DeliveryStatus.PENDING


def test_after_the_last_wait_it_is_given_up() -> None:
    assert judged(attempt=len(WAITS)).status is DeliveryStatus.PENDING
    assert judged(attempt=len(WAITS) + 1) == Verdict(DeliveryStatus.FAILED)


def test_410_switches_the_endpoint_off_at_once() -> None:
    assert judged(410) == Verdict(DeliveryStatus.FAILED, disable=DisabledReason.GONE)


def test_five_days_of_failure_switch_the_endpoint_off() -> None:
    almost, past = NOON - timedelta(days=4, hours=23), NOON - timedelta(days=5)
    assert judged(failing_since=almost).disable is None
    assert judged(failing_since=past).disable is DisabledReason.FAILING
    assert judged(200, failing_since=past).disable is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("120", 120),
        (" 120 ", 120),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("٣", 0),
        ("999999999999999999999", 86400),
        ("Sat, 21 Nov 2026 12:10:00 GMT", 600),
        ("Sat, 21 Nov 2026 11:10:00 GMT", 0),
        ("Sat, 21 Nov 2099 11:10:00 GMT", 86400),
        ("Sat, 21 Nov 2026 12:10:00", 600),
        ("Sat, 99 Nov 2026 12:10:00 GMT", 0),
    ],
)
def test_retry_after_is_honoured_for_at_most_a_day(text: str | None, seconds: int) -> None:
    assert asked_wait(text, NOON) == timedelta(seconds=seconds)


def test_retry_after_makes_the_wait_longer_and_never_shorter() -> None:
    assert wait_of(judged(503, retry_after="120")) == timedelta(seconds=120)
    assert wait_of(judged(503, attempt=3, retry_after="1")) >= timedelta(minutes=30)
