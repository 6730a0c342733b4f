"""Tells which of the visible events are settled: no lower id will become visible any more.

An id is taken before its transaction commits, so that a higher one may become visible first. A
missing id is therefore waited for, until every transaction that was writing events when it was
noticed has ended: then it is either visible, or was rolled back and never will be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.models.events import Event
from app.repositories.events import EventRepository


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing ids below a visible one, and the transactions that may still fill them."""

    below: int = 0
    writers: frozenset[str] = frozenset()

    @classmethod
    async def noticed(cls, repository: EventRepository, below: int) -> "Gap":
        """Return the gap below an id, as it is now."""
        return cls(below, await repository.writers())

    async def has_ended(self, repository: EventRepository) -> bool:
        """Tell whether nobody can fill it any more."""
        return self.writers.isdisjoint(await repository.writers())


class SettledReader:
    """Reads events beyond a position again and again, and remembers the gap that it waits for."""

    def __init__(self, *, is_postgres: bool) -> None:
        self._is_postgres = is_postgres
        self._gap = Gap()

    async def read(
        self, repository: EventRepository, position: int, limit: int
    ) -> tuple[Sequence[Event], Sequence[Event]]:
        """Return the visible events beyond a position, and those of them that are settled."""
        # First who has ended, then the events: what had ended by then is visible.
        is_final = self._gap.below > 0 and await self._gap.has_ended(repository)
        batch = await repository.after(position, limit)
        if not self._is_postgres:
            return batch, batch  # one writer: ids are taken in the order of the commits
        settled = settled_part(batch, position, self._gap.below if is_final else 0)
        if len(settled) == len(batch):
            self._gap = Gap()
        elif is_final or not self._gap.below:
            self._gap = await Gap.noticed(repository, batch[-1].id)
        return batch, settled


def settled_part(batch: Sequence[Event], position: int, final_below: int) -> Sequence[Event]:
    """Return the events before the first gap that may still be filled."""
    expected = position + 1
    for index, event in enumerate(batch):
        if event.id != expected and event.id > final_below:
            return batch[:index]
        expected = event.id + 1
    return batch
