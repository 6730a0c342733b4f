"""ID tokens: verified as OpenID Connect Core 1.0, section 3.1.3.7, and RFC 8725 ask.

Authlib and joserfc do the work. What they leave to their caller stands here: which algorithms,
which keys, and that everything which hostile input makes them raise is one refusal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.clock import now
from app.errors import InvalidIdToken

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

# Asymmetric ones only: with HS256 the secret is the client's, which other parts may know; and a
# public key taken for an HMAC key is the oldest forgery there is.
ALGORITHMS = ("RS256", "ES256", "PS256", "RS384", "ES384", "PS384", "RS512", "ES512", "PS512")
_KEY_TYPES = frozenset({"RSA", "EC"})
LEEWAY = 60  # seconds that the provider's clock may differ from ours
_HOSTILE = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)


class UnknownKey(Exception):
    """The token names a key that is not among those known: there may be newer ones."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say."""

    issuer: str
    client_id: str
    nonce: str
    access_token: str


def key_set(document: Mapping[str, Any]) -> "KeySet":
    """Return the keys of a JWKS (RFC 7517) that may sign; what is not understood is left out.

    Raises:
        ValueError: it is no JWKS.
    """
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry, KeySet

    keys = []
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("a JWKS has a list of keys")  # noqa: TRY004 - JSON of the wrong form
    for each in listed:
        if not isinstance(each, dict) or each.get("kty") not in _KEY_TYPES:
            continue
        if each.get("use", "sig") != "sig":
            continue
        try:
            keys.append(JWKRegistry.import_key(each))
        except (JoseError, *_HOSTILE):
            continue
    return KeySet(keys)


def verified_claims(id_token: object, keys: "KeySet", expected: Expected) -> dict[str, Any]:
    """Return what an ID token says.

    Raises:
        UnknownKey: its key is not among the keys.
        InvalidIdToken: it was not made by the issuer for us, for this sign-in, and now.
    """
    from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
    from joserfc import jwt
    from joserfc.errors import InvalidKeyIdError, JoseError
    from joserfc.jws import JWSRegistry

    if not isinstance(id_token, str):
        raise InvalidIdToken
    registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    try:
        token = jwt.decode(id_token, keys, registry=registry)
        claims = CodeIDToken(
            token.claims,
            token.header,
            options={
                "iss": {"essential": True, "value": expected.issuer},
                "aud": {"essential": True, "value": expected.client_id},
            },
            params={
                "nonce": expected.nonce,
                "client_id": expected.client_id,
                "access_token": expected.access_token,
            },
        )
        claims.validate(int(now().timestamp()), LEEWAY)
    except InvalidKeyIdError as error:
        raise UnknownKey from error
    except (JoseError, *_HOSTILE) as error:
        raise InvalidIdToken from error
    return dict(claims)
