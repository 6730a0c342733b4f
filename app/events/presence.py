"""How many are in a room, over all workers; a worker that died is counted no more."""

import asyncio
import secrets
from collections import Counter

from app.adapters.redis import RedisAway, RedisLink

_PREFIX = "kingpost:presence:"
_HEARTBEAT_SECONDS = 5
_LIFE_SECONDS = 15  # of a worker that stopped beating

# KEYS[1] the room, ARGV: this process, the change, the prefix of the heartbeats, the life.
_CHANGE = """
local mine = redis.call('hincrby', KEYS[1], ARGV[1], ARGV[2])
if mine <= 0 then redis.call('hdel', KEYS[1], ARGV[1]) end
redis.call('set', ARGV[3] .. ARGV[1], 1, 'ex', ARGV[4])
local all, total = redis.call('hgetall', KEYS[1]), 0
for i = 1, #all, 2 do
  if redis.call('exists', ARGV[3] .. all[i]) == 1 then total = total + tonumber(all[i + 1])
  else redis.call('hdel', KEYS[1], all[i]) end
end
return total
"""


class Presence:
    """Counts by room: in Redis where there is one, else and while it is away in this process."""

    def __init__(self, link: RedisLink | None) -> None:
        self._link = link
        self._process = secrets.token_hex(8)
        self._here: Counter[str] = Counter()
        self._script = link.client.register_script(_CHANGE) if link else None

    async def change(self, room: str, by: int) -> int:
        """Count somebody in or out; return how many there are now."""
        self._here[room] += by
        here = self._here[room]
        if here <= 0:
            del self._here[room]
        if self._link is None or self._script is None:
            return here
        script = self._script
        arguments: list[str | int] = [self._process, by, f"{_PREFIX}process:", _LIFE_SECONDS]
        try:
            return int(await self._link.run(lambda _: script([f"{_PREFIX}room:{room}"], arguments)))
        except RedisAway:
            return here

    async def run(self) -> None:
        """Beat until cancelled, and write our counts again: Redis may have lost them."""
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            if self._link is None:
                continue
            try:
                await self._link.run(lambda client: self._beat(client))
            except RedisAway:
                continue

    async def _beat(self, client: object) -> None:
        pipeline = client.pipeline(transaction=False)  # type: ignore[attr-defined]
        pipeline.set(f"{_PREFIX}process:{self._process}", 1, ex=_LIFE_SECONDS)
        for room, count in self._here.items():
            pipeline.hset(f"{_PREFIX}room:{room}", self._process, count)
        await pipeline.execute()
