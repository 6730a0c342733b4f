"""Who is in a room, over all workers; those of a worker that died are counted no more.

Each process tells Redis how many sockets a person has in a room here, never by how many that has
changed: what is told twice, late or again does no harm. All that a process told stands under its
own name as well, so that whoever notices its death can take it back.
"""

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from app.adapters.redis import RedisAway, RedisLink

HEARTBEAT_SECONDS = 5.0
LIFE_SECONDS = 15.0  # of a process that stopped beating; its people are gone a beat later at most

_PREFIX = "kingpost:presence:"

# The clock of Redis, in µs: one for all processes. `put` writes what a process has of a person in a
# room and returns whom the room has then; a field is "<user> <room>".
_SHARED = """
local prefix, process, time = ARGV[1], ARGV[2], redis.call('time')
local moment = time[1] * 1000000 + time[2]
redis.call('zadd', prefix .. 'beats', moment, process)
local function put(owner, field, count)
  local user, room = string.match(field, '^(%d+) (.*)$')
  local own, people = prefix .. 'of:' .. owner, prefix .. 'people:' .. room
  local change = count - tonumber(redis.call('hget', own, field) or 0)
  if count > 0 then redis.call('hset', own, field, count)
  else redis.call('hdel', own, field) end
  local sockets = redis.call('hincrby', people, user, change)
  if sockets <= 0 then redis.call('hdel', people, user) end
  return room, redis.call('hlen', people), sockets
end
"""
_PUT = (
    _SHARED
    + """
local _, people, sockets = put(process, ARGV[3], tonumber(ARGV[4]))
return {people, sockets, moment}
"""
)
# Beat, take back what dead processes told, and return whose rooms that were and what we have told.
_BEAT = (
    _SHARED
    + """
local emptied = {}
local dead = redis.call('zrangebyscore', prefix .. 'beats', '-inf', moment - ARGV[3] * 1000000)
for _, owner in ipairs(dead) do
  for _, field in ipairs(redis.call('hkeys', prefix .. 'of:' .. owner)) do
    local room, people = put(owner, field, 0)
    emptied[room] = people
  end
  redis.call('zrem', prefix .. 'beats', owner)
end
local rooms = {}
for room, people in pairs(emptied) do
  rooms[#rooms + 1] = room
  rooms[#rooms + 1] = people
end
return {moment, rooms, redis.call('hgetall', prefix .. 'of:' .. process)}
"""
)


class Count(NamedTuple):
    """How many people are in a room, and how many sockets the one who came or went has there."""

    people: int
    sockets: int
    moment: int  # of two counts the later is right; 0 where only this process is counted


class News(NamedTuple):
    """What a beat found out of a room; `user_id` is None where it is about a dead worker's."""

    room: str
    user_id: int | None
    counted: Count


Tell = Callable[[News], Awaitable[None]]


class Presence:
    """Counts people by room: in Redis where there is one, else and while it is away, here."""

    def __init__(self, link: RedisLink | None) -> None:
        self._link = link
        self._process = secrets.token_hex(8)
        self._here: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._turn = asyncio.Lock()  # what is told later must not be overtaken
        self._put = link.client.register_script(_PUT) if link else None
        self._beat = link.client.register_script(_BEAT) if link else None

    async def change(self, room: str, user_id: int, by: int) -> Count:
        """Count a socket of somebody in or out; return who is there now."""
        sockets = self._here[room]
        sockets[user_id] += by
        if not sockets[user_id]:
            del sockets[user_id]
        if not sockets:
            del self._here[room]
        return await self._told(room, user_id)

    async def run(self, tell: Tell) -> None:
        """Beat until cancelled, and tell of what was found out by it."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for news in await self.beat():
                await tell(news)

    async def beat(self) -> list[News]:
        """Say that we live; take back what dead processes told, and mend what Redis has of us."""
        link, script = self._link, self._beat
        if link is None or script is None:
            return []
        arguments: list[str | float] = [_PREFIX, self._process, LIFE_SECONDS]
        try:
            moment, rooms, told = await link.run(lambda _: script((), arguments))
        except RedisAway:
            return []
        dead = [News(room.decode(), None, Count(int(n), 0, moment)) for room, n in _pairs(rooms)]
        known = {field.decode(): int(count) for field, count in _pairs(told)}
        return dead + await self._mended(known)

    async def _mended(self, known: dict[str, int]) -> list[News]:
        """Tell Redis what it does not know; one piece of news for each room is enough."""
        here = {
            f"{user} {room}": n for room, each in self._here.items() for user, n in each.items()
        }
        found: dict[str, News] = {}
        for field in known.keys() | here.keys():
            if known.get(field) != here.get(field):
                user, _, room = field.partition(" ")
                found[room] = News(room, int(user), await self._told(room, int(user)))
        return list(found.values())

    async def _told(self, room: str, user_id: int) -> Count:
        link, script = self._link, self._put
        if link is not None and script is not None:
            async with self._turn:
                count = self._here[room][user_id] if room in self._here else 0
                arguments: list[str | int] = [_PREFIX, self._process, f"{user_id} {room}", count]
                try:
                    return Count(*await link.run(lambda _: script((), arguments)))
                except RedisAway:
                    pass
        people = self._here.get(room, Counter())
        return Count(len(people), people[user_id], 0)


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
