"""Forgets what has had its time: events, answers, sign-ins, sessions, deleted items, audit."""

from datetime import timedelta

from app.adapters.database import Database
from app.clock import now
from app.repositories.audit import AuditRepository
from app.repositories.email_changes import EmailChangeRepository
from app.repositories.events import EventRepository
from app.repositories.idempotency import IdempotencyRepository
from app.repositories.items import RESTORABLE_FOR, ItemRepository
from app.repositories.jobs import JobRepository
from app.repositories.login_failures import LoginFailureRepository
from app.repositories.one_time_tokens import OneTimeTokenRepository
from app.repositories.second_factor import SecondFactorRepository
from app.repositories.sessions import SessionRepository
from app.repositories.webhook_deliveries import WebhookDeliveryRepository

ANSWERS_KEPT_FOR = timedelta(hours=24)
_FAILURES_KEPT_FOR = timedelta(days=1)
_SESSIONS_KEPT_FOR = timedelta(days=30)  # they tell which places an account is used from
_DELIVERIES_KEPT_FOR = timedelta(days=15)  # longer than one is tried for
_JOBS_KEPT_FOR = timedelta(days=7)
_FAILED_JOBS_KEPT_FOR = timedelta(days=30)  # dead letters: time to look and to retry


async def sweep(
    db: Database, events_kept_for: timedelta, audit_kept_for: timedelta
) -> dict[str, int]:
    """Delete what is older than it is kept; return how many rows of each kind went."""
    moment = now()
    gone: dict[str, int] = {}
    async with db.transaction() as connection:
        gone["events"] = await EventRepository(connection).delete_before(moment - events_kept_for)
    async with db.transaction() as connection:
        answers = IdempotencyRepository(connection)
        gone["answers"] = await answers.delete_before(moment - ANSWERS_KEPT_FOR)
    async with db.transaction() as connection:
        failures = LoginFailureRepository(connection)
        gone["failures"] = await failures.delete_before(moment - _FAILURES_KEPT_FOR)
    async with db.transaction() as connection:
        sessions = SessionRepository(connection)
        gone["sessions"] = await sessions.delete_unused_since(moment - _SESSIONS_KEPT_FOR)
        tokens = OneTimeTokenRepository(connection)
        gone["tokens"] = await tokens.delete_before(moment)
        factors = SecondFactorRepository(connection)
        gone["tokens"] += await factors.delete_challenges_before(moment)
        gone["email_changes"] = await EmailChangeRepository(connection).delete_before(moment)
    async with db.transaction() as connection:
        gone["items"] = await ItemRepository(connection).purge(moment - RESTORABLE_FOR)
        # A request or import may have asked who comes just before the account was deleted.
        gone["ownerless"] = await ItemRepository(connection).delete_ownerless()
    async with db.transaction() as connection:
        gone["audit"] = await AuditRepository(connection).delete_before(moment - audit_kept_for)
    async with db.transaction() as connection:
        deliveries = WebhookDeliveryRepository(connection)
        gone["deliveries"] = await deliveries.delete_before(moment - _DELIVERIES_KEPT_FOR)
    async with db.transaction() as connection:
        gone["jobs"] = await JobRepository(connection).delete_finished(
            before=moment - _JOBS_KEPT_FOR, failed_before=moment - _FAILED_JOBS_KEPT_FOR
        )
    return gone
