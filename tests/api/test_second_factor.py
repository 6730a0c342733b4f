"""Having a second factor: enrolling, looking at it, new recovery codes, being rid of it."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import func, select

from app.models.second_factor import recovery_codes, totp_factors
from app.security.signing import decode_base64url
from tests.api.second_factors import (
    AUTH,
    ME,
    TOTP,
    Enrolled,
    begin,
    challenge_for,
    code_of,
    confirm,
    enrol,
    let_steps_pass,
    password_form,
    sign_in,
    wrong_code,
)
from tests.conftest import MakeApp, MakeClient
from tests.factories import Account, Tokens, admin, expect, new_user
from tests.factories import sign_in as sign_in_plainly
from tests.patience import no_longer


async def status(client: AsyncClient, tokens: Tokens | Enrolled) -> dict[str, Any]:
    return expect(await client.get(TOTP, headers=tokens.headers), 200)


async def proven(
    client: AsyncClient, method: str, path: str, tokens: Tokens | Enrolled, **body: str
) -> Any:
    body = {"password": tokens.account.password, **body}
    return await client.request(method, path, json=body, headers=tokens.headers)


async def test_an_app_gets_all_that_it_needs_and_no_cache_keeps_it(client: AsyncClient) -> None:
    tokens = await new_user(client)
    given = await proven(client, "POST", TOTP, tokens)
    enrolment = expect(given, 200)
    assert given.headers["cache-control"] == "no-store"
    assert len(enrolment["secret"]) == 32
    uri = urlsplit(enrolment["otpauth_uri"])
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert unquote(uri.path) == f"/Kingpost:{tokens.account.username}"
    fields = parse_qs(uri.query)
    assert (fields["secret"], fields["issuer"]) == ([enrolment["secret"]], ["Kingpost"])
    assert enrolment["qr_code"].startswith("data:image/svg+xml")
    assert "<svg" in unquote(enrolment["qr_code"])


async def test_a_stolen_token_alone_begins_nothing(client: AsyncClient) -> None:
    tokens = await new_user(client)
    for password in ("", "a guess", "x" * 1024):
        refused = await proven(client, "POST", TOTP, tokens, password=password)
        assert expect(refused, 422)["errors"][0]["field"] == "password"
    assert (await confirm(client, tokens, "000000")).status_code == 404
    assert not (await status(client, tokens))["is_enabled"]


async def test_what_was_begun_counts_for_nothing_until_confirmed(client: AsyncClient) -> None:
    tokens = await new_user(client)
    secret = (await begin(client, tokens))["secret"]
    assert await sign_in_plainly(client, tokens.account)
    refused = await confirm(client, tokens, wrong_code(secret))
    assert expect(refused, 422)["errors"][0]["field"] == "code"
    assert await status(client, tokens) == {"is_enabled": False, "recovery_codes_left": 0}
    # Begun anew, the first secret is void.
    second = (await begin(client, tokens))["secret"]
    assert second != secret
    assert (await confirm(client, tokens, code_of(secret))).status_code == 422
    codes = expect(await confirm(client, tokens, code_of(second)), 200)["recovery_codes"]
    assert len(set(codes)) == 10
    assert await status(client, tokens) == {"is_enabled": True, "recovery_codes_left": 10}


async def test_turning_it_on_ends_the_sessions_that_came_in_without(
    client: AsyncClient, app: FastAPI
) -> None:
    here = await new_user(client)
    thief = await sign_in_plainly(client, here.account)
    await enrol(client, app, here)
    assert (await client.get(ME, headers=here.headers)).status_code == 200
    assert (await client.get(ME, headers=thief.headers)).status_code == 401
    refreshed = await client.post(f"{AUTH}/refresh", json={"refresh_token": thief.refresh})
    assert refreshed.status_code == 401


async def test_a_second_one_is_refused_and_the_first_stays(
    client: AsyncClient, app: FastAPI
) -> None:
    enrolled = await enrol(client, app)
    again = await proven(client, "POST", TOTP, enrolled)
    assert expect(again, 409)["error_code"] == "SECOND_FACTOR_EXISTS"
    again = await confirm(client, enrolled.tokens, code_of(enrolled.secret, 1))
    assert expect(again, 409)["error_code"] == "SECOND_FACTOR_EXISTS"
    assert (await sign_in(client, enrolled)).status_code == 200


async def test_confirmed_many_times_at_once_it_gives_one_set_of_codes(
    client: AsyncClient, app: FastAPI
) -> None:
    tokens = await new_user(client)
    secret = (await begin(client, tokens))["secret"]
    answers = await asyncio.gather(*(confirm(client, tokens, code_of(secret)) for _ in range(8)))
    assert sorted(each.status_code for each in answers) == [200] + [409] * 7
    async with app.state.resources.db.read() as connection:
        mine = recovery_codes.c.user_id == tokens.account.id
        kept = await connection.execute(select(func.count()).where(mine))
    assert kept.scalar_one() == 10


async def test_the_code_that_confirmed_it_signs_nobody_in(client: AsyncClient) -> None:
    tokens = await new_user(client)
    secret = (await begin(client, tokens))["secret"]
    code = code_of(secret)
    expect(await confirm(client, tokens, code), 200)
    replayed = await password_form(client, tokens.account, otp=code)
    assert expect(replayed, 401)["error_code"] == "INVALID_CODE"


async def test_new_recovery_codes_make_the_old_ones_void(client: AsyncClient, app: FastAPI) -> None:
    enrolled = await enrol(client, app)
    path = f"{TOTP}/recovery-codes"
    for wrong in ({"password": "a guess"}, {"code": wrong_code(enrolled.secret)}):
        body = {"code": code_of(enrolled.secret), **wrong}
        assert (await proven(client, "POST", path, enrolled, **body)).status_code == 422
    given = await proven(client, "POST", path, enrolled, code=code_of(enrolled.secret))
    fresh = expect(given, 200)["recovery_codes"]
    assert given.headers["cache-control"] == "no-store"
    assert not set(fresh) & set(enrolled.recovery_codes)
    assert (await sign_in(client, enrolled, enrolled.recovery_codes[0])).status_code == 401
    assert (await sign_in(client, enrolled, fresh[0])).status_code == 200


async def test_being_rid_of_it_takes_password_and_code(client: AsyncClient, app: FastAPI) -> None:
    enrolled = await enrol(client, app)
    for wrong in ({"password": "a guess"}, {"code": wrong_code(enrolled.secret)}):
        body = {"code": code_of(enrolled.secret), **wrong}
        assert (await proven(client, "DELETE", TOTP, enrolled, **body)).status_code == 422
    assert (await status(client, enrolled))["is_enabled"]
    expect(await sign_in(client, enrolled, enrolled.recovery_codes[0]), 200)
    other = expect(await sign_in(client, enrolled), 200)
    await let_steps_pass(app, enrolled.account)
    gone = await proven(client, "DELETE", TOTP, enrolled, code=code_of(enrolled.secret))
    assert gone.status_code == 204
    assert await status(client, enrolled) == {"is_enabled": False, "recovery_codes_left": 0}
    headers = {"Authorization": f"Bearer {other['access_token']}"}
    assert (await client.get(ME, headers=headers)).status_code == 401
    assert await sign_in_plainly(client, enrolled.account)
    again = await proven(client, "DELETE", TOTP, enrolled, code=code_of(enrolled.secret))
    assert again.status_code == 404


async def test_a_recovery_code_is_enough_to_be_rid_of_a_lost_device(
    client: AsyncClient, app: FastAPI
) -> None:
    enrolled = await enrol(client, app)
    gone = await proven(client, "DELETE", TOTP, enrolled, code=enrolled.recovery_codes[3])
    assert gone.status_code == 204


async def test_an_admin_resets_what_somebody_has_lost_and_their_sessions_end(
    client: AsyncClient, app: FastAPI
) -> None:
    boss, enrolled = await admin(client, app), await enrol(client, app)
    waiting = await challenge_for(client, enrolled.account)
    url = f"/api/v1/users/{enrolled.account.id}/totp"
    stranger = await new_user(client)
    for thief in (stranger, enrolled):
        assert (await client.delete(url, headers=thief.headers)).status_code == 403
    assert (await client.delete(url, headers=boss.headers)).status_code == 204
    assert (await client.get(ME, headers=enrolled.headers)).status_code == 401
    late = {"challenge": waiting, "code": code_of(enrolled.secret)}
    assert (await client.post(f"{AUTH}/token/second-factor", json=late)).status_code == 401
    tokens = await sign_in_plainly(client, enrolled.account)
    # Where there is nothing to reset, nothing happens.
    assert (await client.delete(url, headers=boss.headers)).status_code == 204
    assert (await client.get(ME, headers=tokens.headers)).status_code == 200
    nobody = f"/api/v1/users/{2**62}/totp"
    assert (await client.delete(nobody, headers=boss.headers)).status_code == 404


async def test_an_admins_stolen_token_does_not_reset_the_admins_own(
    client: AsyncClient, app: FastAPI
) -> None:
    boss = await enrol(client, app, await admin(client, app))
    url = f"/api/v1/users/{boss.account.id}/totp"
    assert (await client.delete(url, headers=boss.headers)).status_code == 403
    assert (await status(client, boss))["is_enabled"]


async def test_nothing_at_rest_opens_anything(client: AsyncClient, app: FastAPI) -> None:
    enrolled = await enrol(client, app)
    challenge = await challenge_for(client, enrolled.account)
    async with app.state.resources.db.read() as connection:
        everything = ""
        for table in totp_factors.metadata.sorted_tables:
            everything += "".join(map(str, await connection.execute(select(table))))
    assert enrolled.secret not in everything
    assert challenge not in everything
    for code in enrolled.recovery_codes:
        assert code not in everything
        assert code.replace("-", "") not in everything


async def test_a_secret_moved_to_another_account_does_not_open_there(
    client: AsyncClient, app: FastAPI
) -> None:
    victim, thief = await enrol(client, app), await enrol(client, app)
    async with app.state.resources.db.transaction() as connection:
        own = select(totp_factors.c.sealed_secret).where(totp_factors.c.user_id == thief.account.id)
        sealed = (await connection.execute(own)).scalar_one()
        theirs = totp_factors.update().where(totp_factors.c.user_id == victim.account.id)
        await connection.execute(theirs.values(sealed_secret=sealed))
    assert (await sign_in(client, victim, code_of(thief.secret))).status_code == 401
    assert (await sign_in(client, victim, victim.recovery_codes[0])).status_code == 200


async def test_a_deleted_account_leaves_no_secret_behind(client: AsyncClient, app: FastAPI) -> None:
    enrolled = await enrol(client, app)
    assert (await client.delete(ME, headers=enrolled.headers)).status_code == 204
    async with app.state.resources.db.read() as connection:
        for table in (totp_factors, recovery_codes):
            mine = select(table).where(table.c.user_id == enrolled.account.id)
            assert (await connection.execute(mine)).first() is None


async def test_v2_speaks_camel_case(client: AsyncClient) -> None:
    tokens = await new_user(client)
    body = {"password": tokens.account.password}
    begun = await client.post("/api/v2/auth/totp", json=body, headers=tokens.headers)
    assert set(expect(begun, 200)) == {"secret", "otpauthUri", "qrCode"}
    code = {"code": code_of(begun.json()["secret"])}
    confirmed = await client.post("/api/v2/auth/totp/confirm", json=code, headers=tokens.headers)
    assert len(expect(confirmed, 200)["recoveryCodes"]) == 10
    seen = await client.get("/api/v2/auth/totp", headers=tokens.headers)
    assert expect(seen, 200) == {"isEnabled": True, "recoveryCodesLeft": 10}


async def power(client: AsyncClient, tokens: Tokens | Enrolled, other: Account) -> list[Any]:
    """Return what an admin's token is good for: the list, a change, and the code of a refusal."""
    listed = await client.get("/api/v1/users", headers=tokens.headers)
    url = f"/api/v1/users/{other.id}"
    changed = await client.patch(url, json={"full_name": "B"}, headers=tokens.headers)
    return [listed.status_code, changed.status_code, listed.json().get("error_code")]


