"""Writes down all that is kept of an account, for its owner, at constant memory.

Each page is read on a connection that is given back before the page is sent: a slow client holds
none. The document is therefore no snapshot: what is changed meanwhile may be in it or not.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.adapters.database import Connection, Database
from app.clock import now
from app.models.audit import AuditKind
from app.models.users import User
from app.repositories import account_export as pages
from app.repositories.audit import Act, record
from app.schemas.account_export import (
    ExportedApiKey,
    ExportedEmailChange,
    ExportedFile,
    ExportedIdentity,
    ExportedItem,
    ExportedSession,
    ExportedWebhook,
)
from app.schemas.audit import AuditEntryOut
from app.schemas.base import Output
from app.schemas.users import UserOut


@dataclass(frozen=True, slots=True)
class Section:
    """A list of the document: its pages by the last row of the page before, and what is told."""

    name: str
    page: Callable[[Connection, int, Any], Awaitable[Sequence[Any]]]
    model: type[Output]


# A resource that keeps something of an account adds one line here, and one to `AccountExport`.
SECTIONS = (
    Section("sessions", pages.sessions_of, ExportedSession),
    Section("identities", pages.identities_of, ExportedIdentity),
    Section("api_keys", pages.api_keys_of, ExportedApiKey),
    Section("email_changes", pages.email_changes_of, ExportedEmailChange),
    Section("items", pages.items_of, ExportedItem),
    Section("deleted_items", pages.deleted_items_of, ExportedItem),
    Section("files", pages.files_of, ExportedFile),
    Section("webhooks", pages.webhooks_of, ExportedWebhook),
    Section("audit", pages.audit_of, AuditEntryOut),
)


async def export(db: Database, user: User) -> AsyncIterator[bytes]:
    """Note that an account's data is taken; return the document in pieces."""
    async with db.transaction() as connection:
        await record(connection, Act(AuditKind.EXPORTED, "user", user.id))
    return _document(db, user)


async def _document(db: Database, user: User) -> AsyncIterator[bytes]:
    profile = UserOut.model_validate(user).model_dump_json()
    yield f'{{"exported_at":"{now().isoformat()}","profile":{profile}'.encode()
    for section in SECTIONS:
        yield f',"{section.name}":['.encode()
        async for piece in _rows(db, user, section):
            yield piece
        yield b"]"
    yield b"}"


async def _rows(db: Database, user: User, section: Section) -> AsyncIterator[bytes]:
    last, separator = None, ""
    while True:
        async with db.read() as connection:
            page = await section.page(connection, user.id, last)
        if not page:
            return
        rows = ",".join(section.model.model_validate(row).model_dump_json() for row in page)
        yield f"{separator}{rows}".encode()
        last, separator = page[-1], ","
        if len(page) < pages.PAGE:
            return
