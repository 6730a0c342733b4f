"""The cookie of a sign-in: ours alone, for a while, across a change of the secret."""

from datetime import timedelta

import pytest

from app.clock import now
from app.security.sign_ins import SIGN_IN_LIFE, SignInSigner

OLD, NEW = b"old" * 16, b"new" * 16


def test_a_sign_in_is_read_as_it_was_begun() -> None:
    signer = SignInSigner([NEW])
    begun, cookie = signer.begin("house", "/?a=ü", now(), linking=(7, 8))
    assert signer.read(cookie, now()) == begun
    assert (begun.user_id, begun.session_id, begun.redirect_to) == (7, 8, "/?a=ü")


def test_it_ends_after_its_time() -> None:
    signer = SignInSigner([NEW])
    _, cookie = signer.begin("house", "/", now())
    assert signer.read(cookie, now() + SIGN_IN_LIFE - timedelta(seconds=2))
    assert signer.read(cookie, now() + SIGN_IN_LIFE) is None


def test_it_survives_a_change_of_the_secret_and_no_other_one() -> None:
    begun, cookie = SignInSigner([OLD]).begin("house", "/", now())
    assert SignInSigner([NEW, OLD]).read(cookie, now()) == begun
    assert SignInSigner([NEW]).read(cookie, now()) is None
    assert SignInSigner([NEW, OLD]).begin("house", "/", now())[0].nonce != begun.nonce


def test_the_cookie_tells_neither_nonce_nor_verifier() -> None:
    begun, cookie = SignInSigner([NEW]).begin("house", "/", now())
    assert len({begun.state, begun.nonce, begun.verifier}) == 3
    assert 43 <= len(begun.verifier) <= 128  # RFC 7636, section 4.1
    assert begun.nonce not in cookie
    assert begun.verifier not in cookie


@pytest.mark.parametrize("cookie", [None, "", "A", "AAAA", "é", "A" * 5000, "=" * 100])
def test_what_is_not_ours_is_no_sign_in(cookie: str | None) -> None:
    assert SignInSigner([NEW]).read(cookie, now()) is None
