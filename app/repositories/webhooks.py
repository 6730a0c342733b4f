"""All SQL of webhook endpoints, and of how far the outbox was read for them."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.events import outbox
from app.events.outbox import EventDraft
from app.models.events import Audience, EventKind, events
from app.models.users import users
from app.models.webhooks import (
    DeliveryStatus,
    DisabledReason,
    WebhookEndpoint,
    webhook_deliveries,
    webhook_endpoints,
    webhook_position,
)
from app.security.principal import Role

_COLUMNS = webhook_endpoints.c


def _head() -> Any:
    return select(func.coalesce(func.max(events.c.id), 0)).scalar_subquery()


# Asked every second, and with each event: building a statement costs more than running it.
_STANDING = select(
    select(webhook_position.c.event_id).scalar_subquery(),
    _head(),
    select(func.min(_COLUMNS.after_event_id)).where(_COLUMNS.is_active).scalar_subquery(),
    select(func.min(webhook_deliveries.c.next_attempt_at))
    .where(webhook_deliveries.c.status == DeliveryStatus.PENDING.value)
    .scalar_subquery(),
)


class Standing(NamedTuple):
    """How far everything is: what the loop decides by, read in one statement."""

    position: int
    head: int
    wanted_after: int | None  # the lowest place of an active endpoint; None where there is none
    next_attempt_at: datetime | None

    @property
    def is_behind(self) -> bool:
        """True where there are events that an endpoint may want."""
        return self.wanted_after is not None and max(self.position, self.wanted_after) < self.head


class Recipient(NamedTuple):
    """An active endpoint, as far as it matters which events it gets."""

    id: int
    owner_id: int
    events: list[str]
    after_event_id: int
    roles: list[str]

    @property
    def is_admin(self) -> bool:
        """True where its owner may read what is everybody's."""
        return Role.ADMIN.value in self.roles


