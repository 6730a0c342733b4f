"""The rules of webhook endpoints: whose they are, where they may go, and sending once more."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from app.adapters.database import Connection, Database
from app.adapters.webhooks import Undeliverable, WebhookSender
from app.clock import now
from app.errors import Conflict, NotFound, Unprocessable
from app.models.audit import AuditKind
from app.models.webhooks import (
    DeliveryStatus,
    DisabledReason,
    Grounds,
    WebhookDelivery,
    WebhookEndpoint,
)
from app.observability.tracing import current_traceparent
from app.repositories.audit import Act, record
from app.repositories.events import EventRepository
from app.repositories.webhook_deliveries import WebhookDeliveryRepository
from app.repositories.webhooks import Recipient, WebhookRepository
from app.schemas.webhooks import TEST_KIND, ReplayIn, WebhookIn, WebhookPatch
from app.security.principal import Principal
from app.security.ssrf import Target, UnsafeTarget, parse_target
from app.security.webhook_signing import new_signing_secret
from app.services.webhook_dispatch import delivery_row, message, rows_for
from app.services.webhook_secrets import WebhookSecrets
from app.settings import Settings

MAX_ENDPOINTS = 20  # of an account
MAX_REPLAYED = 10_000  # deliveries at once
PREVIOUS_SIGNS_FOR = timedelta(hours=24)
OFF = "The endpoint was switched off"


class Webhooks:
    """What accounts do with their endpoints."""

    def __init__(
        self, db: Database, sender: WebhookSender, secrets: WebhookSecrets, settings: Settings
    ) -> None:
        self._db = db
        self._sender = sender
        self._secrets = secrets
        self._allow_http = settings.webhooks_allow_http or not settings.is_production
        self._ports = frozenset(map(int, settings.webhooks_ports))
        self.on_change: Callable[[], None] = lambda: None  # told when there may be work

    def target(self, url: str) -> Target:
        """Return where a URL leads.

        Raises:
            UnsafeTarget: nothing may be sent there.
        """
        return parse_target(url, allow_http=self._allow_http, allowed_ports=self._ports)

    async def create(self, owner: Principal, body: WebhookIn) -> tuple[WebhookEndpoint, str]:
        """Add an endpoint; return it and its secret, which is not shown again.

        Raises:
            Unprocessable: the URL leads where nothing may be sent.
            Conflict: the account has as many as it may have.
        """
        url = await self._checked(body.url)
        secret = new_signing_secret()
        values = {
            "url": url,
            "events": body.events,
            "secret": self._secrets.seal(owner.user_id, secret),
            **_switched(is_active=body.is_active),
        }
        async with self._db.transaction() as connection:
            repository = WebhookRepository(connection)
            if await repository.count_locked(owner.user_id) >= MAX_ENDPOINTS:
                raise Conflict(f"An account has at most {MAX_ENDPOINTS} webhooks")
            created = await repository.add(owner.user_id, values)
            await record(connection, _act(AuditKind.WEBHOOK_CREATED, created.id, url=url))
        self.on_change()
        return created, secret

    async def of(self, owner: Principal) -> list[WebhookEndpoint]:
        """Return the account's endpoints."""
        async with self._db.read() as connection:
            return await WebhookRepository(connection).of_owner(owner.user_id)

    async def get(self, endpoint_id: int, owner: Principal) -> WebhookEndpoint:
        """Return an endpoint.

        Raises:
            NotFound: there is none of this account.
        """
        async with self._db.read() as connection:
            return await _own(connection, endpoint_id, owner)

    async def change(
        self, endpoint_id: int, owner: Principal, patch: WebhookPatch
    ) -> WebhookEndpoint:
        """Change an endpoint; switched off, what waited for it is cancelled.

        Raises:
            NotFound: there is none of this account.
            Unprocessable: a field cannot be removed, or the URL leads where nothing may be sent.
        """
        values = patch.model_dump(exclude_unset=True)
        for field, value in values.items():
            if value is None:
                raise Unprocessable.field(field, "It cannot be removed")
        before = await self.get(endpoint_id, owner)
        if "url" in values:
            values["url"] = await self._checked(values["url"])
        if values.get("is_active", before.is_active) == before.is_active:
            values.pop("is_active", None)
        else:
            values |= _switched(is_active=values["is_active"])
        if not values:
            return before
        async with self._db.transaction() as connection:
            changed = await WebhookRepository(connection).change(endpoint_id, owner.user_id, values)
            if changed is None:
                raise NotFound(_NO_ENDPOINT)
            told = {key: values[key] for key in ("url", "is_active") if key in values}
            await record(connection, _act(AuditKind.WEBHOOK_CHANGED, endpoint_id, **told))
            if not changed.is_active:
                await WebhookDeliveryRepository(connection).cancel_pending(endpoint_id, OFF)
        self.on_change()
        return changed

    async def delete(self, endpoint_id: int, owner: Principal) -> None:
        """Delete an endpoint with its log.

        Raises:
            NotFound: there is none of this account.
        """
        async with self._db.transaction() as connection:
            if not await WebhookRepository(connection).delete(endpoint_id, owner.user_id):
                raise NotFound(_NO_ENDPOINT)
            await record(connection, _act(AuditKind.WEBHOOK_DELETED, endpoint_id))

    async def rotate(self, endpoint_id: int, owner: Principal) -> tuple[str, datetime]:
        """Give an endpoint a new secret; return it, and until when the old one signs too.

        Raises:
            NotFound: there is none of this account.
        """
        secret = new_signing_secret()
        expires_at = now() + PREVIOUS_SIGNS_FOR
        sealed = self._secrets.seal(owner.user_id, secret)
        async with self._db.transaction() as connection:
            repository = WebhookRepository(connection)
            if not await repository.rotate(endpoint_id, owner.user_id, sealed, expires_at):
                raise NotFound(_NO_ENDPOINT)
            await record(connection, _act(AuditKind.WEBHOOK_ROTATED, endpoint_id))
        return secret, expires_at

    async def test(self, endpoint_id: int, owner: Principal) -> WebhookDelivery:
        """Send a message that says that it is a test.

        Raises:
            NotFound: there is none of this account.
            Conflict: the endpoint is off.
        """
        moment = now()
        subject = f"webhook:{endpoint_id}"
        body = message(
            kind=TEST_KIND,
            timestamp=moment,
            message_id=f"test_{uuid4().hex}",
            subject=subject,
            data={"id": endpoint_id, "note": "This is a test; nothing has happened."},
        )
        async with self._db.transaction() as connection:
            await _own_active(connection, endpoint_id, owner)
            row = delivery_row(
                endpoint_id, body, Grounds.OWN, moment, traceparent=current_traceparent()
            )
            delivery = await WebhookDeliveryRepository(connection).add_one(row)
        self.on_change()
        return delivery

    async def retry(self, delivery_id: int, owner: Principal) -> WebhookDelivery:
        """Send a delivery again, now.

        Raises:
            NotFound: there is none of this account.
            Conflict: its endpoint is off.
        """
        async with self._db.transaction() as connection:
            repository = WebhookDeliveryRepository(connection)
            delivery = await repository.get(delivery_id, owner.user_id)
            if delivery is None:
                raise NotFound(_NO_DELIVERY)
            await _own_active(connection, delivery.endpoint_id, owner)
            delivery = await repository.send_again(delivery)
        self.on_change()
        return delivery

    async def replay(self, endpoint_id: int, owner: Principal, body: ReplayIn) -> int:
        """Send all events of a time again, also those that were never sent; return how many.

        Raises:
            NotFound: there is none of this account.
            Conflict: the endpoint is off.
            Unprocessable: the time is not one, or has too many events.
        """
        since, until = body.since, body.until or now()
        if since >= until:
            raise Unprocessable.field("until", "It must be later than since")
        async with self._db.transaction() as connection:
            endpoint = await _own_active(connection, endpoint_id, owner)
            roles = sorted(role.value for role in owner.roles)
            recipient = Recipient(endpoint.id, endpoint.owner_id, endpoint.events, 0, roles)
            found = await EventRepository(connection).between(
                since,
                until,
                kinds=endpoint.events,
                of_owner=None if owner.is_admin else owner.user_id,
                limit=MAX_REPLAYED + 1,
            )
            repository = WebhookDeliveryRepository(connection)
            known = await repository.count_between(endpoint, since, until)
            if len(found) + known > MAX_REPLAYED:
                raise Unprocessable.field(
                    "since", f"It has more than {MAX_REPLAYED} events; take a shorter time"
                )
            queued = await repository.send_all_again(endpoint, since, until)
            rows = [row for event in found for row in rows_for(event, [recipient])]
            queued += await repository.add(rows)
        self.on_change()
        return queued

    async def deliveries(
        self,
        endpoint_id: int,
        owner: Principal,
        status: DeliveryStatus | None,
        *,
        skip: int,
        limit: int,
    ) -> tuple[list[WebhookDelivery], int]:
        """Return a page of the log and how many it has.

        Raises:
            NotFound: there is no such endpoint of this account.
        """
        async with self._db.read() as connection:
            await _own(connection, endpoint_id, owner)
            repository = WebhookDeliveryRepository(connection)
            found = await repository.page(endpoint_id, status, skip=skip, limit=limit)
            return found, await repository.count(endpoint_id, status)

    async def deliveries_before(
        self,
        endpoint_id: int,
        owner: Principal,
        status: DeliveryStatus | None,
        *,
        before_id: int | None,
        limit: int,
    ) -> list[WebhookDelivery]:
        """Return the deliveries before one.

        Raises:
            NotFound: there is no such endpoint of this account.
        """
        async with self._db.read() as connection:
            await _own(connection, endpoint_id, owner)
            return await WebhookDeliveryRepository(connection).page(
                endpoint_id, status, before_id=before_id, limit=limit
            )

    async def delivery(self, delivery_id: int, owner: Principal) -> WebhookDelivery:
        """Return a delivery.

        Raises:
            NotFound: there is none of this account.
        """
        async with self._db.read() as connection:
            found = await WebhookDeliveryRepository(connection).get(delivery_id, owner.user_id)
        if found is None:
            raise NotFound(_NO_DELIVERY)
        return found

    async def _checked(self, url: str) -> str:
        """Return a URL in its one spelling, if everything that it stands for may be sent to."""
        try:
            target = self.target(url)
            await self._sender.addresses(target.host, target.port)
        except (UnsafeTarget, Undeliverable) as error:
            raise Unprocessable.field("url", str(error)) from error
        return target.url


_NO_ENDPOINT = "There is no such webhook"
_NO_DELIVERY = "There is no such delivery"


def _act(kind: AuditKind, endpoint_id: int, **detail: Any) -> Act:
    return Act(kind, "webhook", endpoint_id, detail=detail)


def _switched(*, is_active: bool) -> dict[str, Any]:
    """Return the columns of an endpoint that its owner switches on or off."""
    return {
        "is_active": is_active,
        "disabled_at": None if is_active else now(),
        "disabled_reason": None if is_active else DisabledReason.OWNER.value,
        "failing_since": None,
    }


async def _own(connection: Connection, endpoint_id: int, owner: Principal) -> WebhookEndpoint:
    endpoint = await WebhookRepository(connection).get(endpoint_id, owner.user_id)
    if endpoint is None:
        raise NotFound(_NO_ENDPOINT)
    return endpoint


async def _own_active(
    connection: Connection, endpoint_id: int, owner: Principal
) -> WebhookEndpoint:
    endpoint = await WebhookRepository(connection).get(endpoint_id, owner.user_id, hold=True)
    if endpoint is None:
        raise NotFound(_NO_ENDPOINT)
    if not endpoint.is_active:
        raise Conflict("The webhook is off; switch it on first")
    return endpoint
