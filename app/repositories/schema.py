"""Whether the database has the schema that this code was written for."""

from functools import cache
from pathlib import Path

from sqlalchemy import column, select, table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

ROOT = Path(__file__).resolve().parents[2]


@cache
def known_revisions() -> tuple[str, ...]:
    """Return the revisions in `migrations/`, newest first."""
    from alembic.config import Config  # importing it costs a tenth of a second of every start
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    return tuple(revision.revision for revision in script.walk_revisions())


async def current_revision(connection: AsyncConnection) -> str | None:
    """Return the revision that the database is at, or None where nothing was ever migrated."""
    versions = table("alembic_version", column("version_num"))
    try:
        return (await connection.execute(select(versions.c.version_num))).scalar_one_or_none()
    except DBAPIError as error:
        if "alembic_version" in str(error.orig):  # there is no such table
            return None
        raise


async def is_current(connection: AsyncConnection) -> bool:
    """Tell whether the database is at the newest revision or beyond it.

    A revision that we do not know is a newer one: during a roll-out the old code keeps serving on
    the new schema, which is additive first.
    """
    current = await current_revision(connection)
    known = known_revisions()
    return current is not None and (current == known[0] or current not in known)
