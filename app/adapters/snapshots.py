"""Long reads of one moment, on connections of their own, so that they cannot starve the requests.

A snapshot is held as long as its reader takes. That is why it comes from no pool, why there are
few at once, and why nobody may hold more than half of them.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from app.adapters.database import Connection, Loan, opener
from app.adapters.driver import trace_statements
from app.adapters.engine import READ_ONLY, create_engine
from app.adapters.spans import Begin, End, ended
from app.errors import TooManyExports
from app.settings import Settings

_RETRY_AFTER = 10  # seconds; most exports have ended by then
# While the reader takes in what it was given, the transaction idles; it has its own deadlines.
_IDLE_LIMIT = "SET LOCAL idle_in_transaction_session_timeout = '5min'"


class Snapshots:
    """Lends read-only transactions that see one moment, to a few readers at once."""

    def __init__(self, settings: Settings, *, trace: Begin | None = None) -> None:
        self._engine = create_engine(settings, pooled=False)
        if trace:
            trace_statements(self._engine, trace)
        self.trace: Callable[[], End | None] | None = None
        self._is_postgres = self._engine.dialect.name == "postgresql"
        self._limit = settings.exports_at_once
        self._patience = settings.database_pool_timeout
        self._held: Counter[str] = Counter()
        self._waiting: deque[asyncio.Event] = deque()

    @property
    def open_count(self) -> int:
        """How many are lent out."""
        return self._held.total()

    @asynccontextmanager
    async def open(self, holder: str) -> AsyncIterator[Connection]:
        """Lend a connection that sees the database as of now until it is given back.

        Raises:
            TooManyExports: for a while, all were lent out, or half of them to this holder.
            DatabaseUnavailable: the database is away.
        """
        with ended(self.trace() if self.trace else None):
            await self._wait_for_turn(holder)
            self._held[holder] += 1
            try:
                async with Loan(opener(self._engine)) as connection:
                    await self._begin(connection)
                    yield connection
            finally:
                self._held[holder] -= 1
                self._held += Counter()  # forgets who holds none
                while self._waiting:
                    self._waiting.popleft().set()

    async def _wait_for_turn(self, holder: str) -> None:
        fair_share = (self._limit + 1) // 2
        try:
            async with asyncio.timeout(self._patience):
                while self.open_count >= self._limit or self._held[holder] >= fair_share:
                    given_back = asyncio.Event()
                    self._waiting.append(given_back)
                    await given_back.wait()
        except TimeoutError as error:
            raise TooManyExports(retry_after=_RETRY_AFTER) from error

    async def _begin(self, connection: Connection) -> None:
        if self._is_postgres:
            await connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            await connection.exec_driver_sql(_IDLE_LIMIT)
        else:
            await connection.execution_options(**{READ_ONLY: True})
            await connection.exec_driver_sql("BEGIN")  # deferred: a reader waits for no writer

    async def close(self) -> None:
        """Close what is left."""
        await self._engine.dispose()
