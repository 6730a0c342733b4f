"""Webhooks: where to send events, what is sent, and how far the outbox was read for it."""

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
    true,
)

from app.models.base import Id, JsonObject, StringList, UtcDateTime, metadata

_PENDING = text("status = 'pending'")


class DeliveryStatus(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"  # to be sent, now or once more
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # given up
    CANCELLED = "cancelled"  # its endpoint was turned off, or may not have it any more


class Grounds(StrEnum):
    """Why an endpoint's owner may have an event; asked again before each attempt."""

    OWN = "own"
    PUBLIC = "public"
    ADMIN = "admin"


class DisabledReason(StrEnum):
    """Why an endpoint is off."""

    OWNER = "owner"  # they said so
    GONE = "gone"  # it answered 410
    FAILING = "failing"  # it has not answered 2xx for days


webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Id, primary_key=True),
    Column("owner_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("url", String(2000), nullable=False),
    Column("events", StringList, nullable=False),
    Column("is_active", Boolean, nullable=False, server_default=true()),
    # Sealed under a key of SECRET_KEY (security/sealing): we must sign with them.
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),
    Column("previous_expires_at", UtcDateTime),
    Column("disabled_at", UtcDateTime),
    Column("disabled_reason", String(16)),
    Column("failing_since", UtcDateTime),
    Column("after_event_id", Id, nullable=False),
    Column("leased_by", String(32)),
    Column("leased_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_webhook_endpoints_owner_id_id", "owner_id", "id"),
    Index(
        "ix_webhook_endpoints_active",
        "after_event_id",
        postgresql_where=text("is_active"),
        sqlite_where=text("is_active"),
    ),
    sqlite_autoincrement=True,
)


class WebhookEndpoint(NamedTuple):
    """A row of `webhook_endpoints`.

    `events` are the kinds it asks for, none meaning every kind; it gets those that come after
    `after_event_id`. The process that holds the lease is the only one to send to it.
    """

    id: int
    owner_id: int
    url: str
    events: list[str]
    is_active: bool
    secret: str
    previous_secret: str | None
    previous_expires_at: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    after_event_id: int
    leased_by: str | None
    leased_until: datetime | None
    created_at: datetime
    updated_at: datetime


webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Id, primary_key=True),
    Column(
        "endpoint_id", Id, ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False
    ),
    Column("event_id", Id),
    Column("message_id", String(64), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("grounds", String(8), nullable=False),
    Column("public_item_id", Id),
    Column("payload", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_at", UtcDateTime),
    Column("attempted_at", UtcDateTime),
    Column("request_headers", JsonObject),
    Column("response_status", Integer),
    Column("response_body", Text),
    Column("duration_ms", Integer),
    Column("error", String(300)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("traceparent", String(55)),
    UniqueConstraint("endpoint_id", "event_id"),
    CheckConstraint(
        "status IN ('pending', 'succeeded', 'failed', 'cancelled')", name="status_known"
    ),
    Index("ix_webhook_deliveries_endpoint_id_id", "endpoint_id", "id"),
    Index("ix_webhook_deliveries_endpoint_id_status_id", "endpoint_id", "status", "id"),
    Index(
        "ix_webhook_deliveries_due",
        "next_attempt_at",
        postgresql_where=_PENDING,
        sqlite_where=_PENDING,
    ),
    Index(
        "ix_webhook_deliveries_endpoint_id_due",
        "endpoint_id",
        "next_attempt_at",
        postgresql_where=_PENDING,
        sqlite_where=_PENDING,
    ),
    Index(
        "ix_webhook_deliveries_subject",
        "endpoint_id",
        "subject",
        "id",
        postgresql_where=_PENDING,
        sqlite_where=_PENDING,
    ),
    Index("ix_webhook_deliveries_created_at", "created_at"),
    sqlite_autoincrement=True,
)


class WebhookDelivery(NamedTuple):
    """A row of `webhook_deliveries`: one message for one endpoint, and its last attempt.

    `public_item_id` is the item by whose being public the owner may have it, where that is why.
    """

    id: int
    endpoint_id: int
    event_id: int | None
    message_id: str
    kind: str
    subject: str
    grounds: str
    public_item_id: int | None
    payload: str
    status: str
    attempt: int
    next_attempt_at: datetime | None
    attempted_at: datetime | None
    request_headers: dict[str, Any] | None
    response_status: int | None
    response_body: str | None
    duration_ms: int | None
    error: str | None
    created_at: datetime
    traceparent: str | None


# One row: the last event that has been turned into deliveries, by whichever process.
webhook_position = Table(
    "webhook_position",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("event_id", Id, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
