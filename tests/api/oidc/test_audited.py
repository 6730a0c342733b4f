"""What the audit log and an export tell of identities."""

from fastapi import FastAPI
from httpx import AsyncClient

from tests.api.oidc.steps import IDENTITIES, identities, linked, signed_in
from tests.api.test_audit import told_of
from tests.factories import admin, expect, new_user
from tests.oidc_provider import OidcProvider


async def test_a_new_person_from_elsewhere_is_told_whole(
    app: FastAPI, client: AsyncClient, provider: OidcProvider
) -> None:
    boss = await admin(client, app)
    tokens = await signed_in(client, provider)
    assert await told_of(client, boss, tokens.account.id) == [
        "user.registered",
        "identity.linked",
        "sign_in.succeeded",
    ]
    answer = await client.get("/api/v1/users/me/export", headers=tokens.headers)
    (identity,) = expect(answer, 200)["identities"]
    assert identity["provider"] == "house"


async def test_linking_and_unlinking_are_told(
    app: FastAPI, client: AsyncClient, provider: OidcProvider
) -> None:
    boss, tokens = await admin(client, app), await new_user(client)
    await linked(client, provider, tokens)
    (identity,) = await identities(client, tokens)
    await client.delete(f"{IDENTITIES}/{identity['id']}", headers=tokens.headers)
    told = await told_of(client, boss, tokens.account.id)
    assert told[-2:] == ["identity.linked", "identity.unlinked"]
