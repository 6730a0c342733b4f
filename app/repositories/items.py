"""All SQL of the catalogue."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Row,
    bindparam,
    delete,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from app.adapters.driver import fetch
from app.clock import now
from app.events import outbox
from app.events.outbox import EventDraft
from app.models.events import Audience, EventKind
from app.models.items import Item, Visibility, items
from app.models.users import users
from app.repositories import item_lists as lists
from app.repositories import search
from app.repositories.item_lists import COLUMNS, ItemFilter, Position
from app.schemas.items import ItemOut
from app.security.principal import Principal

RESTORABLE_FOR = timedelta(days=30)

_BY_ID = select(*COLUMNS).where(items.c.id == bindparam("id"))


class ItemRepository:
    """Items, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"

    async def get(self, item_id: int, *, deleted: bool = False) -> Item | None:
        """Return an item, or None; with `deleted`, also one that is deleted."""
        rows = await fetch(self._connection, _BY_ID, {"id": item_id})
        if not rows:
            return None
        item = Item._make(rows[0])
        return item if deleted or item.deleted_at is None else None

    async def page(
        self, wanted: ItemFilter, viewer: Principal | None, sort: str, *, skip: int, limit: int
    ) -> tuple[list[Item], int]:
        """Return a page by offset and how many items the whole list has."""
        asked = lists.asked(wanted, viewer, is_postgres=self._is_postgres)
        names = frozenset(asked)
        parameters = {**asked, "skip": skip, "limit": limit}
        if self._is_postgres and lists.is_looked_for(names, sort):
            near = await self._near(lists.near(names, sort, None), parameters)
            if near:
                return near, await self._count(asked)
            statement = lists.gathered_page(names, sort)
        else:
            statement = lists.page(names, sort, self._is_postgres)
        rows = await fetch(self._connection, statement, parameters)
        if rows:
            return [Item._make(row[:-1]) for row in rows], rows[0][-1]
        return [], 0 if skip == 0 else await self._count(asked)

    async def slice(
        self,
        wanted: ItemFilter,
        viewer: Principal | None,
        sort: str,
        *,
        position: Position | None,
        limit: int,
    ) -> list[Item]:
        """Return up to `limit` items beside a position, in the list's order, by an index."""
        asked = lists.asked(wanted, viewer, is_postgres=self._is_postgres)
        names = frozenset(asked)
        direction = position.direction if position else None
        parameters = {**asked, "skip": 0, "limit": limit}
        if position is not None:
            parameters |= {"place_value": position.value, "place_id": position.id}
        found: list[Item] = []
        statement = lists.along(names, sort, direction, self._is_postgres)
        if self._is_postgres and lists.is_looked_for(names, sort):
            found = await self._near(lists.near(names, sort, direction), parameters)
            statement = lists.gathered(names, sort, direction)
        if not found:
            found = _items(await fetch(self._connection, statement, parameters))
        return found[::-1] if direction == "before" else found

    async def stream(
        self, wanted: ItemFilter, viewer: Principal | None, sort: str, *, batch: int
    ) -> AsyncGenerator[Sequence[Row[Any]], None]:
        """Yield all items of a list as rows in the order of `Item`, through a server's cursor."""
        asked = lists.asked(wanted, viewer, is_postgres=self._is_postgres)
        statement = lists.everything(frozenset(asked), sort, self._is_postgres)
        result = await self._connection.stream(
            statement, asked, execution_options={"yield_per": batch}
        )
        async for rows in result.partitions():
            yield rows

    async def add(self, owner_id: int, values: Mapping[str, Any]) -> Item:
        """Create an item and record that, in one statement."""
        item, columns, draft = new_item(owner_id, values, now())
        statement = _recorded_insert if self._is_postgres else _plain_insert
        item_id = await self._change(statement(), columns, draft)
        return item._replace(id=item_id or 0)

    async def replace(self, item: Item, values: Mapping[str, Any]) -> Item | None:
        """Change an item and record that; None where it is no longer the version that was read."""
        described = dict(values)
        own_display_name = described.pop("display_name", item.own_display_name)
        changed = item._replace(
            own_display_name=own_display_name,
            version=item.version + 1,
            updated_at=now(),
            **described,
        )
        return await self._update(
            EventKind.ITEM_UPDATED,
            changed,
            {**values, "search_text": _search_text(values), "updated_at": changed.updated_at},
        )

    async def set_deleted(self, item: Item, deleted_at: datetime | None) -> Item | None:
        """Delete (softly) or restore an item and record that; None where it has moved on."""
        moment = now()
        changed = item._replace(deleted_at=deleted_at, updated_at=moment, version=item.version + 1)
        kind = EventKind.ITEM_DELETED if deleted_at else EventKind.ITEM_RESTORED
        return await self._update(kind, changed, {"deleted_at": deleted_at, "updated_at": moment})

    async def delete_all_of(self, owner_id: int) -> None:
        """Delete (softly) everything that an account owns."""
        await self._delete_where(items.c.owner_id == owner_id)

    async def delete_ownerless(self) -> int:
        """Delete (softly) what was made while its owner's account was deleted; return how many."""
        gone = select(users.c.id).where(users.c.deleted_at.is_not(None))
        return await self._delete_where(items.c.owner_id.in_(gone))

    async def _delete_where(self, condition: ColumnElement[bool]) -> int:
        moment = now()
        statement = (
            update(items)
            .where(condition, items.c.deleted_at.is_(None))
            .values(deleted_at=moment, updated_at=moment, version=items.c.version + 1)
            .returning(*COLUMNS)
        )
        deleted = _items((await self._connection.execute(statement)).all())
        if deleted:
            drafts = (_event(EventKind.ITEM_DELETED, item) for item in deleted)
            await outbox.record(self._connection, *drafts)
        return len(deleted)

    async def purge(self, moment: datetime) -> int:
        """Delete for good what was deleted before a moment; return how many items that were."""
        statement = delete(items).where(items.c.deleted_at < moment)
        return (await self._connection.execute(statement)).rowcount

    async def owned_by(
        self, owner_ids: Sequence[int], viewer: Principal | None, *, limit_each: int
    ) -> dict[int, list[Item]]:
        """Return the first readable items of each owner, in one statement."""
        rank = (
            func.row_number().over(partition_by=items.c.owner_id, order_by=items.c.id).label("rank")
        )
        asked = lists.asked(ItemFilter(), viewer, is_postgres=self._is_postgres)
        conditions = lists.conditions(frozenset(asked), self._is_postgres)
        ranked = (
            select(*COLUMNS, rank).where(items.c.owner_id.in_(owner_ids), *conditions).subquery()
        )
        statement = (
            select(*[ranked.c[column.name] for column in COLUMNS])
            .where(ranked.c.rank <= limit_each)
            .order_by(ranked.c.owner_id, ranked.c.id)
        )
        owned: dict[int, list[Item]] = {owner_id: [] for owner_id in owner_ids}
        for item in _items((await self._connection.execute(statement, asked)).all()):
            owned[item.owner_id].append(item)
        return owned

    async def counts(self) -> Row[Any]:
        """Return the totals over all live items: counts and price statistics in cents."""
        public = items.c.visibility == Visibility.PUBLIC.value
        statement = select(
            func.count().label("total"),
            func.count().filter(public).label("public"),
            func.count().filter(items.c.discount_basis_points > 0).label("on_sale"),
            func.count(items.c.owner_id.distinct()).label("owners"),
            func.min(items.c.price_cents).label("min"),
            func.max(items.c.price_cents).label("max"),
            func.sum(items.c.price_cents).label("sum"),
        ).where(items.c.deleted_at.is_(None))
        row: Row[Any] = (await self._connection.execute(statement)).one()
        return row

    async def count_by_tag(self, limit: int) -> list[tuple[str, int]]:
        """Return the commonest tags with the number of items that have each."""
        if self._is_postgres:
            tags = func.unnest(items.c.tags).table_valued("value").render_derived()
        else:
            tags = func.json_each(items.c.tags).table_valued("value")
        count = func.count().label("count")
        statement = (
            select(tags.c.value, count)
            .select_from(items.join(tags, true()))
            .where(items.c.deleted_at.is_(None))
            .group_by(tags.c.value)
            .order_by(count.desc(), tags.c.value)
            .limit(limit)
        )
        return [(tag, number) for tag, number in await self._connection.execute(statement)]

    async def count_by_day(self, limit: int) -> list[tuple[str, int]]:
        """Return how many items were created on each of the last days (UTC) that have any."""
        if self._is_postgres:
            day = func.to_char(func.timezone("UTC", items.c.created_at), "YYYY-MM-DD")
        else:
            day = func.strftime("%Y-%m-%d", items.c.created_at)
        labelled = day.label("day")
        statement = (
            select(labelled, func.count())
            .where(items.c.deleted_at.is_(None))
            .group_by(labelled)
            .order_by(labelled.desc())
            .limit(limit)
        )
        return [(name, number) for name, number in await self._connection.execute(statement)]

    async def _near(self, statement: Executable, parameters: Mapping[str, Any]) -> list[Item]:
        """Return a whole page out of the rows that come next, or nothing."""
        looked_at = lists.looked_at(parameters["skip"] + parameters["limit"])
        rows = await fetch(self._connection, statement, {**parameters, "looked_at": looked_at})
        return _items(rows) if len(rows) == parameters["limit"] else []

    async def _count(self, asked: Mapping[str, Any]) -> int:
        statement = lists.count(frozenset(asked), self._is_postgres)
        ((number,),) = await fetch(self._connection, statement, asked)
        return int(number)

    async def _update(
        self, kind: EventKind, changed: Item, columns: Mapping[str, Any]
    ) -> Item | None:
        names = tuple(sorted(columns))
        statement = _recorded_update if self._is_postgres else _plain_update
        parameters = {**columns, "id": changed.id, "expected_version": changed.version - 1}
        found = await self._change(statement(names), parameters, _event(kind, changed))
        return changed if found else None

    async def _change(
        self, statement: Executable, columns: Mapping[str, Any], draft: EventDraft
    ) -> int | None:
        """Run a change and record its event; return the item's id, None where nothing matched."""
        parameters = {f"new_{name}": value for name, value in columns.items()}
        if self._is_postgres:
            parameters |= outbox.parameters(draft)
        rows = await fetch(self._connection, statement, parameters)
        found: int | None = rows[0][0] if rows else None
        if found is not None and not self._is_postgres:
            await outbox.record(self._connection, replace(draft, subject_id=found))
        return found


