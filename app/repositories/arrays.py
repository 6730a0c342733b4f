"""Asks whether a list column has values: by PostgreSQL's arrays, by JSON on SQLite."""

from typing import Any

from sqlalchemy import ARRAY, Boolean, ColumnElement, Text, cast
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement


class array_contains(FunctionElement[bool]):  # noqa: N801 - reads as the SQL function it stands for
    """True where the list in `column` has all `values`; on PostgreSQL a GIN index serves it."""

    inherit_cache = True
    type = Boolean()

    def __init__(self, column: ColumnElement[Any], values: ColumnElement[Any]) -> None:
        super().__init__(column, values)


@compiles(array_contains, "postgresql")
def _on_postgresql(element: array_contains, compiler: SQLCompiler, **options: Any) -> str:
    column, values = element.clauses
    return compiler.process(column.op("@>")(cast(values, ARRAY(Text))), **options)


@compiles(array_contains, "sqlite")
def _on_sqlite(element: array_contains, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    has = f"SELECT value FROM json_each({column})"  # noqa: S608 - compiled SQL
    return f"NOT EXISTS (SELECT 1 FROM json_each({values}) AS wanted WHERE wanted.value NOT IN ({has}))"  # noqa: E501, S608
