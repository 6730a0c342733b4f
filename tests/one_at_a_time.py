"""Holds the whole suite to a law: who holds a connection of the pool waits for no second one.

Once all connections were held by such, they would wait for one another until the pool's timeout.
"""

import asyncio
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from app.adapters import database

_APP = str(Path(database.__file__).parents[1])
_BETWEEN = ("/database.py", "/contextlib.py", "/one_at_a_time.py")
_held: ContextVar[tuple[str, asyncio.Task[Any] | None] | None] = ContextVar("held", default=None)
_enter, _exit = database.Loan.__aenter__, database.Loan.__aexit__


def hold_to_it() -> None:
    """Let the app fail where it asks for a connection and holds one; tests may do so."""

    async def enter(loan: database.Loan) -> database.Connection:
        if loan._lender is None:
            return await _enter(loan)
        asker, held = _asker(), _held.get()
        task = asyncio.current_task()
        if asker and held and held[1] is task:  # another task's is not waited for
            raise AssertionError(f"{asker} wants a connection while {held[0]} holds one")
        connection = await _enter(loan)
        _held.set((asker, task) if asker else None)
        return connection

    async def leave(loan: database.Loan, *error: Any) -> None:
        if loan._lender is not None:
            _held.set(None)
        await _exit(loan, *error)

    database.Loan.__aenter__ = enter  # type: ignore[method-assign, assignment]
    database.Loan.__aexit__ = leave  # type: ignore[method-assign, assignment]


def _asker() -> str | None:
    """Return the place in the app that asks; None if it is a test."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.endswith(_BETWEEN) and frame.f_back:
        frame = frame.f_back
    path = frame.f_code.co_filename
    return f"{path}:{frame.f_lineno}" if path.startswith(_APP) else None
