"""The lists of items: which rows, in which order, found by which index.

PostgreSQL serves a list either along the index of its order, reading rows until the page is full,
or by the index of what is asked for, gathering all that match and sorting them. Its planner chooses
as if what matches were spread evenly over the order. Where it is not, going along reads the whole
table, so we choose, by looking: `near` goes along over a bounded number of rows, and where that
does not fill the page, so little matches that `gathered` is cheap
(docs/decisions/0013-filtered-lists.md).
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Integer,
    Select,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from app.models.items import Item, Visibility, items
from app.repositories import search
from app.repositories.arrays import array_contains
from app.security.principal import Principal

COLUMNS = [column for column in items.c if column.name != "search_text"]

_NOBODY = 0  # owns nothing
_LOOKED_AT_FOR_EACH = 50  # rows: 0.3 ms for a page of 20, where gathering one in 50 takes 10
_MOST_LOOKED_AT = 10_000  # rows: a page by offset may lie anywhere

# What the index of an order knows beside it.
_KNOWN_TO = {
    "id": frozenset({"owner_id", "on_sale"}),
    "price": frozenset({"min_price_cents", "max_price_cents"}),
}

_Columns = ReadOnlyColumnCollection[str, Any]

_SORT_COLUMNS: dict[str, Column[Any]] = {
    "id": items.c.id,
    "name": items.c.name,
    "price": items.c.price_cents,
    "created_at": items.c.created_at,
}


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items a list shows."""

    q: str | None = None
    min_price_cents: int | None = None
    max_price_cents: int | None = None
    on_sale: bool | None = None
    tags: tuple[str, ...] = field(default=())
    owner_id: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a sorted list: beside the row with this sort value and id."""

    value: Any
    id: int
    direction: Literal["after", "before"] = "after"


def asked(wanted: ItemFilter, viewer: Principal | None, *, is_postgres: bool) -> dict[str, Any]:
    """Return what a list asks for as parameters; their names decide which conditions it has."""
    parameters: dict[str, Any] = {
        "min_price_cents": wanted.min_price_cents,
        "max_price_cents": wanted.max_price_cents,
        "on_sale": wanted.on_sale,
        "owner_id": wanted.owner_id,
        "tags": list(wanted.tags) or None,
    }
    if wanted.q:
        parameters["search_query"] = search.search_query(wanted.q, is_postgres=is_postgres)
        if is_postgres:
            parameters["search_patterns"] = search.search_patterns(wanted.q)
    if viewer is None or not viewer.is_admin:
        parameters["viewer_id"] = viewer.user_id if viewer else _NOBODY
    return {name: value for name, value in parameters.items() if value is not None}


def is_looked_for(names: frozenset[str], sort: str) -> bool:
    """Tell whether a list asks for what the index of its order does not know."""
    return bool(names - {"viewer_id"} - _KNOWN_TO.get(sort.lstrip("-"), frozenset()))


def looked_at(wanted: int) -> int:
    """Return how many rows `near` looks at for so many items."""
    return min(wanted * _LOOKED_AT_FOR_EACH, _MOST_LOOKED_AT)


# Building a statement costs more than running it: each is built once.
@cache
def page(names: frozenset[str], sort: str, is_postgres: bool) -> Select[Any]:
    """Return the statement of a page by offset, with the count of the whole list in each row."""
    total = count(names, is_postgres).scalar_subquery().label("total")
    statement = select(*COLUMNS, total).where(*conditions(names, is_postgres))
    return _sorted(statement, items.c, sort).offset(_SKIP).limit(_LIMIT)


@cache
def count(names: frozenset[str], is_postgres: bool) -> Select[Any]:
    """Return the statement that counts a list."""
    return select(func.count()).select_from(items).where(*conditions(names, is_postgres))


@cache
def along(
    names: frozenset[str], sort: str, direction: str | None, is_postgres: bool
) -> Select[Any]:
    """Return the statement of a page beside a place, found along the index of its order."""
    statement = select(*COLUMNS).where(*conditions(names, is_postgres), *_beside(direction, sort))
    return _sorted(statement, items.c, sort, backwards=direction == "before").limit(_LIMIT)


@cache
def near(names: frozenset[str], sort: str, direction: str | None) -> Select[Any]:
    """Return the statement of what matches among the `looked_at` rows that come next."""
    backwards = direction == "before"
    come_next = select(*items.c).where(items.c.deleted_at.is_(None), *_beside(direction, sort))
    come_next = _sorted(come_next, items.c, sort, backwards=backwards)
    rows = come_next.limit(bindparam("looked_at", type_=Integer)).subquery("near")
    known = _known(rows.c) | {"search_patterns": search.reads(rows.c.search_text)}
    statement = select(*[rows.c[column.name] for column in COLUMNS])
    statement = statement.where(*(known[name] for name in sorted(names & known.keys())))
    return _sorted(statement, rows.c, sort, backwards=backwards).offset(_SKIP).limit(_LIMIT)


@cache
def gathered(names: frozenset[str], sort: str, direction: str | None) -> Select[Any]:
    """Return the statement of a page beside a place, out of all that match."""
    return _gathered(names, sort, direction, is_counted=False)


@cache
def gathered_page(names: frozenset[str], sort: str) -> Select[Any]:
    """Return the statement of a page by offset, out of all that match, with their count."""
    return _gathered(names, sort, None, is_counted=True)


@cache
def everything(names: frozenset[str], sort: str, is_postgres: bool) -> Select[Any]:
    """Return the statement of a whole list."""
    return _sorted(select(*COLUMNS).where(*conditions(names, is_postgres)), items.c, sort)


@cache
def conditions(names: frozenset[str], is_postgres: bool) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of a list, served by the database's indexes."""
    known = _known(items.c) | {"search_query": search.matches(is_postgres=is_postgres)}
    return (items.c.deleted_at.is_(None), *(known[name] for name in sorted(names & known.keys())))


