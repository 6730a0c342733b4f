"""Many rows at once, without events: nobody listens to a database that is being filled."""

from collections.abc import Sequence

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.models.items import items
from app.models.users import users
from app.repositories.search import search_text


class SeedingRepository:
    """Bulk inserts, by a connection that somebody else opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add_users(self, count: int, password_hash: str) -> list[int]:
        """Add accounts numbered on from those that are there; return their ids."""
        known = await self._connection.execute(
            select(func.count()).where(users.c.username_key.startswith("seed"))
        )
        first, moment = known.scalar_one() + 1, now()
        rows = [
            {
                "email": f"seed{number}@example.com",
                "email_key": f"seed{number}@example.com",
                "username": f"seed{number}",
                "username_key": f"seed{number}",
                "password_hash": password_hash,
                "roles": ["user"],
                "created_at": moment,
                "updated_at": moment,
            }
            for number in range(first, first + count)
        ]
        return list(await self._connection.scalars(insert(users).returning(users.c.id), rows))

    async def analyze(self) -> None:
        """Count anew what the planner goes by; until then it takes the full tables for empty."""
        await self._connection.exec_driver_sql("ANALYZE")

    async def add_items(self, rows: Sequence[tuple[int, str, int, int, list[str]]]) -> None:
        """Add items given as owner, name, cents, basis points and tags."""
        moment = now()
        await self._connection.execute(
            insert(items),
            [
                {
                    "owner_id": owner_id,
                    "name": name,
                    "price_cents": cents,
                    "discount_basis_points": discount,
                    "tags": tags,
                    "visibility": "public",
                    "metadata": {},
                    "created_at": moment,
                    "updated_at": moment,
                    "search_text": search_text(name, None, tags),
                }
                for owner_id, name, cents, discount, tags in rows
            ],
        )
