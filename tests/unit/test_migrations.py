"""The migrations, on both databases: each goes up, down and up, and gives what the tables say."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.repositories.schema import known_revisions
from tests.backends import ROOT, Backend, Foundation, fresh_database, run_alembic, run_aside

SCHEMA_OF_POSTGRES = """
    SELECT format('column %s.%s %s %s %s', table_name, column_name, data_type, is_nullable,
                  column_default)
      FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT format('%s %s', conname, pg_get_constraintdef(oid))
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc
     WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT format('type %s', typname)
      FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
"""
# Alembic's own table comes with the first upgrade and stays, and so does SQLite's.
SCHEMA_OF_SQLITE = """
    SELECT type || ' ' || name || ' ' || ifnull(sql, '') FROM sqlite_master
     WHERE name <> 'sqlite_sequence'
"""


@pytest.fixture
def url(backend: Backend, foundation: Foundation, tmp_path: Path) -> Iterator[str]:
    """A database with nothing in it."""
    if backend is Backend.EMBEDDED:
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    with fresh_database(foundation.postgres_url) as empty:
        yield empty


def revisions() -> list[str]:
    """Return every revision, the oldest first."""
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    return [revision.revision for revision in script.walk_revisions()][::-1]


def test_the_service_knows_the_revisions_that_alembic_does() -> None:
    assert list(known_revisions()) == revisions()[::-1]


def test_to_know_them_takes_no_time_of_the_loop() -> None:
    program = (
        "import sys; from app.repositories.schema import known_revisions; assert known_revisions();"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def schema(url: str) -> set[str]:
    """Return a line for each table, column, index, constraint, trigger and function."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            rows = connection.execute(SCHEMA_OF_SQLITE).fetchall()
        return {row[0] for row in rows}

    async def read() -> set[str]:
        connection = await asyncpg.connect(url)
        try:
            return {row[0] for row in await connection.fetch(SCHEMA_OF_POSTGRES)}
        finally:
            await connection.close()

    return run_aside(read())


def test_the_tables_of_the_code_are_those_of_the_migrations(url: str) -> None:
    run_alembic(command.upgrade, url, "head")
    run_alembic(command.check, url)  # raises where autogenerate would find something to do


def test_each_revision_is_undone_by_its_down_and_can_go_up_again(url: str) -> None:
    before = "base"
    for revision in revisions():
        without = schema(url)
        run_alembic(command.upgrade, url, revision)
        made = schema(url)
        run_alembic(command.downgrade, url, before)
        left = {line for line in schema(url) - without if "alembic_version" not in line}
        assert not left, f"{revision} leaves behind"
        run_alembic(command.upgrade, url, revision)
        assert schema(url) == made
        before = revision


def test_the_migrations_form_one_line() -> None:
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    assert len(script.get_heads()) == 1
