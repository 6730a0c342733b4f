"""Which account an identity opens: linking, unlinking, and who may not."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import update

from app.models.users import users
from tests.api.oidc.steps import (
    AUTH,
    IDENTITIES,
    ME,
    code_of,
    come_back,
    fragment,
    identities,
    linked,
    profile,
    signed_in,
    to_callback,
)
from tests.api.rules import WHO
from tests.api.rules.oidc import rules
from tests.conftest import MakeApp, MakeClient
from tests.factories import Account, Tokens, admin, analyst, expect, new_user, register, sign_in
from tests.oidc_provider import OidcProvider


async def verify(app: FastAPI, account: Account, **values: Any) -> None:
    """Write into the database that an account's owner reads mail there; or other values."""
    async with app.state.resources.db.transaction() as connection:
        statement = update(users).where(users.c.id == account.id)
        await connection.execute(statement.values(**(values or {"is_verified": True})))


# ── An address that an account has already ──────────────────────────────────────────────────────


async def test_an_address_that_both_sides_verified_opens_the_account(
    app: FastAPI, client: AsyncClient, provider: OidcProvider
) -> None:
    account = await register(client)
    await verify(app, account)
    provider.vouch_for(email=account.email)
    tokens = await signed_in(client, provider)
    assert tokens.account.id == account.id
    (identity,) = await identities(client, tokens)
    assert set(identity) == {"id", "provider", "email", "created_at", "last_used_at"}
    assert (identity["provider"], identity["email"]) == ("house", account.email)
    await sign_in(client, account)


@pytest.mark.parametrize(
    ("here", "there"), [(False, True), (True, False), (False, False), (True, None), (True, "true")]
)
async def test_an_address_that_one_side_did_not_verify_opens_nothing(
    app: FastAPI, client: AsyncClient, provider: OidcProvider, here: bool, there: object
) -> None:
    account = await register(client)
    if here:
        await verify(app, account)
    provider.vouch_for(email=account.email, email_verified=there)
    problem = expect(await come_back(client, provider), 409)
    assert problem["error_code"] == "EMAIL_TAKEN"
    assert "sign in to it as before" in problem["detail"]
    tokens = await sign_in(client, account)
    assert await identities(client, tokens) == []


async def test_case_makes_no_other_address_but_a_lookalike_opens_nothing(
    app: FastAPI, client: AsyncClient, provider: OidcProvider
) -> None:
    account = await register(client)
    await verify(app, account)
    provider.vouch_for(email=account.email.replace("user", "\uff55ser"))
    assert code_of(await come_back(client, provider)) == "EMAIL_TAKEN"
    provider.vouch_for(email=account.email.upper())
    assert (await signed_in(client, provider)).account.id == account.id


@pytest.mark.only("embedded")
@pytest.mark.parametrize(
    "email", [None, "", "nobody", "a@b", "x" * 250 + "@example.com", "a\n@example.com", 7]
)
async def test_somebody_new_without_an_address_is_told_so(
    client: AsyncClient, provider: OidcProvider, email: object
) -> None:
    provider.vouch_for(email=email)
    assert code_of(await come_back(client, provider)) == "EMAIL_NEEDED"


@pytest.mark.only("embedded")
@pytest.mark.parametrize(
    "names",
    [
        {"preferred_username": None, "name": None},
        {"preferred_username": "ada@example.com", "name": "☃"},
        {"preferred_username": "x" * 300, "name": "y" * 300},
        {"preferred_username": "a\0b", "name": "c\ud800"},
        {"preferred_username": 7, "name": []},
        {"preferred_username": "<b>Ada</b>", "name": "Ädä Løvelace"},
    ],
)
async def test_whatever_the_provider_calls_a_person_there_is_a_username(
    client: AsyncClient, provider: OidcProvider, names: dict[str, Any]
) -> None:
    person = provider.vouch_for(**names)
    tokens = await signed_in(client, provider)
    me = await profile(client, tokens)
    assert 3 <= len(me["username"]) <= 50
    assert person["email"].split("@")[0] not in me["username"]
    patched = await client.patch(ME, json={"username": me["username"]}, headers=tokens.headers)
    expect(patched, 200)


async def test_two_of_one_name_are_told_apart(client: AsyncClient, provider: OidcProvider) -> None:
    taken = await register(client)
    provider.vouch_for(preferred_username=taken.username.upper())
    tokens = await signed_in(client, provider)
    assert tokens.account.username.startswith(f"{taken.username.upper()}-")


