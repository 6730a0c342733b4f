"""Attacks on ES256 and RS256: one algorithm for each key, and no public key is a secret (RFC 8725).

The service here has all three kinds at once, as in the middle of a rotation.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from httpx import AsyncClient

from app.clock import now
from app.security.key_files import write_key
from app.security.keys import SigningKey
from tests.api.test_token_attacks import CLAIMS, b64, compact, parts_of, status, unb64
from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, new_user

pytestmark = pytest.mark.only("embedded")  # what a token is does not touch the database
ALGORITHMS = ("HS256", "ES256", "RS256")
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    write_key(made, "ES256", now() - timedelta(minutes=2))
    write_key(made, "RS256", now() - timedelta(minutes=1))
    return made


@pytest.fixture
async def mixed(make_app: MakeApp, folder: Path) -> FastAPI:
    return await make_app(signing_keys_dir=folder)


@pytest.fixture
async def tokens(mixed: FastAPI, make_client: MakeClient) -> Tokens:
    return await new_user(make_client(mixed))


@pytest.fixture
def client(mixed: FastAPI, make_client: MakeClient) -> AsyncClient:
    return make_client(mixed)


def keys_of(app: FastAPI) -> dict[str, SigningKey]:
    return {key.algorithm: key for key in app.state.resources.keys._in_order}


def signed_by(key: SigningKey, header: Any, claims: Any) -> str:
    unsigned = compact(header, claims)[:-1]
    return f"{unsigned}.{b64(key.private.sign(unsigned.encode()))}"


def header_of(key: SigningKey, **over: Any) -> dict[str, Any]:
    return {"alg": key.algorithm, "kid": key.kid, "typ": "at+jwt"} | over


def claims_of(tokens: Tokens) -> dict[str, Any]:
    return parts_of(tokens.access)[1]


async def test_each_key_verifies_by_its_own_algorithm(
    client: AsyncClient, mixed: FastAPI, tokens: Tokens
) -> None:
    assert set(keys_of(mixed)) == set(ALGORITHMS)
    for key in keys_of(mixed).values():
        assert await status(client, signed_by(key, header_of(key), claims_of(tokens))) == 200


async def test_odd_claims_are_refused_whatever_the_algorithm(
    client: AsyncClient, mixed: FastAPI, tokens: Tokens
) -> None:
    for key, (name, forge) in product(keys_of(mixed).values(), CLAIMS.items()):
        header, claims = forge(header_of(key), claims_of(tokens))
        if header == header_of(key) and claims == claims_of(tokens):
            continue  # "alg confused" names RS256, which is no confusion here
        assert await status(client, signed_by(key, header, claims)) == 401, name


SPELLINGS: dict[str, Callable[[Any, SigningKey], bytes]] = {
    "PEM": lambda public, _: public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "PEM without its last line end": lambda public, _: public.public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    ).strip(),
    "DER": lambda public, _: public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "JWK": lambda _, key: json.dumps(dict(key.jwk or {})).encode(),
    "its largest member": lambda _, key: unb64(max((key.jwk or {}).values(), key=len)),
    "its id": lambda _, key: key.kid.encode(),
    "nothing": lambda *_: b"",
}


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_a_public_key_is_no_secret(
    client: AsyncClient, mixed: FastAPI, tokens: Tokens, algorithm: str
) -> None:
    keys = keys_of(mixed)
    key = keys[algorithm]
    headers = (
        header_of(key, alg="HS256"),
        header_of(key),
        header_of(keys["HS256"]),
        header_of(key, alg="none"),
    )
    for (spelling, spell), header in product(SPELLINGS.items(), headers):
        secret = spell(key.public.prepared_key, key)
        unsigned = compact(header, claims_of(tokens))[:-1]
        mac = hmac.digest(secret, unsigned.encode(), hashlib.sha256)
        assert await status(client, f"{unsigned}.{b64(mac)}") == 401, (spelling, header)


async def test_the_id_of_one_key_opens_nothing_for_another(
    client: AsyncClient, mixed: FastAPI, tokens: Tokens
) -> None:
    for signing, named in permutations(keys_of(mixed).values(), 2):
        for header in (
            header_of(named),
            header_of(named, alg=signing.algorithm),
            header_of(signing, alg=named.algorithm),
        ):
            assert await status(client, signed_by(signing, header, claims_of(tokens))) == 401


async def test_another_hash_or_padding_by_the_same_key_is_refused(
    client: AsyncClient, mixed: FastAPI, tokens: Tokens
) -> None:
    keys = keys_of(mixed)
    rsa_key = keys["RS256"].private.prepared_key
    ec_key = keys["ES256"].private.prepared_key
    salted = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    cases: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
        ("RS256", "RS512", lambda m: rsa_key.sign(m, padding.PKCS1v15(), hashes.SHA512())),
        ("RS256", "PS256", lambda m: rsa_key.sign(m, salted, hashes.SHA256())),
        ("RS256", "RS256", lambda m: rsa_key.sign(m, salted, hashes.SHA256())),
        ("RS256", "RS256", lambda m: rsa_key.sign(m, padding.PKCS1v15(), hashes.SHA512())),
        ("ES256", "ES512", lambda m: ec_key.sign(m, ec.ECDSA(hashes.SHA512()))),
        ("ES256", "ES256", lambda m: ec_key.sign(m, ec.ECDSA(hashes.SHA256()))),  # DER, not raw
    )
    for key, algorithm, sign in cases:
        unsigned = compact(header_of(keys[key], alg=algorithm), claims_of(tokens))[:-1]
        forged = f"{unsigned}.{b64(sign(unsigned.encode()))}"
        assert await status(client, forged) == 401, (key, algorithm)


HOLLOW = (
    b"\x00" * 64,  # CVE-2022-21449
    (0).to_bytes(32) + (1).to_bytes(32),
    (1).to_bytes(32) + (0).to_bytes(32),
    _P256_ORDER.to_bytes(32) * 2,
    b"\xff" * 64,
    b"\x01" * 63,
    b"\x01" * 65,
    b"\x00" * 384,
)


async def test_hollow_signatures_are_refused(
    client: AsyncClient, mixed: FastAPI, tokens: Tokens
) -> None:
    for key, signature in product(keys_of(mixed).values(), HOLLOW):
        assert await status(client, compact(header_of(key), claims_of(tokens), signature)) == 401


async def test_the_twin_of_an_elliptic_signature_dies_with_its_session(
    client: AsyncClient, mixed: FastAPI, tokens: Tokens
) -> None:
    key = keys_of(mixed)["ES256"]
    token = signed_by(key, header_of(key), claims_of(tokens))
    unsigned, _, signature = token.rpartition(".")
    raw = unb64(signature)
    assert len(raw) == 64
    twin_s = _P256_ORDER - int.from_bytes(raw[32:])
    twin = f"{unsigned}.{b64(raw[:32] + twin_s.to_bytes(32))}"
    await client.post("/api/v1/auth/logout", headers={"Authorization": f"Bearer {token}"})
    assert [await status(client, each) for each in (token, twin)] == [401, 401]


async def test_a_foreign_key_of_the_same_kind_signs_nothing(
    client: AsyncClient, mixed: FastAPI, tokens: Tokens
) -> None:
    key = keys_of(mixed)["ES256"]
    unsigned = compact(header_of(key), claims_of(tokens))[:-1]
    foreign = ec.generate_private_key(ec.SECP256R1())
    r, s = decode_dss_signature(foreign.sign(unsigned.encode(), ec.ECDSA(hashes.SHA256())))
    raw = r.to_bytes(32) + s.to_bytes(32)
    assert await status(client, f"{unsigned}.{b64(raw)}") == 401
    own = {"kty": "EC", "crv": "P-256", "x": b64(b"\x01" * 32), "y": b64(b"\x02" * 32)}
    header = header_of(key, jwk=own)
    assert await status(client, compact(header, claims_of(tokens), raw)) == 401
