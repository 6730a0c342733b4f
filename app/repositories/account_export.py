"""The pages of what an account takes home, each read by an index and in the order of the rows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.api_keys import ApiKey
from app.models.audit import AuditEntry
from app.models.email_changes import EmailChange
from app.models.files import File, files
from app.models.identities import Identity
from app.models.items import Item, items
from app.models.users import Session, sessions
from app.models.webhooks import WebhookEndpoint
from app.repositories.api_keys import ApiKeyRepository
from app.repositories.audit import AuditRepository, Place
from app.repositories.email_changes import EmailChangeRepository
from app.repositories.identities import IdentityRepository
from app.repositories.webhooks import WebhookRepository

PAGE = 500  # rows: all that an export holds in memory at once

_ITEM_COLUMNS = [column for column in items.c if column.name != "search_text"]


async def sessions_of(
    connection: AsyncConnection, user_id: int, after: Session | None
) -> Sequence[Session]:
    """Return the next sessions of an account, over or not."""
    statement = (
        select(sessions)
        .where(sessions.c.user_id == user_id, sessions.c.id > _id(after))
        .order_by(sessions.c.id)
        .limit(PAGE)
    )
    return [Session._make(row) for row in await connection.execute(statement)]


async def identities_of(
    connection: AsyncConnection, user_id: int, after: Identity | None
) -> Sequence[Identity]:
    """Return the accounts elsewhere that an account is signed in to by: few, on one page."""
    return [] if after else await IdentityRepository(connection).of_user(user_id)


async def api_keys_of(
    connection: AsyncConnection, user_id: int, after: ApiKey | None
) -> Sequence[ApiKey]:
    """Return the API keys of an account: few, on one page."""
    return [] if after else await ApiKeyRepository(connection).of_user(user_id)


async def email_changes_of(
    connection: AsyncConnection, user_id: int, after: EmailChange | None
) -> Sequence[EmailChange]:
    """Return the change of address that waits, if there is one."""
    change = None if after else await EmailChangeRepository(connection).find(user_id)
    return [change] if change else []


async def items_of(connection: AsyncConnection, user_id: int, after: Item | None) -> Sequence[Item]:
    """Return the next items of an account."""
    return await _items(connection, user_id, after, items.c.deleted_at.is_(None))


async def deleted_items_of(
    connection: AsyncConnection, user_id: int, after: Item | None
) -> Sequence[Item]:
    """Return the next items of an account that can still be restored."""
    return await _items(connection, user_id, after, items.c.deleted_at.is_not(None))


async def files_of(connection: AsyncConnection, user_id: int, after: File | None) -> Sequence[File]:
    """Return the next files of an account's items."""
    statement = (
        select(files)
        .where(files.c.owner_id == user_id, files.c.expires_at.is_(None), files.c.id > _id(after))
        .order_by(files.c.id)
        .limit(PAGE)
    )
    return [File._make(row) for row in await connection.execute(statement)]


async def webhooks_of(
    connection: AsyncConnection, user_id: int, after: WebhookEndpoint | None
) -> Sequence[WebhookEndpoint]:
    """Return the webhooks of an account: few, on one page."""
    return [] if after else await WebhookRepository(connection).of_owner(user_id)


async def audit_of(
    connection: AsyncConnection, user_id: int, after: AuditEntry | None
) -> Sequence[AuditEntry]:
    """Return the next entries about an account; of what others did to it, not who they are."""
    place: Place | None = (after.created_at, after.id) if after else None
    found = await AuditRepository(connection).about(user_id, after=place, limit=PAGE)
    return [_without_others(entry, user_id) for entry in found]


def _without_others(entry: AuditEntry, user_id: int) -> AuditEntry:
    if entry.actor_id in (user_id, None):
        return entry
    return entry._replace(
        actor_id=None, credential=None, address=None, user_agent=None, request_id=None
    )


async def _items(
    connection: AsyncConnection, user_id: int, after: Item | None, condition: Any
) -> Sequence[Item]:
    statement = (
        select(*_ITEM_COLUMNS)
        .where(items.c.owner_id == user_id, condition, items.c.id > _id(after))
        .order_by(items.c.id)
        .limit(PAGE)
    )
    return [Item._make(row) for row in await connection.execute(statement)]


def _id(after: Session | Item | File | None) -> int:
    return after.id if after else 0
