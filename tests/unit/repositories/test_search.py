"""Search words: one way to split and fold them, whatever is typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.repositories.search import (
    MAX_QUERY_WORDS,
    MAX_WORD,
    search_query,
    search_text,
    words,
)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("Oak desk", ["oak", "desk"]),
        ("OAK-desk_2", ["oak", "desk", "2"]),
        ("Straße", ["strasse"]),
        ("ﬁne", ["fine"]),
        ("\uff37\uff49\uff44\uff45", ["wide"]),
        ("日本 語", ["日本", "語"]),
        ("", []),
        ("'; DROP TABLE items; --", ["drop", "table", "items"]),
        (":* & | ! <->", []),
    ],
)
def test_text_is_split_into_folded_words(source: str, found: list[str]) -> None:
    assert words(source) == found


@given(st.text(max_size=80))
def test_words_are_stable_and_harmless(source: str) -> None:
    found = words(source)
    for word in found:
        assert 0 < len(word) <= MAX_WORD
        assert not set(word) & set(" '\"\\:*&|!()<>_")


@given(st.text(max_size=80), st.booleans())
def test_a_query_is_in_the_databases_notation_or_nothing(source: str, is_postgres: bool) -> None:
    query = search_query(source, is_postgres=is_postgres)
    assert (query is None) is (not words(source))
    if query is not None:
        assert query.count(":*" if is_postgres else '"*') <= MAX_QUERY_WORDS


@given(st.text(max_size=40), st.text(max_size=40), st.lists(st.text(max_size=10), max_size=3))
def test_what_is_found_by_is_every_word_once(name: str, text: str, tags: list[str]) -> None:
    stored = search_text(name, text, tags).split(" ")
    assert len(stored) == len(set(stored))
    for word in words(name) + words(text):
        assert word in stored
