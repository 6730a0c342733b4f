"""Accounts, sessions, items with full-text search, the event outbox, idempotency keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_STRINGS = sa.ARRAY(sa.Text()).with_variant(sa.JSON(), "sqlite")
_OBJECT = JSONB().with_variant(sa.JSON(), "sqlite")
_NAME = sa.String(100, collation="C").with_variant(sa.String(100), "sqlite")
_LIVE = sa.text("deleted_at IS NULL")

# External content: the words stay in `items`, FTS5 keeps only its index of them. The `ascii`
# tokenizer takes our own words as they are, since it splits at ASCII punctuation alone.
_FTS5 = (
    """
    CREATE VIRTUAL TABLE items_search
    USING fts5(search_text, content='items', content_rowid='id', tokenize='ascii')
    """,
    """
    CREATE TRIGGER items_search_insert AFTER INSERT ON items BEGIN
        INSERT INTO items_search(rowid, search_text) VALUES (new.id, new.search_text);
    END
    """,
    """
    CREATE TRIGGER items_search_delete AFTER DELETE ON items BEGIN
        INSERT INTO items_search(items_search, rowid, search_text)
        VALUES ('delete', old.id, old.search_text);
    END
    """,
    """
    CREATE TRIGGER items_search_update AFTER UPDATE OF search_text ON items BEGIN
        INSERT INTO items_search(items_search, rowid, search_text)
        VALUES ('delete', old.id, old.search_text);
        INSERT INTO items_search(rowid, search_text) VALUES (new.id, new.search_text);
    END
    """,
)


def upgrade() -> None:
    _create_accounts()
    _create_items()
    _create_events()


def _create_accounts() -> None:
    op.create_table(
        "users",
        sa.Column("id", _ID, nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("email_key", sa.String(640), nullable=False),
        sa.Column("username", sa.String(50), nullable=False),
        sa.Column("username_key", sa.String(200), nullable=False),
        sa.Column("full_name", sa.String(100)),
        sa.Column("password_hash", sa.Text()),
        sa.Column("roles", _STRINGS, nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("is_verified", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("deleted_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email_key", name="uq_users_email_key"),
        sa.UniqueConstraint("username_key", name="uq_users_username_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "login_failures",
        sa.Column("account_key", sa.String(64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", _TIME),
        sa.Column("last_failed_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("account_key", name="pk_login_failures"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("seed", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("rotated_at", _TIME, nullable=False),
        sa.Column("user_agent", sa.String(300)),
        sa.Column("address", sa.String(64)),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("last_used_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_sessions_user_id_users", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_sessions_user_id_open",
        "sessions",
        ["user_id"],
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_table(
        "one_time_tokens",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_one_time_tokens"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_one_time_tokens_user_id_users", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name="fk_one_time_tokens_session_id_sessions",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_one_time_tokens_expires_at", "one_time_tokens", ["expires_at"])
    op.create_index("ix_one_time_tokens_user_id", "one_time_tokens", ["user_id"])


def _create_items() -> None:
    op.create_table(
        "items",
        sa.Column("id", _ID, nullable=False),
        sa.Column("owner_id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("price_cents", sa.BigInteger(), nullable=False),
        sa.Column(
            "discount_basis_points", sa.Integer(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("tags", _STRINGS, nullable=False),
        sa.Column("visibility", sa.String(16), nullable=False),
        sa.Column("display_name", sa.String(200)),
        sa.Column("metadata", _OBJECT, nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("deleted_at", _TIME),
        sa.Column("search_text", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_items"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_items_owner_id_users"),
        sa.CheckConstraint("price_cents > 0", name=op.f("ck_items_price_positive")),
        sa.CheckConstraint(
            "discount_basis_points BETWEEN 0 AND 10000", name=op.f("ck_items_discount_in_range")
        ),
        sa.CheckConstraint(
            "visibility IN ('public', 'private')", name=op.f("ck_items_visibility_known")
        ),
        sqlite_autoincrement=True,
    )
    for column in ("owner_id", "name", "price_cents", "created_at"):
        op.create_index(
            f"ix_items_{column}_id",
            "items",
            [column, "id"],
            postgresql_where=_LIVE,
            sqlite_where=_LIVE,
        )
    op.create_index("ix_items_deleted_at", "items", ["deleted_at"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE INDEX ix_items_search ON items "
            "USING gin (array_to_tsvector(string_to_array(search_text, ' ')))"
        )
        op.execute("CREATE INDEX ix_items_tags ON items USING gin (tags)")
    else:
        for statement in _FTS5:
            op.execute(statement)


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", _ID, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(60), nullable=False),
        sa.Column("subject_id", _ID, nullable=False),
        sa.Column("owner_id", _ID),
        sa.Column("audience", sa.String(16), nullable=False),
        sa.Column("data", _OBJECT, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_created_at", "events", ["created_at"])
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.String(100), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", _OBJECT, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        op.execute("DROP TABLE items_search")
    for table in (
        "idempotency_keys",
        "events",
        "items",
        "one_time_tokens",
        "sessions",
        "login_failures",
        "users",
    ):
        op.drop_table(table)
