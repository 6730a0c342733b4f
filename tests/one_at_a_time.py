"""Holds the whole suite to a law: who holds a connection of the pool waits for no second one.

Once all connections were held by such, they would wait for one another until the pool's timeout.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.adapters import database

_APP = str(Path(database.__file__).parents[1])
_BETWEEN = ("database.py", "contextlib.py", "one_at_a_time.py")
_held: ContextVar[tuple[str, asyncio.Task[Any] | None] | None] = ContextVar("held", default=None)
_lend = database.Lender.lend


def hold_to_it() -> None:
    """Let the app fail where it asks for a connection and holds one; tests may do so."""

    @asynccontextmanager
    async def lend(
        self: database.Lender, engine: AsyncEngine, **options: Any
    ) -> AsyncIterator[AsyncConnection]:
        asker, held = _asker(), _held.get()
        task = asyncio.current_task()
        if asker and held and held[1] is task:  # another task's is not waited for
            raise AssertionError(f"{asker} wants a connection while {held[0]} holds one")
        async with _lend(self, engine, **options) as connection:
            _held.set((asker, task) if asker else None)
            try:
                yield connection
            finally:
                _held.set(None)

    database.Lender.lend = lend  # type: ignore[method-assign]


def _asker() -> str | None:
    """Return the place in the app that asks; None if it is a test."""
    frame = sys._getframe(1)
    while Path(frame.f_code.co_filename).name in _BETWEEN and frame.f_back:
        frame = frame.f_back
    path = frame.f_code.co_filename
    return f"{path}:{frame.f_lineno}" if path.startswith(_APP) else None
