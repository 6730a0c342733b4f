"""Asks whether a list column has a value: by PostgreSQL's arrays, by JSON on SQLite."""

from typing import Any

from sqlalchemy import ARRAY, Boolean, ColumnElement, Text, cast, literal
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement


class array_contains(FunctionElement[bool]):  # noqa: N801 - reads as the SQL function it stands for
    """True where the list in `column` has `value`; on PostgreSQL a GIN index serves it."""

    inherit_cache = True
    type = Boolean()

    def __init__(self, column: ColumnElement[Any], value: str) -> None:
        super().__init__(column, literal(value, Text))


@compiles(array_contains, "postgresql")
def _on_postgresql(element: array_contains, compiler: SQLCompiler, **options: Any) -> str:
    column, value = element.clauses
    return compiler.process(
        column.op("@>")(cast(postgresql.array([value]), ARRAY(Text))), **options
    )


@compiles(array_contains, "sqlite")
def _on_sqlite(element: array_contains, compiler: SQLCompiler, **options: Any) -> str:
    column, value = (compiler.process(clause, **options) for clause in element.clauses)
    return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE json_each.value = {value})"  # noqa: S608 - compiled SQL
