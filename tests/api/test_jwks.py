"""Signing keys as files: what is published, and how one follows another without a refusal."""

import asyncio
import json
import os
import stat
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fastapi import FastAPI
from httpx import AsyncClient
from joserfc import jwk, jwt

from app.cli import main
from app.clock import now
from app.security.key_files import read_keys, write_key
from app.security.keys import KeyRing, keys_of_secrets, outlives
from app.services import signing_keys
from tests.api.test_token_attacks import parts_of
from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, expect, new_user, sign_in
from tests.patience import PATIENCE

JWKS = "/.well-known/jwks.json"
ME = "/api/v1/users/me"
AN_HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of keys, looked at often."""
    monkeypatch.setattr(signing_keys, "PAUSE", 0.1)
    return tmp_path / "keys"


async def published(client: AsyncClient) -> list[dict[str, str]]:
    answer = await client.get(JWKS)
    keys: list[dict[str, str]] = expect(answer, 200)["keys"]
    return keys


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something that a process finds out by itself."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_shared_secret_is_not_published(client: AsyncClient) -> None:
    answer = await client.get(JWKS)
    assert answer.json() == {"keys": []}
    assert answer.headers["cache-control"] == "public, max-age=300"


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_others_verify_our_tokens_by_what_is_published(
    make_app: MakeApp, make_client: MakeClient, folder: Path, algorithm: str
) -> None:
    write_key(folder, algorithm, now() - AN_HOUR)
    client = make_client(await make_app(signing_keys_dir=folder))
    tokens = await new_user(client)
    (key,) = await published(client)
    private = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
    assert private.isdisjoint(key)
    assert (key["alg"], key["use"]) == (algorithm, "sig")
    public = jwk.import_key(dict(key))
    assert key["kid"] == public.thumbprint()  # as another library computes RFC 7638
    token = jwt.decode(tokens.access, jwk.KeySet([public]), algorithms=[algorithm])
    assert token.header == {"alg": algorithm, "kid": key["kid"], "typ": "at+jwt"}
    assert token.claims["sub"] == str(tokens.account.id)
    assert (await client.get(ME, headers=tokens.headers)).status_code == 200


async def test_a_new_key_is_published_before_it_signs(
    make_app: MakeApp, make_client: MakeClient, folder: Path
) -> None:
    write_key(folder, "ES256", now() - AN_HOUR)
    client = make_client(await make_app(signing_keys_dir=folder))
    (first,) = await published(client)
    write_key(folder, "RS256", now() + AN_HOUR)

    async def both_are_there() -> bool:
        return len(await published(client)) == 2

    await until(both_are_there)
    assert {key["alg"] for key in await published(client)} == {"ES256", "RS256"}
    header, _, _ = parts_of((await new_user(client)).access)
    assert header["kid"] == first["kid"]


async def test_until_the_first_key_signs_the_secret_does(
    make_app: MakeApp, make_client: MakeClient, folder: Path, client: AsyncClient
) -> None:
    write_key(folder, "ES256", now() + AN_HOUR)
    following = make_client(await make_app(signing_keys_dir=folder))
    tokens = await new_user(following)
    assert parts_of(tokens.access)[0]["alg"] == "HS256"
    # `client` has not been told of the folder yet, as during a roll-out.
    assert (await client.get(ME, headers=tokens.headers)).status_code == 200


@pytest.mark.only("production")
async def test_a_rotation_under_load_refuses_nobody(
    make_app: MakeApp, make_client: MakeClient, folder: Path
) -> None:
    write_key(folder, "ES256", now() - AN_HOUR)
    workers = [make_client(await make_app(signing_keys_dir=folder)) for _ in range(2)]
    people = [await new_user(workers[0]) for _ in range(3)]
    statuses: list[int] = []
    kids: set[str] = set()
    rotated_until = float("inf")

    def is_too_early() -> bool:
        return time.monotonic() < rotated_until or len(kids) < 2 or len(statuses) <= 50

    async def use(index: int, tokens: Tokens) -> None:
        refresh, turn, before = tokens.refresh, index, tokens.headers
        while is_too_early():
            turn += 1
            signing, other = workers[turn % 2], workers[(turn + 1) % 2]
            pair = await signing.post("/api/v1/auth/refresh", json={"refresh_token": refresh})
            statuses.append(pair.status_code)
            refresh, access = pair.json()["refresh_token"], pair.json()["access_token"]
            kids.add(parts_of(access)[0]["kid"])
            headers = {"Authorization": f"Bearer {access}"}
            # Each must know what the other signs by, and what it has signed before the pause.
            asked = ((other, headers), (other, before), (workers[0], tokens.headers))
            answers = [await worker.get(ME, headers=by) for worker, by in asked]
            statuses.extend(answer.status_code for answer in answers)
            before = headers
            await asyncio.sleep(0.03)

    load = [asyncio.create_task(use(*each)) for each in enumerate(people)]
    await asyncio.sleep(0)
    signs_at = now() + timedelta(seconds=3)
    write_key(folder, "RS256", signs_at)
    rotated_until = time.monotonic() + 4
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*load)
    assert set(statuses) == {200}


async def test_a_removed_key_opens_nothing_any_more(
    make_app: MakeApp, make_client: MakeClient, folder: Path
) -> None:
    stolen = write_key(folder, "ES256", now() - AN_HOUR)
    client = make_client(await make_app(signing_keys_dir=folder))
    tokens = await new_user(client)
    assert (await client.get(ME, headers=tokens.headers)).status_code == 200
    write_key(folder, "ES256", now())
    stolen.unlink()

    async def is_refused() -> bool:
        return (await client.get(ME, headers=tokens.headers)).status_code == 401

    await until(is_refused)
    again = await sign_in(client, tokens.account)
    assert (await client.get(ME, headers=again.headers)).status_code == 200


def pem(private: Any, encryption: Any = None) -> bytes:
    content: bytes = private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
    )
    return content


DAMAGED_ED25519 = """-----BEGIN PRIVATE KEY-----
MCECAQAwBQYDK2VwBBUEEwABAgMEBQYHCAkKCwwNDg8QERI=
-----END PRIVATE KEY-----
"""
UNUSABLE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "half a key": lambda: pem(ec.generate_private_key(ec.SECP256R1()))[:100],
    "a public key": lambda: (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "DER": lambda: ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    ),
    "another curve": lambda: pem(ec.generate_private_key(ec.SECP384R1())),
    "a short RSA key": lambda: pem(rsa.generate_private_key(65537, 1024)),
    "another kind": lambda: pem(ed25519.Ed25519PrivateKey.generate()),
    "one with a password": lambda: pem(
        ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"secret")
    ),
    "a damaged one of another kind": DAMAGED_ED25519.encode,
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_holds_no_usable_key_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "20260101T000000Z.pem").write_bytes(UNUSABLE[name]())
    with pytest.raises(ValueError, match=r"20260101T000000Z\.pem"):
        read_keys(tmp_path)


def test_a_file_must_be_named_for_its_time(tmp_path: Path) -> None:
    write_key(tmp_path, "ES256", now()).rename(tmp_path / "key.pem")
    with pytest.raises(ValueError, match=r"key\.pem"):
        read_keys(tmp_path)


@pytest.mark.only("embedded")
async def test_files_that_cannot_be_used_change_nothing(
    make_app: MakeApp, make_client: MakeClient, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = write_key(folder, "ES256", now() - AN_HOUR)
    client = make_client(await make_app(signing_keys_dir=folder))
    tokens = await new_user(client)
    kept = await published(client)
    (folder / "20260101T000000Z.pem").write_text("no key")
    first.unlink()

    async def is_told() -> bool:
        return "20260101T000000Z.pem" in caplog.text

    await until(is_told)
    assert await published(client) == kept
    assert (await client.get(ME, headers=tokens.headers)).status_code == 200
    assert caplog.text.count("stay as they were") == 1  # and not every time


@pytest.mark.only("embedded")
async def test_a_start_without_a_key_is_refused(make_app: MakeApp, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kingpost keys generate"):
        await make_app(signing_keys_dir=tmp_path)


async def test_a_folder_as_kubernetes_mounts_it_is_followed(
    make_app: MakeApp, make_client: MakeClient, folder: Path
) -> None:
    def mount(name: str, *keys: Path) -> None:
        version = folder / name
        version.mkdir(parents=True)
        for key in keys:
            (version / key.name).write_bytes(key.read_bytes())
            if not (folder / key.name).is_symlink():
                (folder / key.name).symlink_to(f"..data/{key.name}")
        (folder / "..data_tmp").symlink_to(name)
        (folder / "..data_tmp").rename(folder / "..data")

    made = folder.with_name("made")
    first = write_key(made, "ES256", now() - AN_HOUR)
    mount("..1", first)
    client = make_client(await make_app(signing_keys_dir=folder))
    assert len(await published(client)) == 1
    mount("..2", first, write_key(made, "ES256", now() + AN_HOUR))

    async def both_are_there() -> bool:
        return len(await published(client)) == 2

    await until(both_are_there)


def test_a_key_verifies_until_its_last_token_has_run_out(tmp_path: Path) -> None:
    lifetime, leeway = 15 * MINUTE, MINUTE
    start = now().replace(microsecond=0)
    for after in (AN_HOUR, 2 * AN_HOUR):
        write_key(tmp_path, "ES256", start + after)
    first, second = read_keys(tmp_path)
    (secret,) = keys_of_secrets(b"s" * 32)
    ring = KeyRing([secret, first, second], outlives=outlives(lifetime, leeway))

    def state(moment: timedelta) -> tuple[str, set[str]]:
        at = start + moment
        known = {key.kid for key in (secret, first, second) if ring.key(key.kid, at)}
        return ring.signing_key(at).kid, known

    a, b, c = secret.kid, first.kid, second.kid
    second_of = timedelta(seconds=1)
    assert state(timedelta(0)) == (a, {a, b, c})
    assert state(AN_HOUR) == (b, {a, b, c})
    assert state(AN_HOUR + 17 * MINUTE - second_of) == (b, {a, b, c})
    assert state(AN_HOUR + 17 * MINUTE) == (b, {b, c})
    assert state(2 * AN_HOUR) == (c, {b, c})
    assert state(2 * AN_HOUR + 17 * MINUTE) == (c, {c})
    assert [key["kid"] for key in ring.published(start + 3 * AN_HOUR)] == [c]


def test_the_commands_make_rotate_and_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "keys"
    monkeypatch.chdir(tmp_path)
    assert main(["keys", "generate"]) == 2
    assert "SIGNING_KEYS_DIR" in capsys.readouterr().err
    monkeypatch.setenv("SIGNING_KEYS_DIR", str(folder))
    assert main(["keys", "rotate"]) == 1
    assert main(["keys", "generate", "--after", "-1"]) == 2
    assert main(["keys", "generate"]) == 0
    (path,) = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert main(["keys", "generate"]) == 2
    assert main(["keys", "rotate"]) == 2  # the first one waits still
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    assert "signs from" in capsys.readouterr().out
    past = [f"2026010{day}T000000Z.pem" for day in (1, 2)]
    path.rename(folder / past[1])
    os.link(write_key(tmp_path, "ES256", now()), folder / past[0])
    assert main(["keys", "rotate", "--algorithm", "RS256"]) == 0
    left = read_keys(folder)
    assert [key.algorithm for key in left] == ["ES256", "RS256"]
    assert not (folder / past[0]).exists()
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    told = capsys.readouterr().out
    assert told.count("  signs\n") == 1
    assert "PRIVATE" not in told
    assert json.dumps(left[0].kid)[1:-1] in told


def test_the_same_key_twice_is_refused(tmp_path: Path) -> None:
    path = write_key(tmp_path, "ES256", now())
    os.link(path, tmp_path / "20260101T000000Z.pem")
    with pytest.raises(ValueError, match="same"):
        KeyRing([*keys_of_secrets(b"s" * 32), *read_keys(tmp_path)], outlives=MINUTE)


async def test_the_default_keys_are_those_of_the_secrets(app: FastAPI) -> None:
    ring: KeyRing = app.state.resources.keys
    assert ring.signing_key(now()).algorithm == "HS256"
