"""Figures over the catalogue, computed once for everybody and cached."""

from app.adapters.cache import Cache, CacheEntry
from app.adapters.database import Database
from app.repositories.items import ItemRepository
from app.schemas.items import DayCount, ItemStats, PriceStats, TagCount

_TAGS = 20
_DAYS = 30


async def cached(cache: Cache, db: Database, ttl_seconds: int) -> CacheEntry:
    """Return the statistics as JSON with their ETag, at most `ttl_seconds` old."""

    async def compute() -> bytes:
        return (await item_statistics(db)).model_dump_json().encode()

    return await cache.get_or_compute("item-statistics", "all", ttl_seconds, compute)


async def item_statistics(db: Database) -> ItemStats:
    """Compute the statistics of all live items as of now."""
    async with db.read() as connection:
        repository = ItemRepository(connection)
        counts = await repository.counts()
        by_tag = await repository.count_by_tag(_TAGS)
        by_day = await repository.count_by_day(_DAYS)
    total, sum_cents = counts.total, counts.sum
    return ItemStats(
        total=total,
        public=counts.public,
        private=total - counts.public,
        on_sale=counts.on_sale,
        owners=counts.owners,
        price=PriceStats(
            min=_units(counts.min),
            max=_units(counts.max),
            sum=_units(sum_cents),
            average=round(int(sum_cents) / total / 100, 2) if total else None,
        ),
        by_tag=[TagCount(tag=tag, count=count) for tag, count in by_tag],
        by_day=[DayCount(day=day, count=count) for day, count in by_day],
    )


def _units(cents: int | None) -> float | None:
    return None if cents is None else int(cents) / 100
