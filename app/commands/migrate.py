"""`kingpost migrate`: the database's revision, and bringing it to the newest one."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.adapters.database import Database
from app.repositories.schema import current_revision, is_served, known_revisions
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def migrate(settings: Settings) -> int:
    """Bring the database to the newest revision; return the exit code."""
    before, after = upgrade(settings)
    print(f"The database {'is' if before == after else 'is now'} at revision {after}.")
    return 0


def check(settings: Settings) -> int:
    """Return 0 where the database is at the newest revision, else 1."""
    current, newest = asyncio.run(_revision(settings)), known_revisions()[0]
    print(f"The database is at revision {current or 'none'}; the newest is {newest}.")
    return 0 if is_served(current) else 1


def upgrade(settings: Settings) -> tuple[str | None, str | None]:
    """Migrate where there is something to do; return the revisions before and after."""
    current = asyncio.run(_revision(settings))
    if is_served(current):
        return current, current
    from alembic import command
    from alembic.config import Config

    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = settings.sqlalchemy_url
    command.upgrade(config, "head")
    return current, known_revisions()[0]


async def _revision(settings: Settings) -> str | None:
    async with opened(settings) as db, db.read() as connection:
        return await current_revision(connection)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """Open the database for one command; the embedded one is made, empty, where there is none."""
    if not settings.database_url:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    db = Database(settings)
    try:
        yield db
    finally:
        await db.close()


def is_migrated(settings: Settings) -> bool:
    """Tell whether a command may use the database; where it may not, say what to do."""
    if is_served(asyncio.run(_revision(settings))):
        return True
    print("The database is not at the newest revision; first: kingpost migrate", file=sys.stderr)
    return False
