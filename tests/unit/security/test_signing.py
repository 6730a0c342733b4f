"""Cursors and opaque secrets: only we can have made them."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidCursor
from app.security.opaque import digest, keyed_digest, new_secret
from app.security.signing import (
    CursorSigner,
    decode_base64url,
    derive_key,
    encode_base64url,
)

SIGNER = CursorSigner([b"a secret of thirty-two bytes, or so"])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
PAYLOADS = st.dictionaries(st.text(max_size=5), PLAIN, max_size=4)


@given(PAYLOADS, st.text(max_size=40))
def test_a_cursor_gives_back_what_was_put_in(payload: dict[str, Any], scope: str) -> None:
    payload = {k: v for k, v in payload.items() if _is_utf8(k + repr(v))}
    if _is_utf8(scope):
        assert SIGNER.decode(SIGNER.encode(payload, scope), scope) == payload


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_cursor_is_good_for_its_own_scope_alone(scope: str, other: str) -> None:
    if scope != other and _is_utf8(scope + other):
        with pytest.raises(InvalidCursor):
            SIGNER.decode(SIGNER.encode({"i": 1}, scope), other)


@given(st.data())
def test_a_cursor_with_any_change_is_refused(data: st.DataObject) -> None:
    cursor = SIGNER.encode({"v": "Oak", "i": 42}, "items")
    place = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_"))
    changed = cursor[:place] + letter + cursor[place + 1 :]
    if changed != cursor:
        with pytest.raises(InvalidCursor):
            SIGNER.decode(changed, "items")


@given(st.text(max_size=3000))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        SIGNER.decode(text, "items")


def test_a_cursor_of_another_secret_is_refused() -> None:
    cursor = CursorSigner([b"another secret of thirty-two bytes"]).encode({"i": 1}, "items")
    with pytest.raises(InvalidCursor):
        SIGNER.decode(cursor, "items")


@given(st.binary(max_size=100))
def test_base64url_has_one_spelling(value: bytes) -> None:
    text = encode_base64url(value)
    assert decode_base64url(text) == value
    for other in (f"{text}=", f" {text}", f"{text}\n"):
        with pytest.raises(ValueError, match="base64url"):
            decode_base64url(other)


def test_each_purpose_has_a_key_of_its_own() -> None:
    keys = {derive_key(b"secret", purpose) for purpose in ("cursor", "access-token", "refresh")}
    assert len(keys) == 3
    assert derive_key(b"secret", "cursor") != derive_key(b"other", "cursor")


def test_secrets_are_long_recognisable_and_never_the_same() -> None:
    one, other = new_secret("kpt"), new_secret("kpt")
    assert one.startswith("kpt_")
    assert len(one) > 40
    assert one != other
    assert digest(one) != digest(other)


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_parts_of_a_digest_cannot_run_into_each_other(one: list[str], other: list[str]) -> None:
    if _is_utf8("".join(one + other)):
        same = keyed_digest(b"key", *one) == keyed_digest(b"key", *other)
        assert same is (one == other)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
