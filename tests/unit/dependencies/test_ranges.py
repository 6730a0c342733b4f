"""Range headers, against what a list of bytes would give."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dependencies.ranges import Representation, parse_range, wanted_range
from app.errors import RangeNotSatisfiable

NUMBERS = st.integers(0, 30)
CHANGED_AT = datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC)


def part(content: bytes, header: str) -> bytes | None:
    """Return what a range gives of a content, None where it gives nothing."""
    try:
        extent = parse_range(header, len(content))
    except RangeNotSatisfiable:
        return None
    if extent is None:
        return content
    found = content[extent.start : extent.start + extent.length]
    assert len(found) == extent.length > 0
    return found


@given(st.binary(max_size=20), NUMBERS, NUMBERS)
def test_from_a_byte_to_a_byte(content: bytes, first: int, last: int) -> None:
    wanted = content[first : last + 1] or None
    assert part(content, f"bytes={first}-{last}") == (content if last < first else wanted)


@given(st.binary(max_size=20), NUMBERS)
def test_from_a_byte_to_the_end(content: bytes, first: int) -> None:
    assert part(content, f"bytes={first}-") == (content[first:] or None)


@given(st.binary(max_size=20), NUMBERS)
def test_the_last_bytes(content: bytes, number: int) -> None:
    assert part(content, f"bytes=-{number}") == (content[max(0, len(content) - number) :] or None)


@given(st.text("bytes=-0123456789, ", max_size=30))
def test_any_header_gives_a_part_or_the_whole_or_nothing(header: str) -> None:
    found = part(b"0123456789", header)
    assert found is None or found in b"0123456789"


@pytest.mark.parametrize(
    "header",
    ["bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=-", "bytes=a-b", "", "0-1", "bytes=5-2"],
)
def test_what_is_no_single_range_is_answered_whole(header: str) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('"abc"', True),
        ('"abd"', False),
        ('W/"abc"', False),
        ("Sat, 21 Nov 2026 08:00:00 GMT", True),
        ("Sat, 21 Nov 2026 08:00:01 GMT", False),
        ("nonsense", False),
        ("", False),
    ],
)
async def test_if_range_lets_only_the_same_version_pass(condition: str, holds: bool) -> None:
    wanted = await wanted_range("bytes=0-1", condition)
    extent = wanted(Representation("abc", CHANGED_AT, 10))
    assert (extent is not None) is holds