def new_item(
    owner_id: int, values: Mapping[str, Any], moment: datetime
) -> tuple[Item, dict[str, Any], EventDraft]:
    """Return an item before it has an id, its columns, and the event that tells of it."""
    described = {"display_name": None, "metadata": {}, **values}
    item = Item(
        id=0,
        owner_id=owner_id,
        own_display_name=described.pop("display_name"),
        version=1,
        created_at=moment,
        updated_at=moment,
        deleted_at=None,
        **described,
    )
    columns = {**_stored(item), "search_text": _search_text(values)}
    return item, columns, _event(EventKind.ITEM_CREATED, item)


def _insert() -> ReturningInsert[tuple[int]]:
    columns = [name for name in items.c.keys() if name != "id"]  # noqa: SIM118
    values = {name: bindparam(f"new_{name}", type_=items.c[name].type) for name in columns}
    return insert(items).values(values).returning(items.c.id)


def _update(names: tuple[str, ...]) -> ReturningUpdate[tuple[int]]:
    values = {name: bindparam(f"new_{name}", type_=items.c[name].type) for name in names}
    is_live = items.c.deleted_at.is_(None)
    return (
        update(items)
        .where(
            items.c.id == bindparam("new_id"),
            items.c.version == bindparam("new_expected_version"),
            # Restoring is the one change of what is deleted.
            is_live if "deleted_at" not in names else true(),
        )
        .values({**values, "version": items.c.version + 1})
        .returning(items.c.id)
    )


# Building a statement costs more than running it: each is built once.
_plain_insert = cache(_insert)
_plain_update = cache(_update)
_recorded_insert = cache(lambda: outbox.recorded(_insert()))
_recorded_update = cache(lambda names: outbox.recorded(_update(names)))


def _stored(item: Item) -> dict[str, Any]:
    """Return an item as columns by name, without its id."""
    columns = item._asdict()
    columns["display_name"] = columns.pop("own_display_name")
    del columns["id"]
    return columns


def _event(kind: EventKind, item: Item) -> EventDraft:
    is_public = item.visibility == Visibility.PUBLIC.value
    return EventDraft(
        kind=kind,
        subject="item",
        subject_id=item.id,
        owner_id=item.owner_id,
        audience=Audience.PUBLIC if is_public else Audience.OWNER,
        data=ItemOut.model_validate(item).model_dump(mode="json", exclude={"id"}),
    )


def _items(rows: Sequence[Sequence[Any]]) -> list[Item]:
    return [Item._make(row) for row in rows]


def _search_text(values: Mapping[str, Any]) -> str:
    return search.search_text(values["name"], values["description"], values["tags"])
