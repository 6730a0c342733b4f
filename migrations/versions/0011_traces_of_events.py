"""Which trace an event and a delivery are part of, for those who go on with it."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("traceparent", sa.String(55)))
    op.add_column("webhook_deliveries", sa.Column("traceparent", sa.String(55)))


def downgrade() -> None:
    op.drop_column("webhook_deliveries", "traceparent")
    op.drop_column("events", "traceparent")
