"""The rules of the catalogue: who may read and change what, and how changes meet each other."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from app.adapters.database import Database
from app.clock import now
from app.errors import Conflict, Forbidden, NotFound, PreconditionFailed
from app.models.items import Item, Visibility
from app.repositories.items import RESTORABLE_FOR, ItemRepository
from app.schemas.items import ItemIn, ItemInV2, ItemPatch, ItemPatchV2
from app.schemas.merge_patch import patched
from app.security.principal import Principal

_ATTEMPTS = 5  # a patch without If-Match is computed anew when another writer was faster

Precondition = Callable[[Item], bool]
"""Tells whether an item is still in the state that the client expects."""


def at_version(version: int | None) -> Precondition:
    """Return the precondition that an item has this version; None asks for nothing."""
    return lambda item: version is None or item.version == version


async def read(db: Database, item_id: int, viewer: Principal | None) -> Item:
    """Return an item that the viewer may read.

    Raises:
        NotFound: there is none, or the viewer may not even know of it.
    """
    async with db.read() as connection:
        item = await ItemRepository(connection).get(item_id)
    return _readable(item, viewer)


async def read_to_change(db: Database, item_id: int, caller: Principal) -> Item:
    """Return an item that the caller may change.

    Raises:
        NotFound: there is none, or the caller may not even know of it.
        Forbidden: the caller may only read it.
    """
    async with db.read() as connection:
        item = await ItemRepository(connection).get(item_id)
    return _changeable(item, caller)


async def create(db: Database, owner: Principal, body: ItemIn) -> Item:
    """Create an item that the caller owns."""
    async with db.single_change() as connection:
        return await ItemRepository(connection).add(owner.user_id, stored_values(body))


async def replace(
    db: Database, item_id: int, caller: Principal, body: ItemIn, precondition: Precondition
) -> Item:
    """Replace an item whole.

    Raises:
        NotFound, PreconditionFailed: as in `patch`.
    """
    values = stored_values(body)
    return await _change(
        db, item_id, caller, precondition, lambda repository, item: repository.replace(item, values)
    )


async def patch(
    db: Database,
    item_id: int,
    caller: Principal,
    changes: ItemPatch,
    precondition: Precondition,
) -> Item:
    """Change an item by JSON merge patch; the result must be as valid as a new item.

    Raises:
        NotFound: there is none that the caller may change.
        PreconditionFailed: it is not in the state that the client expects.
        Unprocessable: the result would not be a valid item.
    """
    model = ItemInV2 if isinstance(changes, ItemPatchV2) else ItemIn

    async def apply(repository: ItemRepository, item: Item) -> Item | None:
        return await repository.replace(
            item, stored_values(patched(model, _current(item, model), changes))
        )

    return await _change(db, item_id, caller, precondition, apply)


async def delete(db: Database, item_id: int, caller: Principal, precondition: Precondition) -> None:
    """Delete an item softly; it can be restored for 30 days.

    Raises:
        NotFound, PreconditionFailed: as in `patch`.
    """
    moment = now()
    await _change(
        db,
        item_id,
        caller,
        precondition,
        lambda repository, item: repository.set_deleted(item, moment),
    )


async def restore(db: Database, item_id: int, caller: Principal) -> Item:
    """Bring a deleted item back.

    Raises:
        NotFound: it never existed, is not the caller's, or was deleted more than 30 days ago.
        Conflict: it is not deleted.
    """
    async with db.read() as connection:
        item = await ItemRepository(connection).get(item_id, deleted=True)
    if item is None or not _may_change(item, caller):
        raise NotFound("There is no such item")
    if item.deleted_at is None:
        raise Conflict("The item is not deleted")
    if item.deleted_at < now() - RESTORABLE_FOR:
        raise NotFound("The item was deleted more than 30 days ago")
    async with db.single_change() as connection:
        restored = await ItemRepository(connection).set_deleted(item, None)
    if restored is None:
        raise Conflict("The item is not deleted")
    return restored


def stored_values(body: ItemIn) -> dict[str, Any]:
    """Return a described item as columns; what the body's version does not know stays out."""
    values: dict[str, Any] = {
        "name": body.name,
        "description": body.description,
        "price_cents": int(body.price * 100),
        "discount_basis_points": int(body.discount_percent * 100),
        "tags": list(body.tags),
        "visibility": body.visibility.value,
    }
    if isinstance(body, ItemInV2):
        values["display_name"] = body.display_name
        values["metadata"] = body.metadata
    return values


async def _change(
    db: Database,
    item_id: int,
    caller: Principal,
    precondition: Precondition,
    change: Callable[[ItemRepository, Item], Awaitable[Item | None]],
) -> Item:
    """Change the very version that was read; read anew when another writer was faster."""
    for _ in range(_ATTEMPTS):
        async with db.read() as connection:
            item = _changeable(await ItemRepository(connection).get(item_id), caller)
        _require(precondition, item)
        async with db.single_change() as connection:
            changed = await change(ItemRepository(connection), item)
        if changed is not None:
            return changed
    raise Conflict("The item is being changed by too many writers at once; try again")


def _current(item: Item, model: type[ItemIn]) -> dict[str, Any]:
    """Return an item as a client of the model's version would describe it."""
    current: dict[str, Any] = {
        "name": item.name,
        "description": item.description,
        "price": Decimal(item.price_cents).scaleb(-2),
        "discount_percent": Decimal(item.discount_basis_points).scaleb(-2),
        "tags": item.tags,
        "visibility": item.visibility,
    }
    if issubclass(model, ItemInV2):
        current["display_name"] = item.own_display_name
        current["metadata"] = item.metadata
    return current


def _may_read(item: Item, viewer: Principal | None) -> bool:
    return item.visibility == Visibility.PUBLIC.value or (
        viewer is not None and _may_change(item, viewer)
    )


def _may_change(item: Item, caller: Principal) -> bool:
    return item.owner_id == caller.user_id or caller.is_admin


def _readable(item: Item | None, viewer: Principal | None) -> Item:
    if item is None or not _may_read(item, viewer):
        raise NotFound("There is no such item")
    return item


def _changeable(item: Item | None, caller: Principal) -> Item:
    if item is None or item.deleted_at is not None or not _may_read(item, caller):
        raise NotFound("There is no such item")
    if not _may_change(item, caller):
        raise Forbidden("Only the owner or an admin may change this item")
    return item


def _require(precondition: Precondition, item: Item) -> None:
    if not precondition(item):
        raise PreconditionFailed("The item has changed since you read it")
