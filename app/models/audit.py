"""The audit log: who did what to what, from where. Rows are added, and never changed."""

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Column, Index, Integer, String, Table

from app.models.base import Id, JsonObject, UtcDateTime, metadata


class AuditKind(StrEnum):
    """What is worth remembering when somebody asks what happened to an account."""

    REGISTERED = "user.registered"
    USER_CHANGED = "user.changed"
    ROLES_CHANGED = "user.roles_changed"
    SUSPENDED = "user.suspended"
    UNSUSPENDED = "user.unsuspended"
    DELETED = "user.deleted"
    EXPORTED = "user.exported"
    SIGNED_IN = "sign_in.succeeded"
    SIGN_IN_FAILED = "sign_in.failed"
    LOCKED_OUT = "sign_in.locked_out"
    SIGNED_OUT = "session.signed_out"
    SIGNED_OUT_EVERYWHERE = "session.signed_out_everywhere"
    SESSION_ENDED = "session.ended"
    TOKEN_REUSED = "session.token_reused"  # noqa: S105 - no secret
    EMAIL_VERIFIED = "email.verified"
    EMAIL_CHANGE_ASKED = "email.change_asked"
    EMAIL_CHANGED = "email.changed"
    IDENTITY_LINKED = "identity.linked"
    IDENTITY_UNLINKED = "identity.unlinked"
    SECOND_FACTOR_ENABLED = "second_factor.enabled"
    SECOND_FACTOR_DISABLED = "second_factor.disabled"
    SECOND_FACTOR_RESET = "second_factor.reset"
    SECOND_FACTOR_REFUSED = "second_factor.refused"
    RECOVERY_CODES_RENEWED = "recovery_codes.renewed"
    RECOVERY_CODE_USED = "recovery_code.used"
    API_KEY_CREATED = "api_key.created"
    API_KEY_ROTATED = "api_key.rotated"
    API_KEY_REVOKED = "api_key.revoked"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_ROTATED = "webhook.rotated"
    WEBHOOK_DELETED = "webhook.deleted"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - no secret
    PASSWORD_RESET = "password.reset"  # noqa: S105 - no secret
    PASSWORD_REFUSED = "password.refused"  # noqa: S105 - no secret


# No foreign keys: what happened stays told when what it happened to is gone.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(60), nullable=False),
    Column("actor_id", Id),
    Column("credential", String(60)),
    Column("object_type", String(40), nullable=False),
    Column("object_id", Id),
    Column("address", String(64)),
    Column("user_agent", String(300)),
    Column("request_id", String(128)),
    Column("detail", JsonObject, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # The newest first, of all or by one filter.
    Index("ix_audit_log_created_at_id", "created_at", "id"),
    Index("ix_audit_log_actor_id_created_at_id", "actor_id", "created_at", "id"),
    Index("ix_audit_log_kind_created_at_id", "kind", "created_at", "id"),
    Index("ix_audit_log_object", "object_type", "object_id", "created_at", "id"),
    sqlite_autoincrement=True,
)

# Rows of the log can be deleted only while a row stands here. The sweep writes one, deletes, and
# removes it, in one transaction: nobody else ever sees the gate open.
audit_sweeps = Table("audit_sweeps", metadata, Column("id", Integer, primary_key=True))


class AuditEntry(NamedTuple):
    """A row of `audit_log`; `credential` is what the actor had signed in by: `session:12`,
    `api_key:3`."""

    id: int
    kind: str
    actor_id: int | None
    credential: str | None
    object_type: str
    object_id: int | None
    address: str | None
    user_agent: str | None
    request_id: str | None
    detail: dict[str, Any]
    created_at: datetime
