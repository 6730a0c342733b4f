"""The database: one engine per process, autocommit reads, explicit transactions, clear outages.

A read is one statement on an autocommit connection: BEGIN and ROLLBACK would each cost a round
trip. A write runs in `transaction()`, which commits before the caller goes on to answer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from contextvars import ContextVar

import asyncpg
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from app.adapters.driver import (
    DRIVER_ERRORS,
    AtHand,
    DirectConnection,
    trace_statements,
)
from app.adapters.engine import READ_ONLY, create_engine
from app.adapters.spans import Begin
from app.errors import DatabaseUnavailable
from app.settings import Settings

# Class 08 connection lost, 53 out of resources, 57 operator intervention (timeouts, shutdown),
# 55P03 lock timeout, 40 serialisation or deadlock: the client should simply come back.
_TRANSIENT_SQLSTATES = ("08", "53", "57", "55P03", "40")

_LEFT = "kingpost_left_for_commit"

Connection = AsyncConnection
Take = Callable[[], Awaitable[AsyncConnection]]


class UnitOfWork:
    """One transaction for all that a request changes, begun when it first changes something."""

    def __init__(
        self,
        begin: Callable[[], AbstractAsyncContextManager[AsyncConnection]],
        stack: AsyncExitStack,
    ) -> None:
        self._begin = begin
        self._stack = stack
        self.begun: AsyncConnection | None = None  # set once something asked for the transaction
        self.is_open = True

    async def connection(self) -> AsyncConnection:
        """Return the unit's connection, beginning the transaction if this is the first call."""
        if self.begun is None:
            self.begun = await self._stack.enter_async_context(self._begin())
        return self.begun

    def left(self) -> Sequence[int]:
        """Return the jobs that were queued inside."""
        return self.begun.info.pop(_LEFT, ()) if self.begun is not None else ()

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what is changed inside if it raises, and nothing else."""
        async with (await self.connection()).begin_nested():
            yield


def leave_for_commit(connection: AsyncConnection, job_id: int) -> None:
    """Have `Database.on_enqueued` told of a job once the connection's transaction is committed."""
    connection.info.setdefault(_LEFT, []).append(job_id)


_current_unit: ContextVar[UnitOfWork | None] = ContextVar("kingpost_unit_of_work", default=None)


def _open_unit() -> UnitOfWork | None:
    """Return the unit of this context; a task that outlives its request sees none."""
    unit = _current_unit.get()
    return unit if unit is not None and unit.is_open else None


