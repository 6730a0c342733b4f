"""Entity tags and conditional requests (RFC 9110, sections 8.8.3 and 13)."""

import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dependencies.preconditions import MAX_ETAGS, etag, if_match, if_none_match, parse_etags
from app.errors import BadRequest, PreconditionFailed


@dataclass
class Thing:
    version: int


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ('"1"', [(False, "1")]),
        ('W/"1"', [(True, "1")]),
        ('"1", W/"2","3"', [(False, "1"), (True, "2"), (False, "3")]),
        ('""', [(False, "")]),
        ('"a,b"', [(False, "a,b")]),
        ("*", None),
        (" * ", None),
    ],
)
def test_lists_of_entity_tags_are_read(header: str, tags: list[tuple[bool, str]] | None) -> None:
    assert parse_etags(header) == tags


@pytest.mark.parametrize(
    "header", ["", "1", '"1', "'1'", '"1" "2"', 'w/"1"', '*, "1"', '"a b"', '"1";', ",", '"\x00"']
)
def test_what_is_no_list_of_entity_tags_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        parse_etags(header)


def test_a_list_without_end_is_refused() -> None:
    with pytest.raises(BadRequest):
        parse_etags(",".join(['"1"'] * (MAX_ETAGS + 1)))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(header: str) -> None:
    with contextlib.suppress(BadRequest):
        parse_etags(header)


@given(st.lists(st.tuples(st.booleans(), st.text("abc,!#", max_size=4)), min_size=1, max_size=9))
def test_what_is_written_is_read(tags: list[tuple[bool, str]]) -> None:
    header = ", ".join(f'{"W/" if weak else ""}"{value}"' for weak, value in tags)
    assert parse_etags(header) == tags


@pytest.mark.parametrize(
    ("header", "is_met"),
    [
        (None, True),
        ("*", True),
        ('"3"', True),
        ('"2", "3"', True),
        ('"2"', False),
        ('W/"3"', False),
    ],
)
async def test_if_match_compares_strongly(header: str | None, is_met: bool) -> None:
    assert (await if_match(header))(Thing(3)) is is_met


@pytest.mark.parametrize("header", ["", "3", "'3'", "junk"])
async def test_what_is_no_entity_tag_lets_nobody_write(header: str) -> None:
    with pytest.raises(PreconditionFailed, match="quoted string"):
        (await if_match(header))(Thing(3))


@pytest.mark.parametrize(
    ("header", "is_known"),
    [(None, False), ("*", True), ('"3"', True), ('W/"3"', True), ('"2"', False), ("junk", False)],
)
async def test_if_none_match_compares_weakly(header: str | None, is_known: bool) -> None:
    assert (await if_none_match(header))(3) is is_known


@given(st.integers(1, 2**31))
def test_our_own_entity_tag_is_one(version: int) -> None:
    assert parse_etags(etag(version)) == [(False, str(version))]