REFUSED = [403, 403, "SECOND_FACTOR_SETUP_REQUIRED"]
GRANTED = [200, 200, None]


@pytest.fixture
async def strict(make_app: MakeApp, make_client: MakeClient) -> AsyncClient:
    return make_client(await make_app(require_second_factor_for_admins=True))


async def test_where_it_is_required_an_admin_without_one_is_a_user(
    client: AsyncClient, app: FastAPI, strict: AsyncClient
) -> None:
    other = await new_user(client)
    item = {"name": "A", "price": 1, "visibility": "private"}
    hidden = expect(await client.post("/api/v1/items", json=item, headers=other.headers), 201)
    boss = await admin(client, app)
    boss = await sign_in_plainly(strict, boss.account)
    assert await power(strict, boss, other.account) == REFUSED
    seen = await strict.get(f"/api/v1/items/{hidden['id']}", headers=boss.headers)
    assert seen.status_code == 404
    # What other services read in the token is no more than that either.
    assert '"admin"' not in payload_of(boss.access)
    enrolled = await enrol(strict, app, boss)
    assert await power(strict, boss, other.account) == GRANTED
    fresh = expect(await sign_in(strict, enrolled), 200)
    assert '"admin"' in payload_of(fresh["access_token"])
    # Nobody else is asked for one.
    stranger = await new_user(strict)
    refused = await strict.get("/api/v1/users", headers=stranger.headers)
    assert expect(refused, 403)["error_code"] == "FORBIDDEN"