class Database:
    """The engine of one process and the two ways to use it."""

    def __init__(self, settings: Settings, *, trace: Begin | None = None) -> None:
        self.engine = create_engine(settings)
        if trace:
            trace_statements(self.engine, trace)
        self._lender = Lender(
            size=settings.database_pool_size, patience=settings.database_pool_timeout
        )
        # Half of the pool stays free for what is short.
        self._long_ones = asyncio.Semaphore(max(1, settings.database_pool_size // 2))
        self.after_commit: list[Callable[[], None]] = []
        self.on_enqueued: list[Callable[[Sequence[int]], None]] = []
        self.is_postgres = self.engine.dialect.name == "postgresql"
        autocommit = self.engine.execution_options(
            **({"isolation_level": "AUTOCOMMIT"} if self.is_postgres else {READ_ONLY: True})
        )
        self._at_hand = AtHand(autocommit)
        self._reads = self._at_hand.take if self.is_postgres else opener(autocommit)
        self._writes = self._at_hand.take if self.is_postgres else opener(self.engine)

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend an autocommit connection, for statements that each stand alone.

        Inside a `unit_of_work` that has begun, it is that unit's connection: what the unit has
        changed must be seen by what it reads.

        Raises:
            DatabaseUnavailable: no connection within the pool's timeout, or the database is away.
        """
        unit = _open_unit()
        if unit is not None and unit.begun is not None:
            return nullcontext(unit.begun)
        return self._lend(self._reads)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in a transaction: committed at the end, rolled back on an error.

        Each function in `after_commit` is called once the change is there for others to see, and
        those in `on_enqueued` with the jobs that were queued.
        Inside `unit_of_work` it joins that unit's one transaction instead.

        Raises:
            DatabaseUnavailable: as in `read`, or the transaction could not be committed.
        """
        unit = _open_unit()
        if unit is not None:
            yield await unit.connection()
            return
        async with self._begun() as connection:
            yield connection
            left = connection.info.pop(_LEFT, ())
        self._committed(left)

    @asynccontextmanager
    async def long_transaction(self) -> AsyncIterator[AsyncConnection]:
        """Lend a `transaction()` that takes more than moments; it waits for others of its kind.

        Raises:
            DatabaseUnavailable: as in `transaction`.
        """
        async with self._long_ones, self.transaction() as connection:
            yield connection

    @asynccontextmanager
    async def single_change(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection for a change that a repository makes in one statement on PostgreSQL.

        It commits by itself there, without the round trips of BEGIN and COMMIT. On SQLite, and
        inside a `unit_of_work`, it is a `transaction()`.
        """
        if not self.is_postgres or _open_unit() is not None:
            async with self.transaction() as connection:
                yield connection
            return
        async with self._lend(self._reads) as connection:
            yield connection
            left = connection.info.pop(_LEFT, ())
        self._committed(left)

    @asynccontextmanager
    async def unit_of_work(self, *, lock: int | None = None) -> AsyncIterator["UnitOfWork"]:
        """Make every `transaction()` inside one, begun at the first and committed at the end.

        A connection is taken only when the first transaction begins. With `lock`, of all units
        that ask for the same one only one can have begun; SQLite has one writer anyway.
        A unit inside a unit is the same unit.

        Raises:
            LockHeld: where the transaction is to begin, and another unit has the lock.
        """
        outer = _open_unit()
        if outer is not None:
            yield outer
            return
        async with AsyncExitStack() as stack:
            unit = UnitOfWork(lambda: self._begun(lock), stack)
            token = _current_unit.set(unit)
            try:
                yield unit
            finally:
                unit.is_open = False
                _current_unit.reset(token)
            left = unit.left()
        if unit.begun is not None:
            self._committed(left)

    def _lend(self, take: Take) -> "Loan":
        return Loan(take, lender=self._lender)

    @asynccontextmanager
    async def _begun(self, lock: int | None = None) -> AsyncIterator[AsyncConnection]:
        async with self._lend(self._writes) as connection:
            connection.info.pop(_LEFT, None)  # of one that was rolled back
            direct = connection if isinstance(connection, DirectConnection) else None
            async with direct.begun(lock) if direct else connection.begin():
                yield connection

    def _committed(self, enqueued: Sequence[int]) -> None:
        for callback in self.after_commit:
            callback()
        if enqueued:
            for told in self.on_enqueued:
                told(enqueued)

    async def ping(self) -> None:
        """Ask the database for an answer.

        Raises:
            DatabaseUnavailable: there was none.
        """
        async with self.read() as connection:
            await connection.exec_driver_sql("SELECT 1")

    def pool_use(self) -> tuple[int, int]:
        """Return how many connections are open, and how many of them are lent out."""
        pool = self.engine.pool
        if not isinstance(pool, AsyncAdaptedQueuePool):
            return 0, 0
        in_use = pool.checkedout() - len(self._at_hand)
        return pool.checkedin() + pool.checkedout(), in_use

    async def close(self) -> None:
        """Close every pooled connection."""
        self._at_hand.clear()
        await self.engine.dispose()


class Lender:
    """Lends the pool's connections in the order of asking.

    The pool by itself hands a returned connection to whoever asks next, and sends who has waited
    longest to the end of the line again: under load that alone multiplied the 99th percentile.
    """

    def __init__(self, *, size: int, patience: float) -> None:
        self._turns = asyncio.Semaphore(size)
        self._patience = patience

    async def wait_for_turn(self) -> None:
        """Wait until a connection is there for the caller.

        Raises:
            DatabaseUnavailable: none was within the patience.
        """
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError as error:
            raise DatabaseUnavailable from error

    def end_turn(self) -> None:
        """Let the next one have the connection."""
        self._turns.release()


def opener(engine: AsyncEngine) -> Take:
    """Return what opens a connection of an engine by SQLAlchemy's own way."""
    return lambda: engine.connect().start()


class Loan:
    """A connection, to be used in `async with`; tells an outage from an error.

    With a `lender` it waits for its turn. It is a class because every request has one, and a
    generator in its place costs three times as much.

    Raises:
        DatabaseUnavailable: no connection within the lender's patience, or the database is away.
    """

    __slots__ = ("_connection", "_lender", "_take")

    def __init__(self, take: Take, *, lender: Lender | None = None) -> None:
        self._take = take
        self._lender = lender

    async def __aenter__(self) -> AsyncConnection:
        """Open the connection."""
        if self._lender is not None:
            await self._lender.wait_for_turn()
        try:
            self._connection = await self._opened()
        except BaseException:
            self._end_turn()
            raise
        return self._connection

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> None:
        """Give it back."""
        try:
            await self._connection.close()
        finally:
            self._end_turn()
        if isinstance(error, (*DRIVER_ERRORS, exc.DBAPIError)) and is_outage(error):
            raise DatabaseUnavailable from error

    async def _opened(self) -> AsyncConnection:
        try:
            return await self._take()
        except (*DRIVER_ERRORS, exc.TimeoutError, exc.DBAPIError, OSError, TimeoutError) as error:
            raise DatabaseUnavailable from error

    def _end_turn(self) -> None:
        if self._lender is not None:
            self._lender.end_turn()


def is_outage(error: Exception) -> bool:
    """Tell whether an error says that the database is away or overloaded, and not that we err."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate).startswith(_TRANSIENT_SQLSTATES)
    if isinstance(error, DRIVER_ERRORS):
        return True
    if not isinstance(error, exc.DBAPIError):
        return False
    if error.connection_invalidated or isinstance(error, exc.InterfaceError):
        return True
    sqlstate = getattr(error.orig, "sqlstate", None)
    if sqlstate is not None:
        return str(sqlstate).startswith(_TRANSIENT_SQLSTATES)
    return isinstance(error, exc.OperationalError) and "locked" in str(error.orig)


def violated_constraint(error: exc.IntegrityError) -> str:
    """Return the name of the constraint that an insert or update broke, the same on both databases.

    SQLite names the columns (`UNIQUE constraint failed: users.email_key`); the naming convention
    of the metadata turns them into the name.
    """
    cause = getattr(error.orig, "__cause__", None)
    name = getattr(cause, "constraint_name", None)
    if name:
        return str(name)
    message = str(error.orig)
    kind, _, columns = message.partition(" constraint failed: ")
    if kind != "UNIQUE":
        return message
    table, column = columns.split(",")[0].strip().split(".")
    return f"uq_{table}_{column}"
