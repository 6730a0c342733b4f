"""Runs the migrations, on PostgreSQL and on SQLite alike.

The URL comes from `config.attributes["url"]` where a caller gives one, else from the settings.
"""

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.adapters.engine import UNNAMED_STATEMENTS
from app.models import metadata
from app.settings import Settings

# Full-text and array indexes exist on one database only and are written out in the revisions.
_WRITTEN_BY_HAND = ("ix_items_search", "ix_items_tags", "items_search")
_LOCK_KEY = 5_460_111  # any number: two pods that start together migrate one after the other


# Whoever waits for a lock has all others wait behind it; and two that wait for each other are found
# by PostgreSQL after a second, when it may be the service that is refused. So it is us who give up.
_LOCK_TIMEOUT = "400ms"
_LOCK_NOT_AVAILABLE = "55P03"
_TRIES = 100
_PAUSE_SECONDS = 0.6


def include_name(name: str | None, _kind: str, _parents: object) -> bool:
    """Leave the hand-written objects out of autogenerate and `alembic check`."""
    return not (name or "").startswith(_WRITTEN_BY_HAND)


def run(connection: Connection) -> None:
    """Run the revisions asked for in one transaction."""
    is_postgres = connection.dialect.name == "postgresql"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        compare_type=is_postgres,
        compare_server_default=is_postgres,
        include_name=include_name,
    )
    with context.begin_transaction():
        if is_postgres:
            # Nobody else waits for this one, which another migration may hold for long.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        context.run_migrations()


async def main() -> None:
    """Connect and run."""
    url = context.config.attributes.get("url") or Settings().sqlalchemy_url
    # They run once, so that names would save nothing, and may run through PgBouncer.
    arguments = UNNAMED_STATEMENTS if url.startswith("postgresql") else {}
    engine = create_async_engine(url, poolclass=NullPool, connect_args=dict(arguments))
    for tries_left in reversed(range(_TRIES)):
        try:
            async with engine.connect() as connection:
                await connection.run_sync(run)
                await connection.commit()
            break
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") != _LOCK_NOT_AVAILABLE or not tries_left:
                raise
            await asyncio.sleep(_PAUSE_SECONDS)
    await engine.dispose()


asyncio.run(main())
