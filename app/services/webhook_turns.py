"""A turn: one process sends one endpoint what is due, two at a time and in order per subject.

The endpoint is leased, so that however many processes there are, nobody else sends to it; a
process that dies loses its lease, and what it had not settled is sent again by another.
"""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from app.adapters.database import Connection, Database
from app.adapters.webhooks import Answer, Undeliverable, WebhookSender
from app.clock import now
from app.errors import DomainError
from app.mail.letters import Letter
from app.models.webhooks import (
    DeliveryStatus,
    DisabledReason,
    Grounds,
    WebhookDelivery,
    WebhookEndpoint,
)
from app.observability.metrics import Metrics
from app.repositories.users import UserRepository
from app.repositories.webhook_deliveries import Due, WebhookDeliveryRepository
from app.repositories.webhooks import WebhookRepository
from app.security.principal import Role
from app.security.sealing import Unsealable
from app.security.ssrf import UnsafeTarget
from app.security.webhook_signing import signed_headers
from app.services.post import Post, said_time
from app.services.webhook_schedule import Verdict, judge
from app.services.webhook_secrets import WebhookSecrets
from app.services.webhooks import OFF, Webhooks
from app.settings import Settings
from app.version import VERSION

logger = logging.getLogger(__name__)

AT_ONCE = 2  # messages on their way to one endpoint
PATIENCE = 3  # attempts for which what follows of the same subject waits
_HEARTBEATS = 3  # in a lease
_LONGEST_TURN = 30.0  # seconds, then others may have theirs
_BATCH = 100
_RELEASE_SECONDS = 1.0
_SAID = {
    DisabledReason.GONE: "it answered that it is gone for good (410)",
    DisabledReason.FAILING: "for five days it has not taken a single message",
}
_NOT_ALLOWED = "The endpoint's owner may not read this any more"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was sent, what came back and how long that took."""

    headers: dict[str, str]
    answer: Answer | None
    error: str | None
    seconds: float


class WebhookTurns:
    """Sends what is due to endpoints that this process has leased."""

    def __init__(
        self,
        db: Database,
        webhooks: Webhooks,
        secrets: WebhookSecrets,
        sender: WebhookSender,
        post: Post,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._db = db
        self._webhooks = webhooks
        self._secrets = secrets
        self._sender = sender
        self._post = post
        self._metrics = metrics
        self._lease = timedelta(seconds=settings.job_lease_seconds)
        self._wait_scale = settings.webhooks_wait_scale
        self.process = token_hex(8)

    async def lease(self, *, failing: bool, limit: int) -> list[WebhookEndpoint]:
        """Take endpoints that have something due."""
        if limit <= 0:
            return []
        async with self._db.transaction() as connection:
            return await WebhookRepository(connection).lease(
                self.process, now() + self._lease, failing=failing, limit=limit
            )

    async def take(self, endpoint: WebhookEndpoint) -> None:
        """Send an endpoint what is due, and give its lease back.

        One that cannot be served keeps it to its end: taken again at once, it would fill the log.
        """
        is_broken = False
        try:
            await self._send_what_is_due(endpoint)
        except* DomainError:
            logger.warning("webhook %d waits: the database is away", endpoint.id)
        except* Exception:
            logger.exception("webhook %d could not be served", endpoint.id)
            is_broken = True
        finally:
            if not is_broken:
                await self._release(endpoint)

    async def _release(self, endpoint: WebhookEndpoint) -> None:
        """Let others have it at once; where that fails, they have it when the lease is over."""
        with contextlib.suppress(DomainError, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS), self._db.transaction() as connection:
                await WebhookRepository(connection).release(endpoint.id, self.process)

    async def _send_what_is_due(self, endpoint: WebhookEndpoint) -> None:
        turn = _Turn(self, endpoint, time.monotonic() + _LONGEST_TURN)
        async with asyncio.TaskGroup() as beside, await self._sender.connection() as connection:
            heart = beside.create_task(self._keep_lease(turn))
            while not turn.is_over:
                due, roles = await self._due(endpoint)
                if not due:
                    break
                if roles is None or not endpoint.is_active:
                    await self._cancel(endpoint)
                    break
                await turn.run(connection, due, is_admin=Role.ADMIN.value in roles)
            heart.cancel()

    async def _keep_lease(self, turn: "_Turn") -> None:
        """Extend the lease until cancelled; where it was lost, end the turn."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / _HEARTBEATS)
            with contextlib.suppress(DomainError):  # away for a moment; the lease lasts longer
                async with self._db.transaction() as connection:
                    is_ours = await WebhookRepository(connection).keep_lease(
                        turn.endpoint.id, self.process, now() + self._lease, {}
                    )
                if not is_ours:
                    turn.end()

    async def _due(self, endpoint: WebhookEndpoint) -> tuple[list[Due], list[str] | None]:
        async with self._db.read() as connection:
            repository = WebhookDeliveryRepository(connection)
            due = await repository.due(endpoint.id, patience=PATIENCE, limit=_BATCH)
            roles = await WebhookRepository(connection).roles_of_active(endpoint.owner_id)
        return due, roles

    async def _cancel(self, endpoint: WebhookEndpoint) -> None:
        async with self._db.transaction() as connection:
            await WebhookDeliveryRepository(connection).cancel_pending(endpoint.id, OFF)

    async def withhold(self, delivery: WebhookDelivery) -> None:
        """Never send what the owner may not read any more."""
        values = {
            "status": DeliveryStatus.CANCELLED.value,
            "next_attempt_at": None,
            "error": _NOT_ALLOWED,
        }
        self._metrics.webhook_attempts.labels(DeliveryStatus.CANCELLED.value).inc()
        async with self._db.transaction() as connection:
            await WebhookDeliveryRepository(connection).settle(delivery, values)

    async def attempt(
        self, connection: Any, endpoint: WebhookEndpoint, delivery: WebhookDelivery
    ) -> Attempt:
        """Send a delivery once."""
        body = delivery.payload.encode()
        headers: dict[str, str] = {}
        answer, error = None, None
        started_at = time.monotonic()
        try:
            target = self._webhooks.target(endpoint.url)
            headers = {
                "Content-Type": "application/json",
                "User-Agent": f"Kingpost-Webhooks/{VERSION}",
                **signed_headers(
                    delivery.message_id,
                    int(now().timestamp()),
                    body,
                    self._secrets.signing(endpoint),
                ),
            }
            answer = await self._sender.post(
                connection, target, headers, body, traceparent=delivery.traceparent
            )
        except (UnsafeTarget, Undeliverable) as refusal:
            error = str(refusal)
        except Unsealable:
            error = "Its secret cannot be read any more; rotate it"
        seconds = time.monotonic() - started_at
        self._metrics.webhook_duration.observe(seconds)
        if answer is not None and not 200 <= answer.status < 300:
            error = f"It answered {answer.status}"
        return Attempt(headers, answer, error, seconds)

    async def settle(
        self, endpoint: WebhookEndpoint, delivery: WebhookDelivery, made: Attempt
    ) -> tuple[Verdict, WebhookEndpoint, bool]:
        """Note what an attempt gave; return what comes of it, and whether we may go on."""
        moment = now()
        verdict = judge(
            status=made.answer.status if made.answer else None,
            retry_after=made.answer.retry_after if made.answer else None,
            attempt=delivery.attempt + 1,
            failing_since=endpoint.failing_since,
            moment=moment,
            scale=self._wait_scale,
        )
        is_good = verdict.status is DeliveryStatus.SUCCEEDED
        failing_since = None if is_good else endpoint.failing_since or moment
        async with self._db.transaction() as connection:
            deliveries, webhooks = (
                WebhookDeliveryRepository(connection),
                WebhookRepository(connection),
            )
            # The endpoint first, as whoever deletes it does: else each could wait for the other.
            is_ours = await webhooks.keep_lease(
                endpoint.id, self.process, moment + self._lease, {"failing_since": failing_since}
            )
            if verdict.disable is not None:
                await self._switch_off(connection, endpoint, verdict.disable)
            await deliveries.settle(delivery, _columns(delivery, made, verdict))
            if verdict.disable is not None:
                await deliveries.cancel_pending(endpoint.id, OFF)
        outcome = "retried" if verdict.status is DeliveryStatus.PENDING else verdict.status.value
        self._metrics.webhook_attempts.labels(outcome).inc()
        may_go_on = is_ours and verdict.disable is None
        return verdict, endpoint._replace(failing_since=failing_since), may_go_on

    async def _switch_off(
        self, connection: Connection, endpoint: WebhookEndpoint, reason: DisabledReason
    ) -> None:
        """Switch an endpoint off, and write to its owner."""
        if not await WebhookRepository(connection).disable(endpoint, reason):
            return
        owner = await UserRepository(connection).get(endpoint.owner_id)
        if owner is not None:
            await self._post.put(
                connection,
                Letter.WEBHOOK_DISABLED,
                owner.email,
                host=urlsplit(endpoint.url).netloc,  # its path may be a secret
                reason=_SAID[reason],
                number=str(endpoint.id),
                time=said_time(),
            )