_SKIP = bindparam("skip", type_=Integer)
_LIMIT = bindparam("limit", type_=Integer)


def _known(columns: _Columns) -> dict[str, ColumnElement[bool]]:
    """Return the conditions on a row by the names of their parameters, all but the search."""
    return {
        "viewer_id": or_(
            columns.visibility == literal_column(f"'{Visibility.PUBLIC.value}'"),
            columns.owner_id == bindparam("viewer_id", type_=columns.id.type),
        ),
        "min_price_cents": columns.price_cents >= bindparam("min_price_cents"),
        "max_price_cents": columns.price_cents <= bindparam("max_price_cents"),
        "on_sale": (columns.discount_basis_points > literal_column("0"))
        == bindparam("on_sale", type_=Boolean),
        "owner_id": columns.owner_id == bindparam("owner_id", type_=columns.id.type),
        "tags": array_contains(columns.tags, bindparam("tags", type_=columns.tags.type)),
    }


def _gathered(
    names: frozenset[str], sort: str, direction: str | None, *, is_counted: bool
) -> Select[Any]:
    backwards = direction == "before"
    keys = dict.fromkeys((items.c.id, _SORT_COLUMNS[sort.lstrip("-")]))
    matching = select(*keys).where(*conditions(names, True), *_beside(direction, sort))
    # Without the fence the planner would go along the order again.
    fenced = matching.cte("matching").prefix_with("MATERIALIZED")
    shown = _sorted(select(fenced.c.id), fenced.c, sort, backwards=backwards)
    shown_ids = shown.offset(_SKIP).limit(_LIMIT).subquery("shown")
    statement = select(*COLUMNS).join(shown_ids, shown_ids.c.id == items.c.id)
    if is_counted:
        total = select(func.count()).select_from(fenced).scalar_subquery()
        statement = statement.add_columns(total.label("total"))
    return _sorted(statement, items.c, sort, backwards=backwards)


def _sorted(
    statement: Select[Any], columns: _Columns, sort: str, *, backwards: bool = False
) -> Select[Any]:
    descending = sort.startswith("-") != backwards
    # By the id as well: ties are broken, so that every order is total.
    by = dict.fromkeys((_SORT_COLUMNS[sort.lstrip("-")].name, "id"))
    return statement.order_by(*(columns[n].desc() if descending else columns[n].asc() for n in by))


def _beside(direction: str | None, sort: str) -> tuple[ColumnElement[bool], ...]:
    """Return the condition for rows beyond a place, as a row comparison that an index serves."""
    if direction is None:
        return ()
    column = _SORT_COLUMNS[sort.lstrip("-")]
    forwards = sort.startswith("-") == (direction == "before")
    here_id = bindparam("place_id", type_=items.c.id.type)
    if column is items.c.id:
        return (items.c.id > here_id if forwards else items.c.id < here_id,)
    place = tuple_(column, items.c.id)
    here = tuple_(bindparam("place_value", type_=column.type), here_id)
    return (place > here if forwards else place < here,)


def sort_value(item: Item, sort: str) -> Any:
    """Return the value by which an item stands where it does in a list."""
    match sort.lstrip("-"):
        case "name":
            return item.name
        case "price":
            return item.price_cents
        case "created_at":
            return item.created_at
        case _:
            return item.id
