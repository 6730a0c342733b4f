"""How deep JSON is nested, measured chunk by chunk without parsing it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unprocessable
from app.schemas.json_depth import JsonDepth

JSON = st.recursive(
    st.none() | st.integers() | st.text('[]{}"\\a', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\', max_size=3), inner)
    ),
    max_leaves=12,
)


def depth_of(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 0


@given(JSON, st.integers(1, 5), st.integers(1, 7))
def test_it_is_refused_exactly_beyond_the_limit(value: Any, limit: int, size: int) -> None:
    text = json.dumps(value).encode()
    depth = JsonDepth(limit)
    chunks = [text[start : start + size] for start in range(0, len(text), size)]

    def feed() -> None:
        for chunk in chunks:
            depth.feed(chunk)

    if depth_of(value) > limit:
        with pytest.raises(Unprocessable):
            feed()
    else:
        feed()


@given(st.binary(max_size=200))
def test_any_bytes_are_measured_or_refused(text: bytes) -> None:
    depth = JsonDepth(3)
    try:
        depth.feed(text)
    except Unprocessable:
        assert text.count(b"[") + text.count(b"{") > 3