class _Turn:
    """The state of a turn: the endpoint as it is by now, and whether it is over."""

    def __init__(self, turns: WebhookTurns, endpoint: WebhookEndpoint, ends_at: float) -> None:
        self._turns = turns
        self._ends_at = ends_at
        self.endpoint = endpoint

    @property
    def is_over(self) -> bool:
        """True once no further message may be begun."""
        return time.monotonic() >= self._ends_at

    def end(self) -> None:
        """Begin no further message."""
        self._ends_at = 0.0

    async def run(self, connection: Any, due: Sequence[Due], *, is_admin: bool) -> None:
        """Send a batch, each subject's messages one after the other."""
        chains: defaultdict[str, deque[Due]] = defaultdict(deque)
        for each in due:
            chains[each.delivery.subject].append(each)
        waiting = deque(chains.values())
        async with asyncio.TaskGroup() as runners:
            for _ in range(AT_ONCE):
                runners.create_task(self._run_chains(connection, waiting, is_admin=is_admin))

    async def _run_chains(
        self, connection: Any, waiting: deque[deque[Due]], *, is_admin: bool
    ) -> None:
        while waiting:
            chain = waiting.popleft()
            while chain and not self.is_over:
                due = chain.popleft()
                if not _may_have(due, is_admin=is_admin):
                    await self._turns.withhold(due.delivery)
                elif not await self._send(connection, due.delivery):
                    break  # what follows of this subject waits

    async def _send(self, connection: Any, delivery: WebhookDelivery) -> bool:
        """Send one message; tell whether what follows of its subject may go now."""
        made = await self._turns.attempt(connection, self.endpoint, delivery)
        verdict, self.endpoint, may_go_on = await self._turns.settle(self.endpoint, delivery, made)
        if not may_go_on:
            self.end()
        return verdict.status is not DeliveryStatus.PENDING or delivery.attempt + 1 >= PATIENCE


def _may_have(due: Due, *, is_admin: bool) -> bool:
    match due.delivery.grounds:
        case Grounds.PUBLIC:
            return due.is_public or is_admin
        case Grounds.ADMIN:
            return is_admin
        case _:
            return True


def _columns(delivery: WebhookDelivery, made: Attempt, verdict: Verdict) -> dict[str, Any]:
    return {
        "status": verdict.status.value,
        "attempt": delivery.attempt + 1,
        "next_attempt_at": verdict.next_attempt_at,
        "attempted_at": now(),
        "request_headers": made.headers,
        "response_status": made.answer.status if made.answer else None,
        "response_body": made.answer.body if made.answer else None,
        "duration_ms": int(made.seconds * 1000),
        "error": made.error,
    }
