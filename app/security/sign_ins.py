"""What a browser keeps while its owner signs in elsewhere: signed by us, and good for minutes.

The cookie holds no secret. What must not be guessed, the nonce and the code verifier, is derived
from the state by a key that only we have, so that whoever sees a callback's address can neither
spend its code (RFC 7636) nor finish it in another browser (RFC 9700, section 4.7).
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.security.opaque import keyed_digest
from app.security.signing import decode_base64url, derive_key, encode_base64url

SIGN_IN_LIFE = timedelta(minutes=10)  # choosing an account, a password, a second factor
_TAG_BYTES = 32
_MAX_COOKIE = 4096  # characters


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in that a browser has begun, and what both of its legs must agree on.

    With a `user_id` it links an identity to that account, for as long as the session lives.
    """

    provider: str
    state: str
    redirect_to: str
    expires_at: int
    user_id: int | None
    session_id: int | None
    nonce: str
    verifier: str


class SignInSigner:
    """Begins sign-ins, and knows those that it began."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._keys = [derive_key(each, "social-sign-in") for each in secrets]

    def begin(
        self,
        provider: str,
        redirect_to: str,
        now: datetime,
        *,
        linking: tuple[int, int] | None = None,
    ) -> tuple[SignIn, str]:
        """Return a new sign-in and its cookie; `linking` is a user's id and session's id."""
        user_id, session_id = linking or (None, None)
        expires_at = int((now + SIGN_IN_LIFE).timestamp())
        state = secrets.token_urlsafe(32)
        body = json.dumps([provider, state, redirect_to, expires_at, user_id, session_id]).encode()
        cookie = encode_base64url(_tag(self._keys[0], body) + body)
        return _sign_in(self._keys[0], body), cookie

    def read(self, cookie: str | None, now: datetime) -> SignIn | None:
        """Return the sign-in of a cookie; None where it is not one of ours or its time is over."""
        if cookie is None or len(cookie) > _MAX_COOKIE:
            return None
        try:
            raw = decode_base64url(cookie)
        except ValueError:
            return None
        tag, body = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        for key in self._keys:
            if hmac.compare_digest(tag, _tag(key, body)):
                sign_in = _sign_in(key, body)
                return sign_in if sign_in.expires_at > now.timestamp() else None
        return None


def _tag(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, b"cookie\x00" + body, hashlib.sha256)


def _sign_in(key: bytes, body: bytes) -> SignIn:
    provider, state, redirect_to, expires_at, user_id, session_id = json.loads(body)
    return SignIn(
        provider=provider,
        state=state,
        redirect_to=redirect_to,
        expires_at=expires_at,
        user_id=user_id,
        session_id=session_id,
        nonce=keyed_digest(key, "nonce", provider, state),
        verifier=keyed_digest(key, "verifier", provider, state),
    )
