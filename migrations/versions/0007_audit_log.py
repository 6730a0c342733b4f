"""The audit log, which the database itself keeps append-only, and why an account is suspended."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_OBJECT = JSONB().with_variant(sa.JSON(), "sqlite")
_GONE = sa.text("deleted_at IS NOT NULL")

_GUARD_ON_POSTGRES = (
    """
    CREATE FUNCTION refuse_change_of_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        is_sweep boolean := false;
    BEGIN
        IF TG_OP = 'DELETE' THEN
            -- Of the log's own schema: a temporary table of that name opens nothing.
            EXECUTE format('SELECT EXISTS (SELECT FROM %I.audit_sweeps)', TG_TABLE_SCHEMA)
               INTO is_sweep;
        END IF;
        IF is_sweep THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
    END
    $$
    """,
    """
    CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_audit_log()
    """,
    """
    CREATE TRIGGER audit_log_is_never_emptied BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_log()
    """,
)
_GUARD_ON_SQLITE = (
    """
    CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE ON audit_log BEGIN
        SELECT RAISE(ABORT, 'the audit log is append-only');
    END
    """,
    """
    CREATE TRIGGER audit_log_is_append_only BEFORE DELETE ON audit_log
    WHEN NOT EXISTS (SELECT 1 FROM audit_sweeps) BEGIN
        SELECT RAISE(ABORT, 'the audit log is append-only');
    END
    """,
)


def upgrade() -> None:
    op.add_column("users", sa.Column("suspended_for", sa.String(300)))
    op.create_table(
        "audit_log",
        sa.Column("id", _ID, nullable=False),
        sa.Column("kind", sa.String(60), nullable=False),
        sa.Column("actor_id", _ID),
        sa.Column("credential", sa.String(60)),
        sa.Column("object_type", sa.String(40), nullable=False),
        sa.Column("object_id", _ID),
        sa.Column("address", sa.String(64)),
        sa.Column("user_agent", sa.String(300)),
        sa.Column("request_id", sa.String(128)),
        sa.Column("detail", _OBJECT, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        sqlite_autoincrement=True,
    )
    newest = ["created_at", "id"]
    op.create_index("ix_audit_log_created_at_id", "audit_log", newest)
    op.create_index("ix_audit_log_actor_id_created_at_id", "audit_log", ["actor_id", *newest])
    op.create_index("ix_audit_log_kind_created_at_id", "audit_log", ["kind", *newest])
    op.create_index("ix_audit_log_object", "audit_log", ["object_type", "object_id", *newest])
    op.create_table(
        "audit_sweeps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_sweeps"),
    )
    # For what an account takes home: its items, also those that are deleted.
    op.create_index(
        "ix_items_deleted",
        "items",
        ["owner_id", "id"],
        postgresql_where=_GONE,
        sqlite_where=_GONE,
    )
    is_postgres = op.get_bind().dialect.name == "postgresql"
    for statement in _GUARD_ON_POSTGRES if is_postgres else _GUARD_ON_SQLITE:
        op.execute(statement)


def downgrade() -> None:
    op.drop_index("ix_items_deleted", "items")
    op.drop_table("audit_log")
    op.drop_table("audit_sweeps")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change_of_audit_log()")
    op.drop_column("users", "suspended_for")
