"""Whether the database has the schema that this code was written for."""

from functools import cache
from pathlib import Path

from sqlalchemy import column, select, table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

ROOT = Path(__file__).resolve().parents[2]


@cache
def known_revisions() -> tuple[str, ...]:
    """Return the revisions in `migrations/` by their files' names, newest first.

    Alembic would import itself and each of them: a tenth of a second of a start, or of the loop at
    the first question whether a process is ready, and seconds on a busy machine.
    """
    files = (ROOT / "migrations/versions").glob("*_*.py")
    return tuple(sorted((path.name.partition("_")[0] for path in files), reverse=True))


def is_served(revision: str | None) -> bool:
    """Tell whether this code can serve a database that is at a revision: the newest, or beyond it.

    One that we do not know is a newer one: during a roll-out the old code keeps serving on the new
    schema, which is additive first.
    """
    known = known_revisions()
    return revision is not None and (revision == known[0] or revision not in known)


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
    """Tell whether the database has a schema that this code can serve."""
    return is_served(await current_revision(connection))
