"""Full-text search with one behaviour on both databases: every word asked for starts some word.

The words are split and folded here, stored in `items.search_text`, and only indexed by the
database: PostgreSQL by a GIN index over exactly these words, SQLite by FTS5.
"""

import re
import unicodedata
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Text,
    all_,
    bindparam,
    column,
    literal_column,
    select,
    table,
    text,
)

from app.models.items import items

_WORD = re.compile(r"[^\W_]+")
MAX_WORD = 64  # characters; PostgreSQL refuses a word of more than 2 KiB
MAX_QUERY_WORDS = 16  # more would make one request as dear as many


def words(source: str) -> list[str]:
    """Split text into the words that search knows: letters and digits, case and width folded."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", source).casefold())
    return [word[:MAX_WORD] for word in _WORD.findall(folded)]


def search_text(name: str, description: str | None, tags: list[str]) -> str:
    """Return the distinct words by which an item is found, space-separated."""
    return " ".join(dict.fromkeys(words(" ".join((name, description or "", *tags)))))


def search_query(query: str, *, is_postgres: bool) -> str | None:
    """Return what was asked for in the database's own notation; None where there is no word."""
    wanted = list(dict.fromkeys(words(query)))[:MAX_QUERY_WORDS]
    if is_postgres:
        return " & ".join(f"'{word}':*" for word in wanted) or None
    return " AND ".join(f'"{word}"*' for word in wanted) or None


def search_patterns(query: str) -> list[str] | None:
    """Return what was asked for as patterns over the stored words; None where there is no word."""
    wanted = list(dict.fromkeys(words(query)))[:MAX_QUERY_WORDS]
    return [f"% {word}%" for word in wanted] or None


def reads(stored: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the same condition as `matches` by reading the stored words; on PostgreSQL.

    It has all patterns of the parameter `search_patterns`. No index serves it, but reading a row's
    words costs a fifth of making a tsvector of them.
    """
    patterns = bindparam("search_patterns", type_=ARRAY(Text))
    return (literal_column("' '", Text) + stored).like(all_(patterns))


def matches(*, is_postgres: bool) -> ColumnElement[bool]:
    """Return the condition that an item has all words of the parameter `search_query`."""
    if is_postgres:
        # Cast, not to_tsquery(): the words must reach the index as they are.
        indexed: ColumnElement[Any] = literal_column(
            "array_to_tsvector(string_to_array(items.search_text, ' '))"
        )
        return indexed.op("@@", is_comparison=True)(text("CAST(:search_query AS tsquery)"))
    found = table("items_search", column("rowid"))
    match = text("items_search MATCH :search_query")
    return items.c.id.in_(select(found.c.rowid).where(match))
