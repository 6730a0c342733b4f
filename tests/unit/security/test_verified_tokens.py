"""Verified tokens are remembered for as long as they live, and only so many."""

import pytest

from app.security import tokens as tokens_module
from app.security.tokens import AccessClaims, VerifiedTokens


def claims(expires_at: int) -> AccessClaims:
    return AccessClaims(user_id=1, session_id=1, expires_at=expires_at)


def test_the_one_unused_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "_REMEMBERED", 2)
    tokens = VerifiedTokens()
    tokens.put("first", claims(100))
    tokens.put("second", claims(100))
    assert tokens.get("first", now=0)
    tokens.put("third", claims(100))
    assert tokens.get("second", now=0) is None
    assert tokens.get("first", now=0)
    assert tokens.get("third", now=0)


def test_one_that_has_run_out_is_forgotten() -> None:
    tokens = VerifiedTokens()
    tokens.put("token", claims(100))
    assert tokens.get("token", now=99.9)
    assert tokens.get("token", now=100) is None
    assert tokens.get("token", now=0) is None