def payload_of(token: str) -> str:
    return decode_base64url(token.split(".")[1]).decode()


async def test_an_admin_who_removes_it_loses_the_power_with_it(
    client: AsyncClient, app: FastAPI, strict: AsyncClient
) -> None:
    other = await new_user(client)
    boss = await enrol(strict, app, await admin(strict, app))
    assert await power(strict, boss, other.account) == GRANTED
    gone = await proven(strict, "DELETE", TOTP, boss, code=code_of(boss.secret))
    assert gone.status_code == 204
    assert await power(strict, boss, other.account) == REFUSED


async def test_an_admins_api_key_has_no_more_power_than_the_admin(
    client: AsyncClient, app: FastAPI, strict: AsyncClient
) -> None:
    boss = await sign_in_plainly(strict, (await admin(client, app)).account)
    body = {"name": "ops", "scopes": ["users:read"]}
    made = await strict.post(f"{AUTH}/api-keys", json=body, headers=boss.headers)
    key = {"X-API-Key": expect(made, 201)["secret"]}
    refused = await strict.get("/api/v1/users", headers=key)
    assert expect(refused, 403)["error_code"] == "SECOND_FACTOR_SETUP_REQUIRED"
    enrolled = await enrol(strict, app, boss)
    assert (await strict.get("/api/v1/users", headers=key)).status_code == 200
    # And no key begins, reads or resets a second factor, whatever its scopes.
    for method, path in (("GET", TOTP), ("DELETE", f"/api/v1/users/{enrolled.account.id}/totp")):
        answer = await strict.request(method, path, headers=key)
        assert expect(answer, 403)["error_code"] == "INSUFFICIENT_SCOPE"


@pytest.mark.only("production")
async def test_the_power_comes_and_goes_on_every_worker_within_a_second(
    make_app: MakeApp, make_client: MakeClient, client: AsyncClient, app: FastAPI
) -> None:
    here, there = [
        make_client(await make_app(require_second_factor_for_admins=True)) for _ in range(2)
    ]
    other = await new_user(client)
    boss = await admin(here, app)
    assert await power(there, boss, other.account) == REFUSED
    enrolled = await enrol(here, app, boss)

    async def has_none() -> bool:
        return await power(there, boss, other.account) != GRANTED

    async def has_it() -> bool:
        return await power(there, boss, other.account) != REFUSED

    await no_longer(has_none, than=1)
    gone = await proven(here, "DELETE", TOTP, enrolled, code=code_of(enrolled.secret))
    assert gone.status_code == 204
    await no_longer(has_it, than=1)