async def test_one_new_person_twice_at_once_gets_one_account(
    app: FastAPI, make_client: MakeClient, provider: OidcProvider
) -> None:
    browsers = [make_client(app) for _ in range(5)]
    answers = await asyncio.gather(*(come_back(each, provider) for each in browsers))
    pairs = [expect(each, 200) for each in answers]
    nobody = Account(0, "", "", "")
    found = [await profile(browsers[0], Tokens(each["access_token"], "", nobody)) for each in pairs]
    assert len({each["id"] for each in found}) == 1


# ── Suspended, deleted ──────────────────────────────────────────────────────────────────────────


async def test_a_suspended_account_is_not_opened(
    app: FastAPI, client: AsyncClient, browser: AsyncClient, provider: OidcProvider
) -> None:
    tokens = await signed_in(client, provider)
    code = fragment(await come_back(browser, provider))["sign_in_code"]
    await verify(app, tokens.account, is_active=False)
    answer = await come_back(client, provider)
    assert (answer.status_code, code_of(answer)) == (403, "ACCOUNT_SUSPENDED")
    late = await browser.post(f"{AUTH}/oidc/exchange", json={"code": code})
    assert (late.status_code, code_of(late)) == (403, "ACCOUNT_SUSPENDED")
    other = provider.vouch_for(email=provider.person["email"])
    assert other["email_verified"]
    assert code_of(await come_back(client, provider)) == "ACCOUNT_SUSPENDED"


async def test_after_a_deletion_the_person_is_somebody_new(
    client: AsyncClient, provider: OidcProvider
) -> None:
    tokens = await signed_in(client, provider)
    assert (await client.delete(ME, headers=tokens.headers)).status_code == 204
    again = await signed_in(client, provider)
    assert again.account.id != tokens.account.id


# ── Linking ─────────────────────────────────────────────────────────────────────────────────────


async def test_who_is_signed_in_links_an_identity_whatever_its_address(
    client: AsyncClient, provider: OidcProvider
) -> None:
    tokens = await new_user(client)
    provider.vouch_for(email=None)
    answer = await linked(client, provider, tokens)
    identity = expect(answer, 200)
    assert identity == (await identities(client, tokens))[0]
    assert (await signed_in(client, provider)).account.id == tokens.account.id
    again = await linked(client, provider, tokens)
    assert expect(again, 200)["id"] == identity["id"]


async def test_a_page_that_links_is_told_so_and_gets_no_code(
    browser: AsyncClient, provider: OidcProvider
) -> None:
    tokens = await new_user(browser)
    assert fragment(await linked(browser, provider, tokens)) == {"linked": "house"}


async def test_an_identity_of_somebody_else_is_not_linked(
    app: FastAPI, client: AsyncClient, make_client: MakeClient, provider: OidcProvider
) -> None:
    first = await signed_in(client, provider)
    other = make_client(app)
    tokens = await new_user(other)
    answer = await linked(other, provider, tokens)
    assert (answer.status_code, code_of(answer)) == (409, "IDENTITY_TAKEN")
    assert await identities(other, tokens) == []
    assert (await signed_in(client, provider)).account.id == first.account.id


async def test_an_address_that_begins_linking_is_no_use_to_others(
    app: FastAPI, client: AsyncClient, make_client: MakeClient, provider: OidcProvider
) -> None:
    """Who is lured to it would link their own identity to the attacker's account."""
    attacker = await new_user(client)
    url = f"{AUTH}/oidc/house/link"
    begun = expect(await client.post(url, json={}, headers=attacker.headers), 200)
    victim = make_client(app)
    answer = await victim.get(await provider.consent(begun["authorization_url"]))
    assert (answer.status_code, code_of(answer)) == (400, "SIGN_IN_EXPIRED")
    assert await identities(client, attacker) == []


async def test_linking_ends_with_the_session_that_began_it(
    client: AsyncClient, provider: OidcProvider
) -> None:
    tokens = await new_user(client)
    url = f"{AUTH}/oidc/house/link"
    begun = expect(await client.post(url, json={}, headers=tokens.headers), 200)
    callback = await provider.consent(begun["authorization_url"])
    await client.post(f"{AUTH}/logout", headers=tokens.headers)
    assert (await client.get(callback)).status_code == 401
    again = await sign_in(client, tokens.account)
    assert await identities(client, again) == []


async def test_linking_sends_nobody_to_a_strangers_page(client: AsyncClient) -> None:
    tokens = await new_user(client)
    body = {"redirect_to": "//evil.example"}
    answer = await client.post(f"{AUTH}/oidc/house/link", json=body, headers=tokens.headers)
    assert expect(answer, 422)["errors"][0]["field"] == "redirect_to"


