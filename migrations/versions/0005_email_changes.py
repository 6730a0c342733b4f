"""Changes of an e-mail address that wait; an index to find where a user has signed in of late."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "email_changes",
        sa.Column("user_id", _ID, autoincrement=False, nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("email_key", sa.String(640), nullable=False),
        sa.Column("old_confirmed_at", _TIME),
        sa.Column("new_confirmed_at", _TIME),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_email_changes"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_email_changes_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_email_changes_expires_at", "email_changes", ["expires_at"])
    op.create_index("ix_sessions_user_id_last_used_at", "sessions", ["user_id", "last_used_at"])


def downgrade() -> None:
    op.drop_index("ix_sessions_user_id_last_used_at", "sessions")
    op.drop_table("email_changes")
