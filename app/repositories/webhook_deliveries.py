"""All SQL of what is sent to webhook endpoints, and of its log."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import and_, case, delete, func, insert, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.models.items import Visibility, items
from app.models.webhooks import (
    DeliveryStatus,
    WebhookDelivery,
    WebhookEndpoint,
    webhook_deliveries,
    webhook_endpoints,
)

_COLUMNS = webhook_deliveries.c
_PENDING = DeliveryStatus.PENDING.value
_CHUNK = 200  # rows in a statement


class Due(NamedTuple):
    """A delivery to send now, and whether what it tells of is still public, if that is needed."""

    delivery: WebhookDelivery
    is_public: bool


class WebhookDeliveryRepository:
    """Deliveries, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"

    async def add(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write deliveries, but for those of an event that an endpoint has; return how many."""
        new = (postgresql.insert if self._is_postgres else sqlite.insert)(webhook_deliveries)
        written = 0
        for index in range(0, len(rows), _CHUNK):
            statement = new.values(list(rows[index : index + _CHUNK])).on_conflict_do_nothing(
                index_elements=["endpoint_id", "event_id"]
            )
            written += (await self._connection.execute(statement)).rowcount
        return written

    async def add_one(self, values: Mapping[str, Any]) -> WebhookDelivery:
        """Write one delivery."""
        statement = insert(webhook_deliveries).values(**values).returning(*_COLUMNS)
        return WebhookDelivery._make((await self._connection.execute(statement)).one())

    async def get(self, delivery_id: int, owner_id: int) -> WebhookDelivery | None:
        """Return a delivery of an account's endpoint, or None."""
        statement = (
            select(*_COLUMNS)
            .join(webhook_endpoints, webhook_endpoints.c.id == _COLUMNS.endpoint_id)
            .where(_COLUMNS.id == delivery_id, webhook_endpoints.c.owner_id == owner_id)
        )
        row = (await self._connection.execute(statement)).first()
        return WebhookDelivery._make(row) if row else None

    async def page(
        self,
        endpoint_id: int,
        status: DeliveryStatus | None,
        *,
        limit: int,
        skip: int = 0,
        before_id: int | None = None,
    ) -> list[WebhookDelivery]:
        """Return an endpoint's deliveries, the newest first."""
        statement = (
            select(*_COLUMNS)
            .where(
                *_of(endpoint_id, status),
                _COLUMNS.id < before_id if before_id is not None else true(),
            )
            .order_by(_COLUMNS.id.desc())
            .offset(skip)
            .limit(limit)
        )
        return [WebhookDelivery._make(row) for row in await self._connection.execute(statement)]

    async def count(self, endpoint_id: int, status: DeliveryStatus | None) -> int:
        """Return how many deliveries an endpoint has."""
        statement = select(func.count()).where(*_of(endpoint_id, status))
        number: int = (await self._connection.execute(statement)).scalar_one()
        return number

    async def due(self, endpoint_id: int, *, patience: int, limit: int) -> list[Due]:
        """Return what an endpoint is to be sent now, in the order of the events.

        What follows another delivery of its subject waits for it, until that was tried `patience`
        times.
        """
        moment = now()
        earlier = webhook_deliveries.alias("earlier")
        is_held_back = (
            select(earlier.c.id)
            .where(
                earlier.c.endpoint_id == _COLUMNS.endpoint_id,
                earlier.c.subject == _COLUMNS.subject,
                earlier.c.id < _COLUMNS.id,
                earlier.c.status == _PENDING,
                earlier.c.next_attempt_at > moment,
                earlier.c.attempt < patience,
            )
            .exists()
        )
        is_public = case(
            (_COLUMNS.public_item_id.is_(None), true()),
            else_=func.coalesce(items.c.visibility, "") == Visibility.PUBLIC.value,
        )
        statement = (
            select(*_COLUMNS, is_public)
            .outerjoin(items, items.c.id == _COLUMNS.public_item_id)
            .where(
                _COLUMNS.endpoint_id == endpoint_id,
                _COLUMNS.status == _PENDING,
                _COLUMNS.next_attempt_at <= moment,
                ~is_held_back,
            )
            .order_by(_COLUMNS.id)
            .limit(limit)
        )
        found = await self._connection.execute(statement)
        return [Due(WebhookDelivery._make(row[:-1]), bool(row[-1])) for row in found]

    async def settle(self, delivery: WebhookDelivery, values: Mapping[str, Any]) -> None:
        """Note what an attempt gave, unless its owner has decided otherwise meanwhile."""
        statement = (
            update(webhook_deliveries)
            .where(
                _COLUMNS.id == delivery.id,
                _COLUMNS.attempt == delivery.attempt,
                _COLUMNS.status == _PENDING,
            )
            .values(**values)
        )
        await self._connection.execute(statement)

    async def cancel_pending(self, endpoint_id: int, reason: str) -> None:
        """Send nothing more of what waits for an endpoint."""
        statement = (
            update(webhook_deliveries)
            .where(_COLUMNS.endpoint_id == endpoint_id, _COLUMNS.status == _PENDING)
            .values(status=DeliveryStatus.CANCELLED.value, next_attempt_at=None, error=reason)
        )
        await self._connection.execute(statement)

    async def send_again(self, delivery: WebhookDelivery) -> WebhookDelivery:
        """Put a delivery back to the start of its attempts, due now."""
        statement = (
            update(webhook_deliveries)
            .where(_COLUMNS.id == delivery.id)
            .values(**_again())
            .returning(*_COLUMNS)
        )
        return WebhookDelivery._make((await self._connection.execute(statement)).one())

    async def count_between(
        self, endpoint: WebhookEndpoint, since: datetime, until: datetime
    ) -> int:
        """Return how many deliveries of events `send_all_again` would take."""
        statement = select(func.count()).where(_in_range(endpoint.id, since, until))
        number: int = (await self._connection.execute(statement)).scalar_one()
        return number

    async def send_all_again(
        self, endpoint: WebhookEndpoint, since: datetime, until: datetime
    ) -> int:
        """Put all deliveries of a time back to the start; return how many."""
        statement = (
            update(webhook_deliveries)
            .where(_in_range(endpoint.id, since, until))
            .values(**_again())
        )
        return (await self._connection.execute(statement)).rowcount

    async def delete_before(self, moment: datetime) -> int:
        """Forget deliveries made before a moment that are not to be sent; return how many."""
        statement = delete(webhook_deliveries).where(
            _COLUMNS.created_at < moment, _COLUMNS.status != _PENDING
        )
        return (await self._connection.execute(statement)).rowcount


def _of(endpoint_id: int, status: DeliveryStatus | None) -> list[Any]:
    conditions = [_COLUMNS.endpoint_id == endpoint_id]
    return conditions if status is None else [*conditions, _COLUMNS.status == status.value]


def _in_range(endpoint_id: int, since: datetime, until: datetime) -> Any:
    return and_(
        _COLUMNS.endpoint_id == endpoint_id,
        _COLUMNS.created_at >= since,
        _COLUMNS.created_at < until,
        _COLUMNS.event_id.is_not(None),
        _COLUMNS.status != _PENDING,
    )


def _again() -> dict[str, Any]:
    return {
        "status": _PENDING,
        "attempt": 0,
        "next_attempt_at": now(),
        "error": None,
    }