class WebhookRepository:
    """Webhook endpoints, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(
        self, endpoint_id: int, owner_id: int, *, hold: bool = False
    ) -> WebhookEndpoint | None:
        """Return an endpoint of an account, or None; held, it cannot be deleted meanwhile."""
        statement = select(webhook_endpoints).where(
            _COLUMNS.id == endpoint_id, _COLUMNS.owner_id == owner_id
        )
        if hold:
            statement = statement.with_for_update(read=True, key_share=True)
        row = (await self._connection.execute(statement)).first()
        return WebhookEndpoint._make(row) if row else None

    async def of_owner(self, owner_id: int) -> list[WebhookEndpoint]:
        """Return all endpoints of an account, the oldest first."""
        statement = (
            select(webhook_endpoints).where(_COLUMNS.owner_id == owner_id).order_by(_COLUMNS.id)
        )
        return [WebhookEndpoint._make(row) for row in await self._connection.execute(statement)]

    async def count_locked(self, owner_id: int) -> int:
        """Return how many endpoints an account has; nobody adds one until the transaction ends."""
        lock = select(users.c.id).where(users.c.id == owner_id).with_for_update(key_share=True)
        await self._connection.execute(lock)
        statement = select(func.count()).where(_COLUMNS.owner_id == owner_id)
        count: int = (await self._connection.execute(statement)).scalar_one()
        return count

    async def add(self, owner_id: int, values: Mapping[str, Any]) -> WebhookEndpoint:
        """Create an endpoint, for the events that come from now on."""
        moment = now()
        statement = (
            insert(webhook_endpoints)
            .values(
                **values,
                owner_id=owner_id,
                after_event_id=_head(),
                created_at=moment,
                updated_at=moment,
            )
            .returning(*_COLUMNS)
        )
        return WebhookEndpoint._make((await self._connection.execute(statement)).one())

    async def change(
        self, endpoint_id: int, owner_id: int, values: Mapping[str, Any]
    ) -> WebhookEndpoint | None:
        """Change an endpoint; one that is turned on gets the events that come from now on."""
        turned_on = {"after_event_id": _head()} if values.get("is_active") else {}
        statement = (
            update(webhook_endpoints)
            .where(_COLUMNS.id == endpoint_id, _COLUMNS.owner_id == owner_id)
            .values(**values, **turned_on, updated_at=now())
            .returning(*_COLUMNS)
        )
        row = (await self._connection.execute(statement)).first()
        return WebhookEndpoint._make(row) if row else None

    async def rotate(
        self, endpoint_id: int, owner_id: int, secret: str, previous_expires_at: datetime
    ) -> bool:
        """Give an endpoint a new secret beside its last one; tell whether there is one."""
        statement = (
            update(webhook_endpoints)
            .where(_COLUMNS.id == endpoint_id, _COLUMNS.owner_id == owner_id)
            .values(
                previous_secret=_COLUMNS.secret,
                secret=secret,
                previous_expires_at=previous_expires_at,
                updated_at=now(),
            )
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def delete(self, endpoint_id: int, owner_id: int) -> bool:
        """Delete an endpoint with its log; tell whether there was one."""
        statement = delete(webhook_endpoints).where(
            _COLUMNS.id == endpoint_id, _COLUMNS.owner_id == owner_id
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def delete_all_of(self, owner_id: int) -> None:
        """Delete every endpoint of an account."""
        statement = delete(webhook_endpoints).where(_COLUMNS.owner_id == owner_id)
        await self._connection.execute(statement)

    async def disable(self, endpoint: WebhookEndpoint, reason: DisabledReason) -> bool:
        """Turn an endpoint off for its answers, and record that; tell whether it was on."""
        moment = now()
        statement = (
            update(webhook_endpoints)
            .where(_COLUMNS.id == endpoint.id, _COLUMNS.is_active)
            .values(is_active=False, disabled_at=moment, disabled_reason=reason.value)
        )
        if (await self._connection.execute(statement)).rowcount != 1:
            return False
        draft = EventDraft(
            kind=EventKind.WEBHOOK_DISABLED,
            subject="webhook",
            subject_id=endpoint.id,
            owner_id=endpoint.owner_id,
            audience=Audience.OWNER,
            data={"url": endpoint.url, "reason": reason.value},
        )
        await outbox.record(self._connection, draft)
        return True

    async def standing(self) -> Standing:
        """Return how far everything is."""
        return Standing(*(await self._connection.execute(_STANDING)).one())

    async def lock_position(self) -> int | None:
        """Return the last event that was turned into deliveries; None where somebody is at it."""
        statement = select(webhook_position.c.event_id).with_for_update(skip_locked=True)
        position: int | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return position

    async def set_position(self, event_id: int) -> None:
        """Note the last event that was turned into deliveries."""
        await self._connection.execute(update(webhook_position).values(event_id=event_id))

    async def recipients(self) -> list[Recipient]:
        """Return every endpoint that gets events."""
        columns = [_COLUMNS[name] for name in Recipient._fields[:-1]]
        statement = (
            select(*columns, users.c.roles)
            .join(users, users.c.id == _COLUMNS.owner_id)
            .where(_COLUMNS.is_active, users.c.is_active, users.c.deleted_at.is_(None))
            .order_by(_COLUMNS.id)
        )
        return [Recipient._make(row) for row in await self._connection.execute(statement)]

    async def hold(self, endpoint_ids: Collection[int]) -> set[int]:
        """Return which of these endpoints there still are; they cannot be deleted meanwhile."""
        statement = (
            select(_COLUMNS.id)
            .where(_COLUMNS.id.in_(endpoint_ids))
            .order_by(_COLUMNS.id)
            .with_for_update(read=True, key_share=True)
        )
        return set((await self._connection.execute(statement)).scalars())

    async def roles_of_active(self, owner_id: int) -> list[str] | None:
        """Return an account's roles as of now; None where it may nothing any more."""
        statement = select(users.c.roles).where(
            users.c.id == owner_id, users.c.is_active, users.c.deleted_at.is_(None)
        )
        roles: list[str] | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return roles

    async def lease(
        self, process: str, until: datetime, *, failing: bool, limit: int
    ) -> list[WebhookEndpoint]:
        """Take endpoints that have something due and that nobody sends to, who waited longest."""
        moment = now()
        due = exists().where(
            webhook_deliveries.c.endpoint_id == _COLUMNS.id,
            webhook_deliveries.c.status == DeliveryStatus.PENDING.value,
            webhook_deliveries.c.next_attempt_at <= moment,
        )
        failing_since = _COLUMNS.failing_since
        leased_until = _COLUMNS.leased_until
        chosen = (
            select(_COLUMNS.id)
            .where(
                failing_since.is_not(None) if failing else failing_since.is_(None),
                (leased_until.is_(None)) | (leased_until < moment),
                due,
            )
            .order_by(leased_until.asc().nulls_first(), _COLUMNS.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("chosen")  # read once, whatever the plan
        )
        statement = (
            update(webhook_endpoints)
            .where(_COLUMNS.id.in_(select(chosen.c.id)))
            .values(leased_by=process, leased_until=until)
            .returning(*_COLUMNS)
        )
        return [WebhookEndpoint._make(row) for row in await self._connection.execute(statement)]

    async def keep_lease(
        self, endpoint_id: int, process: str, until: datetime, values: Mapping[str, Any]
    ) -> bool:
        """Note how an endpoint does and keep its lease; False where it is ours no more."""
        statement = (
            update(webhook_endpoints)
            .where(_COLUMNS.id == endpoint_id, _COLUMNS.leased_by == process)
            .values(**values, leased_until=until)
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def release(self, endpoint_id: int, process: str) -> None:
        """Give an endpoint's lease back; when that was says who waits longest."""
        statement = (
            update(webhook_endpoints)
            .where(_COLUMNS.id == endpoint_id, _COLUMNS.leased_by == process)
            .values(leased_by=None, leased_until=now())
        )
        await self._connection.execute(statement)

    async def sealed_otherwise(self, mark: str) -> list[WebhookEndpoint]:
        """Return endpoints with a secret that does not begin so."""
        statement = select(webhook_endpoints).where(
            ~_COLUMNS.secret.startswith(mark, autoescape=True)
            | ~_COLUMNS.previous_secret.startswith(mark, autoescape=True)
        )
        return [WebhookEndpoint._make(row) for row in await self._connection.execute(statement)]

    async def reseal(self, before: WebhookEndpoint, values: Mapping[str, Any]) -> None:
        """Replace sealed secrets, unless they were rotated meanwhile."""
        statement = (
            update(webhook_endpoints)
            .where(_COLUMNS.id == before.id, _COLUMNS.secret == before.secret)
            .values(**values)
        )
        await self._connection.execute(statement)
