"""Access tokens: JWTs by python-jose, with every guard that the library leaves to its caller.

RFC 7519 (JWT), RFC 8725 (best practices), RFC 9068 (access tokens). The library accepts a token
without `exp` or `aud`, tries every key for an unknown `kid`, and raises more than `JWTError` for
hostile input; nothing but this module and `keys` uses it.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jose import jwt
from jose.exceptions import JOSEError

from app.errors import InvalidToken
from app.security.keys import KeyRing
from app.security.signing import decode_base64url

MAX_TOKEN = 4096  # characters; ours have about 500
_LONGEST_LIFE = 86_400  # seconds
_REMEMBERED = 10_000  # tokens
_TYPE = "at+jwt"  # RFC 9068, section 2.1
_USE = "access"
_HEADER_FIELDS = frozenset({"alg", "kid", "typ"})  # so no jwk, jku, x5u or crit (RFC 8725, 3.10)
_CLAIMS = frozenset({"iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "roles", "token_use"})
# What python-jose was seen to raise for hostile tokens.
_HOSTILE = (
    JOSEError,
    RecursionError,
    AttributeError,
    OverflowError,
    TypeError,
    ValueError,
    KeyError,
    UnicodeError,
)


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Whose a verified access token is; its roles do not count, as they may have changed."""

    user_id: int
    session_id: int
    expires_at: int  # seconds since the epoch, the leeway included


class TokenIssuer:
    """Issues and verifies access tokens of one issuer for one audience."""

    def __init__(
        self,
        keys: KeyRing,
        *,
        issuer: str,
        audience: str,
        lifetime: timedelta,
        leeway: timedelta,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self.lifetime = lifetime
        self._leeway = int(leeway.total_seconds())

    def issue(
        self,
        user_id: int,
        session_id: int,
        roles: tuple[str, ...],
        now: datetime,
        lifetime: timedelta | None = None,
    ) -> str:
        """Return a signed token for a session, valid from now for the usual life or a shorter."""
        issued_at = int(now.timestamp())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user_id),
            "sid": str(session_id),
            "jti": secrets.token_urlsafe(12),
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + int((lifetime or self.lifetime).total_seconds()),
            "roles": list(roles),
            "token_use": _USE,
        }
        key = self._keys.signing_key(now)
        headers = {"kid": key.kid, "typ": _TYPE}
        token: str = jwt.encode(claims, key.private, algorithm=key.algorithm, headers=headers)
        return token

    def verify(self, token: str, now: datetime) -> AccessClaims:
        """Return what a token says.

        Raises:
            InvalidToken: it is not one of ours, or not valid now. Never anything else.
        """
        if len(token) > MAX_TOKEN:
            raise InvalidToken
        try:
            claims = self._decode(token, now)
            return self._checked(claims, int(now.timestamp()))
        except _HOSTILE as error:
            raise InvalidToken from error

    def _decode(self, token: str, now: datetime) -> dict[str, Any]:
        for part in _three(token.split(".")):
            decode_base64url(part)  # one spelling only: a re-encoded token is another token
        header = jwt.get_unverified_header(token)
        if set(header) != _HEADER_FIELDS or header["typ"] != _TYPE:
            raise ValueError("unexpected header")
        key = self._keys.key(header["kid"], now)
        if key is None or header["alg"] != key.algorithm:
            raise ValueError("unknown key or algorithm")
        claims: dict[str, Any] = jwt.decode(
            token,
            key.public,
            algorithms=[key.algorithm],
            audience=self._audience,
            issuer=self._issuer,
            options={
                **{f"require_{name}": True for name in ("sub", "aud", "iss", "jti")},
                # Times are checked below, against the one clock; to require them here would make
                # the library check them as well, without our leeway.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        return claims

    def _checked(self, claims: dict[str, Any], now: int) -> AccessClaims:
        if set(claims) != _CLAIMS or claims["token_use"] != _USE:
            raise ValueError("unexpected claims")
        if claims["aud"] != self._audience or claims["iss"] != self._issuer:
            raise ValueError("wrong audience or issuer")
        times = [claims[name] for name in ("iat", "nbf", "exp")]
        if any(type(each) is not int for each in times):
            raise ValueError("times are whole numbers")
        issued_at, not_before, expires_at = times
        if max(issued_at, not_before) > now + self._leeway or expires_at <= now - self._leeway:
            raise ValueError("not valid now")
        if expires_at - issued_at > _LONGEST_LIFE:
            raise ValueError("no token of ours lives for so long")
        roles, jti = claims["roles"], claims["jti"]
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise ValueError("roles are a list of names")
        if not isinstance(jti, str):
            raise TypeError("jti is a string")
        return AccessClaims(
            user_id=_id(claims["sub"]),
            session_id=_id(claims["sid"]),
            expires_at=expires_at + self._leeway,
        )


class VerifiedTokens:
    """Remembers tokens that were verified, so that only the first use of each costs a signature."""

    def __init__(self) -> None:
        self._claims: OrderedDict[str, AccessClaims] = OrderedDict()

    def get(self, token: str, now: float) -> AccessClaims | None:
        """Return the claims of a token seen before that has not run out."""
        claims = self._claims.get(token)
        if claims is None:
            return None
        if claims.expires_at <= now:
            del self._claims[token]
            return None
        self._claims.move_to_end(token)
        return claims

    def put(self, token: str, claims: AccessClaims) -> None:
        """Remember a token; the one unused for longest makes room."""
        self._claims[token] = claims
        if len(self._claims) > _REMEMBERED:
            self._claims.popitem(last=False)

    def clear(self) -> None:
        """Verify every token anew: a key may have gone."""
        self._claims.clear()


def _three(parts: list[str]) -> list[str]:
    if len(parts) != 3 or not all(parts):
        raise ValueError("not a compact JWS")
    return parts


def _id(text: object) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 19:
        raise ValueError("an id is a decimal string")
    number = int(text)
    if not 1 <= number < 2**63 or str(number) != text:
        raise ValueError("an id is a positive 64-bit integer")
    return number
