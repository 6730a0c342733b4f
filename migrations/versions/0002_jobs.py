"""Jobs: work that outlives a request."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_OBJECT = JSONB().with_variant(sa.JSON(), "sqlite")
_UNFINISHED = sa.text("status IN ('queued', 'running')")
_QUEUED = sa.text("status = 'queued'")
_RUNNING = sa.text("status = 'running'")


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("kind", sa.String(60), nullable=False),
        sa.Column("arguments", _OBJECT, nullable=False),
        sa.Column("owner_id", _ID),
        sa.Column("key", sa.String(200)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("forgiven", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("detail", _OBJECT),
        sa.Column("result", _OBJECT),
        sa.Column("error", sa.Text()),
        sa.Column("is_cancelling", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("run_after", _TIME, nullable=False),
        sa.Column("leased_until", _TIME),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("started_at", _TIME),
        sa.Column("finished_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="fk_jobs_owner_id_users", ondelete="SET NULL"
        ),
        sqlite_autoincrement=True,
    )
    for name, column, where, is_unique in (
        ("uq_jobs_key", "key", _UNFINISHED, True),
        ("ix_jobs_run_after", "run_after", _QUEUED, False),
        ("ix_jobs_leased_until", "leased_until", _RUNNING, False),
    ):
        op.create_index(
            name, "jobs", [column], unique=is_unique, postgresql_where=where, sqlite_where=where
        )
    for column in ("owner_id", "status", "kind"):
        op.create_index(f"ix_jobs_{column}_id", "jobs", [column, "id"])
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])


def downgrade() -> None:
    op.drop_table("jobs")
