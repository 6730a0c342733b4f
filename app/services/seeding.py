"""Fills a database with accounts and items, for benchmarks and demonstrations."""

import random

from app.adapters.database import Database
from app.repositories.seeding import SeedingRepository
from app.security.passwords import PasswordHasher

_BATCH = 500
PASSWORD = "seeded account 1"  # noqa: S105 - printed in the docs: these accounts are for show
_WORDS = ("Oak", "Steel", "Blue", "Small", "Folding", "Round", "Desk", "Chair", "Lamp", "Shelf")


async def seed(db: Database, *, users: int, items: int) -> None:
    """Add accounts `seed1…` with one known password, and items spread over them."""
    hasher = PasswordHasher(concurrency=1)
    try:
        password_hash = await hasher.hash(PASSWORD)
    finally:
        hasher.close()
    async with db.transaction() as connection:
        owner_ids = await SeedingRepository(connection).add_users(users, password_hash)
    chance = random.Random(7)  # noqa: S311 - the same data each time
    for start in range(0, items, _BATCH):
        rows = [
            (
                chance.choice(owner_ids),
                " ".join(chance.sample(_WORDS, 3)) + f" {number}",
                chance.randint(100, 100_000),
                chance.choice((0, 0, 0, 1000, 2500)),
                chance.sample(("office", "home", "garden", "sale", "new"), 2),
            )
            for number in range(start, min(start + _BATCH, items))
        ]
        async with db.transaction() as connection:
            await SeedingRepository(connection).add_items(rows)
    async with db.transaction() as connection:
        await SeedingRepository(connection).analyze()
