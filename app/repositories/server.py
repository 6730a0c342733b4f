"""What the database server says of itself, for `kingpost doctor`."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


class ServerFacts(NamedTuple):
    """PostgreSQL's version as a number (150004 is 15.4), its clock, and how it is set up."""

    version: int
    clock: datetime
    connections: int  # how many ordinary users may have
    is_standby: bool
    encoding: str


async def server_facts(connection: AsyncConnection) -> ServerFacts:
    """Ask PostgreSQL for them."""
    statement = text(
        "SELECT current_setting('server_version_num')::int, clock_timestamp(),"
        " current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int,"
        " pg_is_in_recovery(), current_setting('server_encoding')"
    )
    return ServerFacts._make((await connection.execute(statement)).one())
