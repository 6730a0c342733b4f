"""`kingpost seed`: fills a database with accounts and items to try things on."""

import argparse
import asyncio
import sys

from app.commands.migrate import is_migrated, opened
from app.services.seeding import seed
from app.settings import Settings


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Fill the database; return the exit code: 0 done, 1 failed, 2 refused."""
    if settings.is_production and not options.in_production:
        print("Everybody knows the seeded accounts' password: --in-production", file=sys.stderr)
        return 2
    if not is_migrated(settings):
        return 1
    asyncio.run(_fill(settings, options.users, options.items))
    print(f"Seeded {options.users} accounts and {options.items} items.")
    return 0


async def _fill(settings: Settings, users: int, items: int) -> None:
    async with opened(settings) as db:
        await seed(db, users=users, items=items)
