"""The keys of access tokens: each with one pinned algorithm, and a moment from which it signs.

A key verifies before it signs, so that every process knows it in time, and verifies on until the
last token that it may have signed has run out (RFC 8725, section 3.1; RFC 7517; RFC 7638).
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jose import jwk
from jose.constants import ALGORITHMS

from app.security.opaque import digest
from app.security.signing import derive_key, encode_base64url

ALWAYS = datetime.min.replace(tzinfo=UTC)
_MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
_JWK_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}  # RFC 7638, section 3.2


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key by its id. `private` signs from a moment on, `public` verifies: the library's keys.

    `jwk` is what others verify by (RFC 7517); a shared secret has none.
    """

    kid: str
    algorithm: str
    private: Any
    public: Any
    signs_from: datetime
    jwk: Mapping[str, str] | None = None


class KeyRing:
    """All keys of a process. The youngest that signs already is the one that signs."""

    def __init__(self, keys: Sequence[SigningKey], *, outlives: timedelta) -> None:
        self._outlives = outlives  # how long a key verifies on after its successor began to sign
        self.replace(keys)

    def replace(self, keys: Sequence[SigningKey]) -> None:
        """Take these keys instead, all at once.

        Raises:
            ValueError: two of them are the same, or none of them signs yet.
        """
        by_kid = {key.kid: key for key in keys}
        if len(by_kid) < len(keys):
            raise ValueError("two of the keys are the same")
        if not any(key.signs_from == ALWAYS for key in keys):
            raise ValueError("no key signs yet")
        self._in_order = sorted(keys, key=lambda key: key.signs_from)
        self._by_kid = by_kid

    def signing_key(self, now: datetime) -> SigningKey:
        """Return the key that signs."""
        return [key for key in self._in_order if key.signs_from <= now][-1]

    def key(self, kid: str, now: datetime) -> SigningKey | None:
        """Return the key of an id, unless it has run out; never another one in its place."""
        key = self._by_kid.get(kid)
        return None if key is None or self.has_run_out(key, now) else key

    def has_run_out(self, key: SigningKey, now: datetime) -> bool:
        """Tell whether all tokens that a key has signed have run out."""
        end = self.verifies_until(key)
        return end is not None and end <= now

    def verifies_until(self, key: SigningKey) -> datetime | None:
        """Return when a key runs out; None where no successor is known."""
        successors = (each.signs_from for each in self._in_order)
        first = min((each for each in successors if each > key.signs_from), default=None)
        return None if first is None else first + self._outlives

    def published(self, now: datetime) -> list[Mapping[str, str]]:
        """Return what others verify our tokens by, now and soon; nothing of a shared secret."""
        known = (key for key in self._in_order if not self.has_run_out(key, now))
        return [key.jwk for key in known if key.jwk is not None]


def outlives(lifetime: timedelta, leeway: timedelta) -> timedelta:
    """Return how long a key verifies on after its successor began to sign.

    A process whose clock is behind by the leeway signs on for so long, and another forgives a
    token's end by as much.
    """
    return lifetime + 2 * leeway


def keys_of_secrets(secret: bytes, *previous: bytes) -> list[SigningKey]:
    """Return HS256 keys derived from secrets, the last of which signs: the first secret's."""
    return [_of_secret(each) for each in (*previous, secret)]


def key_of_pem(pem: bytes, signs_from: datetime) -> SigningKey:
    """Return the key of a private key's PEM text; its kind decides on the algorithm.

    Raises:
        ValueError: it is no private key that ES256 or RS256 can use.
    """
    try:
        private = load_pem_private_key(pem, password=None)
    # It has a password, is of an odd kind, or holds what its kind does not allow.
    except (TypeError, UnsupportedAlgorithm, InternalError) as error:
        raise ValueError("only a private key without a password can be used") from error
    match private:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            algorithm = ALGORITHMS.ES256
        case rsa.RSAPrivateKey() if private.key_size >= _MIN_RSA_BITS:
            algorithm = ALGORITHMS.RS256
        case _:
            raise ValueError(f"use a key of P-256, or of RSA with {_MIN_RSA_BITS} bits or more")
    # Objects and never bytes: the library would take a public key's bytes for a secret. And once:
    # parsing costs a hundred times what signing does.
    public = jwk.construct(private.public_key(), algorithm)
    described = public.to_dict()
    kid = thumbprint(described)
    return SigningKey(
        kid=kid,
        algorithm=algorithm,
        private=jwk.construct(private, algorithm),
        public=public,
        signs_from=signs_from,
        jwk={**described, "kid": kid, "use": "sig"},
    )


def thumbprint(described: Mapping[str, str]) -> str:
    """Return the thumbprint of a JWK (RFC 7638)."""
    members = {name: described[name] for name in _JWK_MEMBERS[described["kty"]]}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return encode_base64url(hashlib.sha256(text.encode()).digest())


def _of_secret(secret: bytes) -> SigningKey:
    material = derive_key(secret, "access-token")
    key = jwk.construct(material, ALGORITHMS.HS256)
    kid = digest(base64.b64encode(material).decode())[:16]
    return SigningKey(kid, ALGORITHMS.HS256, key, key, ALWAYS)
