"""All SQL of the audit log: writing beside an act, reading, and forgetting what is old."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, literal, select, tuple_, union
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.context import current_request
from app.models.audit import AuditEntry, AuditKind, audit_log, audit_sweeps

_OLDEST_FIRST = (audit_log.c.created_at, audit_log.c.id)
_NEWEST_FIRST = tuple(column.desc() for column in _OLDEST_FIRST)

Place = tuple[datetime, int]
"""Where an entry stands in the log: its time, then its id."""


@dataclass(frozen=True, slots=True)
class Act:
    """What was done to which object; by whom, where that is not the caller of the request.

    `detail` is JSON and never holds a secret, nor what somebody typed in place of one.
    """

    kind: AuditKind
    object_type: str
    object_id: int | None
    actor_id: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries a list shows; `since` belongs to it, `until` does not."""

    actor_id: int | None = None
    kind: AuditKind | None = None
    object_type: str | None = None
    object_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


async def record(connection: AsyncConnection, *acts: Act) -> None:
    """Write acts down in their own transaction: what is undone was not done.

    From where, by which request and how signed in is taken from the request being served.
    """
    request, moment = current_request.get(), now()
    rows = [
        {
            "kind": act.kind.value,
            "actor_id": act.actor_id or (request.user_id if request else None),
            "credential": request.credential if request else None,
            "object_type": act.object_type,
            "object_id": act.object_id,
            "address": request.address if request else None,
            "user_agent": request.user_agent if request else None,
            "request_id": request.request_id if request else None,
            "detail": dict(act.detail),
            "created_at": moment,
        }
        for act in acts
    ]
    await connection.execute(insert(audit_log), rows)


class AuditRepository:
    """The log, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(
        self,
        wanted: AuditFilter,
        *,
        skip: int = 0,
        limit: int,
        after: Place | None = None,
    ) -> list[AuditEntry]:
        """Return entries, the newest first, by offset or after the time and id of another."""
        statement = (
            select(audit_log)
            .where(*_conditions(wanted))
            .order_by(*_NEWEST_FIRST)
            .offset(skip)
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(_place_of_row() < _place(after))
        return [AuditEntry._make(row) for row in await self._connection.execute(statement)]

    async def count(self, wanted: AuditFilter) -> int:
        """Return how many entries a list has."""
        statement = select(func.count()).select_from(audit_log).where(*_conditions(wanted))
        return (await self._connection.execute(statement)).scalar_one()

    async def about(self, user_id: int, *, after: Place | None, limit: int) -> list[AuditEntry]:
        """Return what an account did and what was done to it, the oldest first.

        Each half is read by its own index, and no further than the page goes.
        """
        columns = audit_log.c
        halves = (
            columns.actor_id == user_id,
            and_(columns.object_type == "user", columns.object_id == user_id),
        )
        beyond = [] if after is None else [_place_of_row() > _place(after)]
        parts = [
            select(columns.id).where(half, *beyond).order_by(*_OLDEST_FIRST).limit(limit).subquery()
            for half in halves
        ]
        ids = union(*(select(part.c.id) for part in parts)).subquery()
        statement = (
            select(audit_log)
            .where(columns.id.in_(select(ids.c.id)))
            .order_by(*_OLDEST_FIRST)
            .limit(limit)
        )
        return [AuditEntry._make(row) for row in await self._connection.execute(statement)]

    async def delete_before(self, moment: datetime) -> int:
        """Forget what is older than a moment; return how many. In a transaction of its own.

        The database refuses any other deletion, and every change.
        """
        await self._connection.execute(insert(audit_sweeps).values(id=1))
        gone = await self._connection.execute(
            delete(audit_log).where(audit_log.c.created_at < moment)
        )
        await self._connection.execute(delete(audit_sweeps))
        return gone.rowcount


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    columns = audit_log.c
    conditions = [
        columns[name] == value
        for name in ("actor_id", "kind", "object_type", "object_id")
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.since is not None:
        conditions.append(columns.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(columns.created_at < wanted.until)
    return conditions


def _place_of_row() -> ColumnElement[Any]:
    return tuple_(audit_log.c.created_at, audit_log.c.id)


def _place(of: Place) -> ColumnElement[Any]:
    columns = audit_log.c
    return tuple_(literal(of[0], columns.created_at.type), literal(of[1], columns.id.type))
