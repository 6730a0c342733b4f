"""The engine: how a connection to PostgreSQL or SQLite is made, kept in the pool, and replaced."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json
from sqlalchemy import event, exc
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlalchemy.util import await_only

from app.adapters.driver import is_fresh, let_go_of_lost
from app.settings import Settings

READ_ONLY = "kingpost_autocommit"  # the execution option that tells SQLite not to BEGIN
_PING_PATIENCE = 2.0  # seconds, and not those of a statement: it has nothing to do

# Where each transaction may have another server connection (PgBouncer in transaction mode), a named
# statement is missing on the next one, or is there already, or stays there for ever.
UNNAMED_STATEMENTS: Mapping[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": str,  # the empty name
}


def create_engine(settings: Settings, *, pooled: bool = True) -> AsyncEngine:
    """Return an engine for these settings, with their pool, or a new connection each time."""
    url = settings.sqlalchemy_url
    pool: dict[str, Any] = {
        "pool_size": settings.database_pool_size,
        "max_overflow": 0,
        "pool_timeout": settings.database_pool_timeout,
        "pool_use_lifo": not url.startswith("sqlite"),
    }
    options: dict[str, Any] = {
        **(pool if pooled else {"poolclass": NullPool}),
        "json_deserializer": from_json,
        "hide_parameters": True,  # an error's text must not carry a password hash into the log
    }
    if url.startswith("sqlite"):
        engine = create_async_engine(url, **options)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
        return engine
    engine = create_async_engine(url, connect_args=_asyncpg_arguments(settings), **options)
    event.listen(engine.sync_engine, "handle_error", let_go_of_lost)
    event.listen(engine.sync_engine, "checkout", _replace_if_lost)
    return engine


def _asyncpg_arguments(settings: Settings) -> dict[str, Any]:
    milliseconds = str(int(settings.database_statement_timeout * 1000))
    arguments: dict[str, Any] = {
        "timeout": settings.database_pool_timeout,
        "command_timeout": settings.database_statement_timeout + 1,  # the network's own deadline
    }
    if settings.database_pgbouncer:  # which refuses settings at the start of a connection, too
        arguments |= UNNAMED_STATEMENTS
    else:
        arguments["server_settings"] = {
            "application_name": "kingpost",
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            "jit": "off",  # compiling costs more than our short statements take
            # By PostgreSQL's 4, made for turning disks, it would read a whole table of 60,000 items
            # (60 ms) to find 1,000 by a word (2 ms).
            "random_page_cost": "1.1",
        }
    return arguments


def _prepare_sqlite(connection: Any, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver's implicit BEGIN loses updates
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "busy_timeout=10000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # A deferred transaction that reads before it writes can fail with SQLITE_BUSY_SNAPSHOT,
    # which no waiting cures: take the write lock at the start.
    if not connection.get_execution_options().get(READ_ONLY):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _replace_if_lost(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Replace a connection that a restarted database has forgotten, at no cost under load."""
    driver = connection.driver_connection
    if driver.is_closed():
        raise exc.DisconnectionError
    if is_fresh(driver, record.info):
        return
    try:
        # Past SQLAlchemy's cursor, which would begin a transaction.
        await_only(driver.fetchrow(";", timeout=_PING_PATIENCE))
    except Exception as error:
        raise exc.DisconnectionError from error
