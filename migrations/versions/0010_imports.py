"""Imports of items; an index for the few items that are on sale."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LIST = JSONB().with_variant(sa.JSON(), "sqlite")
_ZERO = sa.text("0")
_ON_SALE = sa.text("deleted_at IS NULL AND discount_basis_points > 0")


def upgrade() -> None:
    op.create_table(
        "imports",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("owner_id", _ID, nullable=False),
        sa.Column("key", sa.String(64)),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("format", sa.String(8), nullable=False),
        sa.Column("is_v2", sa.Boolean(), nullable=False),
        sa.Column("is_atomic", sa.Boolean(), nullable=False),
        sa.Column("is_dry_run", sa.Boolean(), nullable=False),
        sa.Column("columns", _LIST),
        sa.Column("position", sa.BigInteger(), server_default=_ZERO, nullable=False),
        sa.Column("next_line", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("accepted", sa.BigInteger(), server_default=_ZERO, nullable=False),
        sa.Column("rejected", sa.BigInteger(), server_default=_ZERO, nullable=False),
        sa.Column("is_finished", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_imports"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_imports_job_id_jobs", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="fk_imports_owner_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_imports_owner_id_key", "imports", ["owner_id", "key"])
    op.create_index("ix_imports_key", "imports", ["key"])
    op.create_table(
        "import_rejections",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("line", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("errors", _LIST, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "line", name="pk_import_rejections"),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["imports.job_id"],
            name="fk_import_rejections_job_id_imports",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_items_on_sale", "items", ["id"], postgresql_where=_ON_SALE, sqlite_where=_ON_SALE
    )


def downgrade() -> None:
    op.drop_index("ix_items_on_sale", "items")
    op.drop_table("import_rejections")
    op.drop_table("imports")
