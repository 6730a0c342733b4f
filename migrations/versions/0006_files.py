"""Files of items."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_AWAITED = sa.text("expires_at IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", _ID, nullable=False),
        sa.Column("item_id", _ID, nullable=False),
        sa.Column("owner_id", _ID, nullable=False),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("content_type", sa.String(100), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("has_thumbnail", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
        sa.ForeignKeyConstraint(
            ["item_id"], ["items.id"], name="fk_files_item_id_items", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_files_owner_id_users"),
        sa.UniqueConstraint("key", name="uq_files_key"),
        sa.CheckConstraint("size >= 0", name=op.f("ck_files_size_not_negative")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_files_item_id_id", "files", ["item_id", "id"])
    op.create_index("ix_files_owner_id", "files", ["owner_id"])
    op.create_index(
        "ix_files_expires_at",
        "files",
        ["expires_at"],
        postgresql_where=_AWAITED,
        sqlite_where=_AWAITED,
    )


def downgrade() -> None:
    op.drop_table("files")
