"""All that is kept of an account, as its owner takes it home; the same in every API version."""

from datetime import datetime

from pydantic import Field

from app.schemas.audit import AuditEntryOut
from app.schemas.base import Output
from app.schemas.items import ItemOutV2
from app.schemas.users import UserOut


class ExportedSession(Output):
    """A sign-in on one device, over or not."""

    id: int
    user_agent: str | None
    address: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ended_at: datetime | None


class ExportedIdentity(Output):
    """An account elsewhere that signs in to this one."""

    id: int
    provider: str
    subject: str
    email: str | None
    created_at: datetime
    last_used_at: datetime


class ExportedApiKey(Output):
    """An API key, without its secret."""

    id: int
    name: str
    prefix: str
    scopes: list[str]
    expires_at: datetime | None
    last_used_at: datetime | None
    rotated_at: datetime | None
    created_at: datetime


class ExportedEmailChange(Output):
    """A change of address that waits for both addresses to agree."""

    email: str
    old_confirmed_at: datetime | None
    new_confirmed_at: datetime | None
    expires_at: datetime


class ExportedItem(ItemOutV2):
    """An item, deleted or not."""

    deleted_at: datetime | None


class ExportedFile(Output):
    """What is known of a file; its content is at `GET /files/{id}`."""

    id: int
    item_id: int
    name: str
    content_type: str
    size: int
    sha256: str
    created_at: datetime


class ExportedWebhook(Output):
    """A webhook, without its secret."""

    id: int
    url: str
    events: list[str]
    is_active: bool
    created_at: datetime


class AccountExport(Output):
    """One document with everything, secrets and their digests left out."""

    exported_at: datetime
    profile: UserOut
    sessions: list[ExportedSession]
    identities: list[ExportedIdentity]
    api_keys: list[ExportedApiKey]
    email_changes: list[ExportedEmailChange]
    items: list[ExportedItem]
    deleted_items: list[ExportedItem] = Field(description="Deleted within the last 30 days.")
    files: list[ExportedFile]
    webhooks: list[ExportedWebhook]
    audit: list[AuditEntryOut] = Field(
        description="What the account did and what was done to it. Of what others did, only what."
    )
