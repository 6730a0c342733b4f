"""Many changes of items in one request: all or nothing, or each on its own."""

from collections.abc import Sequence
from typing import assert_never

from app.adapters.database import Database
from app.errors import BulkRefused, DomainError, Unavailable, Unprocessable
from app.models.items import Item
from app.schemas.items import BulkCreate, BulkDelete, BulkUpdate
from app.security.principal import Principal
from app.services import items

Operation = BulkCreate | BulkUpdate | BulkDelete
Outcome = Item | None | DomainError
"""The item as it is now, None where it was deleted, or why the entry was refused."""


async def run(
    db: Database,
    caller: Principal,
    entries: Sequence[Operation | Unprocessable],
    *,
    atomic: bool,
) -> list[Outcome]:
    """Carry out every entry in order, in one transaction.

    Raises:
        BulkRefused: `atomic`, and at least one entry was refused.
        Unavailable: something is away, which is no entry's fault; nothing is changed.
    """
    outcomes: list[Outcome] = []
    async with db.unit_of_work() as unit:
        for entry in entries:
            try:
                if isinstance(entry, Unprocessable):
                    raise entry
                async with unit.savepoint():
                    outcomes.append(await _carry_out(db, caller, entry))
            except Unavailable:
                raise
            except DomainError as refusal:
                outcomes.append(refusal)
        if atomic:
            _require_all(outcomes)
    return outcomes


async def _carry_out(db: Database, caller: Principal, operation: Operation) -> Item | None:
    match operation:
        case BulkCreate():
            return await items.create(db, caller, operation.item)
        case BulkUpdate():
            precondition = items.at_version(operation.version)
            return await items.patch(db, operation.id, caller, operation.changes, precondition)
        case BulkDelete():
            await items.delete(db, operation.id, caller, items.at_version(operation.version))
            return None
        case _:
            assert_never(operation)


def _require_all(outcomes: Sequence[Outcome]) -> None:
    refused = {i: each for i, each in enumerate(outcomes) if isinstance(each, DomainError)}
    if not refused:
        return
    errors = [
        {**each, "field": f"operations.{index}.{each['field']}".rstrip(".")}
        for index, refusal in refused.items()
        for each in _field_errors_of(refusal)
    ]
    raise BulkRefused(
        f"{len(refused)} of {len(outcomes)} entries were refused, so nothing was changed",
        errors=errors,
    )


def _field_errors_of(refusal: DomainError) -> list[dict[str, str]]:
    whole = {"field": "", "message": refusal.detail, "type": refusal.error_code.lower()}
    return refusal.extra.get("errors") or [whole]
