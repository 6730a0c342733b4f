"""Webhooks: endpoints, deliveries, and how far the outbox was read for them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_STRINGS = sa.ARRAY(sa.Text()).with_variant(sa.JSON(), "sqlite")
_OBJECT = JSONB().with_variant(sa.JSON(), "sqlite")
_PENDING = sa.text("status = 'pending'")
_ACTIVE = sa.text("is_active")


def upgrade() -> None:
    _create_endpoints()
    _create_deliveries()
    op.create_table(
        "webhook_position",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("event_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_position"),
        sa.CheckConstraint("id = 1", name=op.f("ck_webhook_position_one_row")),
    )
    op.execute(
        "INSERT INTO webhook_position (id, event_id) SELECT 1, coalesce(max(id), 0) FROM events"
    )


def _create_endpoints() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", _ID, nullable=False),
        sa.Column("owner_id", _ID, nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("events", _STRINGS, nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous_secret", sa.Text()),
        sa.Column("previous_expires_at", _TIME),
        sa.Column("disabled_at", _TIME),
        sa.Column("disabled_reason", sa.String(16)),
        sa.Column("failing_since", _TIME),
        sa.Column("after_event_id", _ID, nullable=False),
        sa.Column("leased_by", sa.String(32)),
        sa.Column("leased_until", _TIME),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["users.id"],
            name="fk_webhook_endpoints_owner_id_users",
            ondelete="CASCADE",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_webhook_endpoints_owner_id_id", "webhook_endpoints", ["owner_id", "id"])
    op.create_index(
        "ix_webhook_endpoints_active",
        "webhook_endpoints",
        ["after_event_id"],
        postgresql_where=_ACTIVE,
        sqlite_where=_ACTIVE,
    )


def _create_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", _ID, nullable=False),
        sa.Column("endpoint_id", _ID, nullable=False),
        sa.Column("event_id", _ID),
        sa.Column("message_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(80), nullable=False),
        sa.Column("grounds", sa.String(8), nullable=False),
        sa.Column("public_item_id", _ID),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_attempt_at", _TIME),
        sa.Column("attempted_at", _TIME),
        sa.Column("request_headers", _OBJECT),
        sa.Column("response_status", sa.Integer()),
        sa.Column("response_body", sa.Text()),
        sa.Column("duration_ms", sa.Integer()),
        sa.Column("error", sa.String(300)),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name="fk_webhook_deliveries_endpoint_id_webhook_endpoints",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "endpoint_id", "event_id", name="uq_webhook_deliveries_endpoint_id_event_id"
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_webhook_deliveries_status_known"),
        ),
        sqlite_autoincrement=True,
    )
    for name, columns in {
        "endpoint_id_id": ["endpoint_id", "id"],
        "endpoint_id_status_id": ["endpoint_id", "status", "id"],
        "created_at": ["created_at"],
    }.items():
        op.create_index(f"ix_webhook_deliveries_{name}", "webhook_deliveries", columns)
    for name, columns in {
        "due": ["next_attempt_at"],
        "endpoint_id_due": ["endpoint_id", "next_attempt_at"],
        "subject": ["endpoint_id", "subject", "id"],
    }.items():
        op.create_index(
            f"ix_webhook_deliveries_{name}",
            "webhook_deliveries",
            columns,
            postgresql_where=_PENDING,
            sqlite_where=_PENDING,
        )


def downgrade() -> None:
    for table in ("webhook_position", "webhook_deliveries", "webhook_endpoints"):
        op.drop_table(table)
