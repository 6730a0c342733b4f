"""One-time codes, against the vectors of RFC 6238 and whatever a person may type."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.security.totp import (
    RECOVERY_CODES,
    is_recovery,
    is_totp,
    matching_step,
    new_recovery_codes,
    new_totp_secret,
    normalised,
)

SECRET = base64.b32encode(b"12345678901234567890").decode()  # RFC 6238, appendix B
VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]


@pytest.mark.parametrize(("seconds", "code"), VECTORS)
def test_the_codes_are_those_of_the_rfc(seconds: int, code: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert matching_step(SECRET, code, moment) == seconds // 30


@pytest.mark.parametrize(("steps", "is_right"), [(-2, False), (-1, True), (1, True), (2, False)])
def test_one_step_either_way_is_forgiven(steps: int, is_right: bool) -> None:
    moment = datetime.fromtimestamp(1234567890 + 30 * steps, UTC)
    step = matching_step(SECRET, "005924", moment)
    assert step == (1234567890 // 30 if is_right else None)


def test_secrets_have_160_bits_and_no_two_are_alike() -> None:
    secrets = {new_totp_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(base64.b32decode(each)) for each in secrets} == {20}


def test_recovery_codes_are_typed_as_one_likes() -> None:
    codes = new_recovery_codes()
    assert len(set(codes)) == RECOVERY_CODES
    for code in codes:
        plain = normalised(code)
        assert is_recovery(plain)
        assert not is_totp(plain)
        for typed in (code.lower(), f" {code} ", code.replace("-", " "), plain):
            assert normalised(typed) == plain


@given(st.text())
def test_whatever_is_typed_is_one_kind_of_code_or_none(text: str) -> None:
    code = normalised(text)
    assert not (is_totp(code) and is_recovery(code))
    if is_totp(code):
        matching_step(SECRET, code, datetime.now(UTC))