# ── Unlinking ───────────────────────────────────────────────────────────────────────────────────


async def test_the_last_way_in_stays(client: AsyncClient, provider: OidcProvider) -> None:
    tokens = await signed_in(client, provider)
    first = provider.person
    (only,) = await identities(client, tokens)
    url = f"{IDENTITIES}/{only['id']}"
    answer = await client.delete(url, headers=tokens.headers)
    assert (answer.status_code, code_of(answer)) == (409, "LAST_WAY_IN")
    provider.vouch_for()
    expect(await linked(client, provider, tokens), 200)
    assert (await client.delete(url, headers=tokens.headers)).status_code == 204
    assert (await client.delete(url, headers=tokens.headers)).status_code == 404
    assert (await signed_in(client, provider)).account.id == tokens.account.id
    # Both sides have verified the first one's address, so it may come back by itself.
    provider.person = first
    assert (await signed_in(client, provider)).account.id == tokens.account.id


async def test_with_a_password_the_only_identity_may_go(
    client: AsyncClient, provider: OidcProvider
) -> None:
    tokens = await new_user(client)
    identity = expect(await linked(client, provider, tokens), 200)
    url = f"{IDENTITIES}/{identity['id']}"
    assert (await client.delete(url, headers=tokens.headers)).status_code == 204
    assert (await signed_in(client, provider)).account.id != tokens.account.id
    await sign_in(client, tokens.account)


async def test_of_two_ways_in_unlinked_at_once_one_stays(
    client: AsyncClient, provider: OidcProvider
) -> None:
    for _ in range(5):
        provider.vouch_for()
        tokens = await signed_in(client, provider)
        provider.vouch_for()
        expect(await linked(client, provider, tokens), 200)
        found = await identities(client, tokens)
        answers = await asyncio.gather(
            *(client.delete(f"{IDENTITIES}/{each['id']}", headers=tokens.headers) for each in found)
        )
        assert sorted(each.status_code for each in answers) == [204, 409]


async def test_an_identity_whose_provider_is_gone_is_no_way_in(
    client: AsyncClient,
    make_app: MakeApp,
    make_client: MakeClient,
    oidc_settings: dict[str, Any],
    provider: OidcProvider,
) -> None:
    tokens = await signed_in(client, provider)
    provider.vouch_for(id="1009", sub="fb-1009")
    house = oidc_settings["oidc_providers"]["house"]
    both = {"house": house, "barn": house}
    wide = make_client(await make_app(**(oidc_settings | {"oidc_providers": both})))
    url = f"{AUTH}/oidc/barn/link"
    begun = expect(await wide.post(url, json={}, headers=tokens.headers), 200)
    expect(await wide.get(await provider.consent(begun["authorization_url"])), 200)
    kept, _gone = await identities(client, tokens)
    answer = await client.delete(f"{IDENTITIES}/{kept['id']}", headers=tokens.headers)
    assert code_of(answer) == "LAST_WAY_IN"


# ── Who may call what needs a provider or an identity ───────────────────────────────────────────


async def outcome(
    visitor: AsyncClient, provider: OidcProvider, method: str, url: str, caller: Tokens | None
) -> str:
    """Call an operation as somebody; return the status where it is a refusal, else P."""
    params = {}
    if url.endswith("/callback"):
        params = dict((await to_callback(visitor, provider)).params)
    answer = await visitor.request(
        method,
        url,
        params=params,
        json={} if method == "POST" else None,
        headers=caller.headers if caller else {},
    )
    return str(answer.status_code) if answer.status_code in (401, 403, 404) else "P"


async def test_who_may_call(
    app: FastAPI, client: AsyncClient, make_client: MakeClient, provider: OidcProvider
) -> None:
    owner, ended = await new_user(client), await new_user(client)
    await client.post(f"{AUTH}/logout", headers=ended.headers)
    callers: dict[str, Tokens | None] = {
        "nobody": None,
        "stranger": await new_user(client),
        "analyst": await analyst(client, app),
        "admin": await admin(client, app),
        "ended": ended,
        "owner": owner,  # comes last: afterwards the identity is gone
    }
    for version in ("v1", "v2"):
        for name in sorted(rules.uncalled):
            identity = expect(await linked(client, provider, owner), 200)
            method, path = name.split(" ")
            path = path.format(provider="house", identity_id=identity["id"])
            wanted = dict(zip(WHO, rules.operations[name].split(), strict=True))
            found = {
                who: await outcome(
                    make_client(app), provider, method, f"/api/{version}{path}", caller
                )
                for who, caller in callers.items()
            }
            assert (name, found) == (name, wanted)
