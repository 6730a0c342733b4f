"""An account taken home, kept out, and let go; and an admin that is always left."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from itertools import product
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import insert

from app.clock import now
from app.models.items import items
from app.repositories import account_export as pages
from app.repositories.users import UserRepository
from app.security.principal import Role
from tests.api.live import listening
from tests.conftest import MakeApp, MakeClient
from tests.factories import (
    PASSWORD,
    Tokens,
    admin,
    create_item,
    expect,
    give_roles,
    new_user,
    register,
    sign_in,
)
from tests.live_server import LiveServer
from tests.patience import PATIENCE, no_longer

USERS = "/api/v1/users"
EXPORT = f"{USERS}/me/export"


def url_of(tokens: Tokens) -> str:
    return f"{USERS}/{tokens.account.id}"


async def suspend(client: AsyncClient, boss: Tokens, someone: Tokens) -> Response:
    url = f"{url_of(someone)}/suspend"
    return await client.post(url, json={"reason": "Spam"}, headers=boss.headers)


async def exported(client: AsyncClient, tokens: Tokens, version: str = "v1") -> dict[str, Any]:
    answer = await client.get(f"/api/{version}/users/me/export", headers=tokens.headers)
    return expect(answer, 200)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_an_export_holds_all_that_is_kept_and_nothing_of_others(
    client: AsyncClient, app: FastAPI, version: str
) -> None:
    boss, other = await admin(client, app), await new_user(client)
    me = await new_user(client, full_name='Ada "von" Beispiel')
    kept = await create_item(client, me, name="Ours", visibility="private", tags=["ä"])
    gone = await create_item(client, me, name="Deleted")
    await client.delete(f"/api/v1/items/{gone['id']}", headers=me.headers)
    await create_item(client, other, name="Theirs")
    files = f"/api/v1/items/{kept['id']}/files"
    plan = {"file": ("plan.txt", b"Four legs, one board.", "text/plain")}
    expect(await client.post(files, files=plan, headers=me.headers), 201)
    await client.patch(url_of(me), json={"roles": ["user", "analyst"]}, headers=boss.headers)
    document = await exported(client, me, version)
    assert set(document) == {
        "exported_at",
        "profile",
        "sessions",
        "identities",
        "api_keys",
        "email_changes",
        "items",
        "deleted_items",
        "files",
        "webhooks",
        "audit",
    }
    profile = expect(await client.get(f"{USERS}/me", headers=me.headers), 200)
    assert document["profile"] == profile
    assert [each["id"] for each in document["items"]] == [kept["id"]]
    assert [each["name"] for each in document["deleted_items"]] == ["Deleted"]
    assert [each["name"] for each in document["files"]] == ["plan.txt"]
    assert len(document["sessions"]) == 1
    kinds = [each["kind"] for each in document["audit"]]
    assert kinds == [
        "user.registered",
        "sign_in.succeeded",
        "user.roles_changed",
        "user.exported",
    ]
    by_admin = document["audit"][2]
    hidden = ("actor_id", "credential", "address", "user_agent", "request_id")
    assert {by_admin[name] for name in hidden} == {None}


async def test_an_export_tells_no_secret(client: AsyncClient) -> None:
    me = await new_user(client)
    body = {"name": "Robot", "scopes": ["items:read"]}
    made = await client.post("/api/v1/auth/api-keys", json=body, headers=me.headers)
    key = expect(made, 201)["secret"]
    document = await exported(client, me)
    assert [each["name"] for each in document["api_keys"]] == ["Robot"]
    text = json.dumps(document).lower()
    for secret in (
        key,
        PASSWORD,
        "password_hash",
        "argon2",
        "seed",
        "digest",
        me.access,
        me.refresh,
    ):
        assert secret.lower() not in text


async def test_an_export_is_a_download_that_nobody_keeps(client: AsyncClient) -> None:
    me = await new_user(client)
    answer = await client.get(EXPORT, headers=me.headers)
    name = f'attachment; filename="kingpost-account-{me.account.id}.json"'
    assert answer.headers["content-disposition"] == name
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].startswith("application/json")


async def test_an_export_of_many_rows_is_whole_and_read_page_by_page(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE", 7)
    me = await new_user(client)
    rows = [
        {
            "owner_id": me.account.id,
            "name": f"n{n}",
            "price_cents": 1,
            "tags": [],
            "visibility": "private",
            "metadata": {},
            "created_at": now(),
            "updated_at": now(),
        }
        for n in range(35)  # five pages, the last of them full
    ]
    async with app.state.resources.db.transaction() as connection:
        await connection.execute(insert(items), rows)
    for _ in range(3):
        await client.patch(f"{USERS}/me", json={"full_name": "A"}, headers=me.headers)
        await client.patch(f"{USERS}/me", json={"full_name": "B"}, headers=me.headers)
    document = await exported(client, me)
    assert [each["name"] for each in document["items"]] == [f"n{n}" for n in range(35)]
    ids = [each["id"] for each in document["audit"]]
    assert len(ids) == len(set(ids)) == 9
    assert ids == sorted(ids)


async def test_who_stops_reading_an_export_holds_no_connection(
    server: LiveServer, client: AsyncClient, app: FastAPI
) -> None:
    me = await new_user(client)
    async with app.state.resources.db.transaction() as connection:
        row = {
            "owner_id": me.account.id,
            "name": "n",
            "description": "x" * 2000,
            "price_cents": 1,
            "tags": [],
            "visibility": "private",
            "metadata": {},
            "created_at": now(),
            "updated_at": now(),
        }
        await connection.execute(insert(items), [row] * 4000)  # 8 MB: more than sockets buffer
    headers = {**me.headers, "Accept-Encoding": "identity"}
    async with (
        server.client() as slow,
        slow.stream("GET", EXPORT, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        async with asyncio.timeout(PATIENCE):
            while app.state.resources.db.pool_use()[1]:
                await asyncio.sleep(0.05)
        others = [client.get(f"{USERS}/me", headers=me.headers) for _ in range(20)]
        assert {each.status_code for each in await asyncio.gather(*others)} == {200}


async def test_exports_are_limited(make_app: MakeApp, make_client: MakeClient) -> None:
    app = await make_app(rate_limits_enabled=True, rate_limit_account_export="2/hour")
    client = make_client(app)
    me = await new_user(client)
    answers = [await client.get(EXPORT, headers=me.headers) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]


async def test_a_suspended_account_is_out_at_once_and_back_after(
    client: AsyncClient, app: FastAPI
) -> None:
    boss, someone = await admin(client, app), await new_user(client)
    item = await create_item(client, someone)
    answer = expect(await suspend(client, boss, someone), 200)
    assert (answer["is_active"], answer["suspended_for"]) == (False, "Spam")
    assert (await client.get(f"{USERS}/me", headers=someone.headers)).status_code == 401
    refresh = {"refresh_token": someone.refresh}
    assert (await client.post("/api/v1/auth/refresh", json=refresh)).status_code == 401
    assert (await client.get(f"/api/v1/items/{item['id']}")).status_code == 200
    url = f"{url_of(someone)}/unsuspend"
    answer = expect(await client.post(url, headers=boss.headers), 200)
    assert (answer["is_active"], answer["suspended_for"]) == (True, None)
    assert (await client.get(f"{USERS}/me", headers=someone.headers)).status_code == 401
    again = await sign_in(client, someone.account)
    assert (await client.get(f"{USERS}/me", headers=again.headers)).status_code == 200


async def test_signing_in_to_a_suspended_account_is_as_with_a_wrong_password(
    client: AsyncClient, app: FastAPI
) -> None:
    boss, someone = await admin(client, app), await new_user(client)
    await suspend(client, boss, someone)
    answers = []
    for password in (PASSWORD, "wrong"):
        form = {"username": someone.account.username, "password": password}
        answer = await client.post("/api/v1/auth/token", data=form)
        answers.append(expect(answer, 401) | {"request_id": ""})
    assert answers[0] == answers[1]


@pytest.mark.only("production")
async def test_a_suspension_bites_on_every_worker_within_a_second(
    client: AsyncClient, app: FastAPI, make_app: MakeApp, make_client: MakeClient
) -> None:
    boss, someone = await admin(client, app), await new_user(client)
    elsewhere = make_client(await make_app())

    async def is_in_there() -> bool:
        answer = await elsewhere.get(f"{USERS}/me", headers=someone.headers)
        assert answer.status_code in (200, 401)
        return answer.status_code == 200

    assert await is_in_there()  # and remembered
    assert (await suspend(client, boss, someone)).status_code == 200
    await no_longer(is_in_there, than=1)


async def test_a_suspension_closes_open_sockets(
    server: LiveServer, client: AsyncClient, app: FastAPI
) -> None:
    boss, someone = await admin(client, app), await new_user(client)
    async with listening(server, someone, "me") as live:
        await suspend(client, boss, someone)
        assert await live.close_code() == 1008


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": " "}, {"reason": "x" * 301}])
async def test_a_suspension_needs_a_reason(
    client: AsyncClient, app: FastAPI, body: dict[str, str]
) -> None:
    boss, someone = await admin(client, app), await register(client)
    answer = await client.post(f"{USERS}/{someone.id}/suspend", json=body, headers=boss.headers)
    assert answer.status_code == 422


async def test_activating_an_account_forgets_why_it_was_suspended(
    client: AsyncClient, app: FastAPI
) -> None:
    boss, someone = await admin(client, app), await new_user(client)
    await suspend(client, boss, someone)
    answer = await client.patch(url_of(someone), json={"is_active": True}, headers=boss.headers)
    assert expect(answer, 200)["suspended_for"] is None


Removal = Callable[[AsyncClient, Tokens, Tokens], Coroutine[Any, Any, Response]]
REMOVALS: dict[str, Removal] = {
    "demote": lambda c, by, whom: c.patch(
        url_of(whom), json={"roles": ["user"]}, headers=by.headers
    ),
    "deactivate": lambda c, by, whom: c.patch(
        url_of(whom), json={"is_active": False}, headers=by.headers
    ),
    "suspend": suspend,
    "delete": lambda c, by, whom: c.delete(url_of(whom), headers=by.headers),
    "delete itself": lambda c, by, _: c.delete(f"{USERS}/me", headers=by.headers),
}


async def active_admins(app: FastAPI) -> int:
    async with app.state.resources.db.read() as connection:
        return await UserRepository(connection).count(role=Role.ADMIN, is_active=True, q=None)


@pytest.mark.usefixtures("clean_database")
async def test_two_admins_who_remove_one_another_at_once_leave_one(
    client: AsyncClient, app: FastAPI
) -> None:
    each_other = ("demote", "suspend", "delete")
    for names in (*product(each_other, each_other), ("delete itself", "delete itself")):
        remove, other = (REMOVALS[name] for name in names)
        first, second = await admin(client, app), await admin(client, app)
        answers = await asyncio.gather(remove(client, first, second), other(client, second, first))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses[0] in (200, 204), names
        assert statuses[1] in (401, 403, 409), (names, statuses)
        assert await active_admins(app) == 1, names
        for tokens in (first, second):  # nobody is left for the next pair
            await give_roles(app, tokens.account, Role.USER)


@pytest.mark.usefixtures("clean_database")
async def test_the_last_admin_cannot_be_removed(client: AsyncClient, app: FastAPI) -> None:
    boss = await admin(client, app)
    for name, remove in REMOVALS.items():
        answer = await remove(client, boss, boss)
        assert expect(answer, 409)["error_code"] == "LAST_ADMIN", name
    assert await active_admins(app) == 1


@pytest.mark.usefixtures("clean_database")
async def test_who_was_demoted_meanwhile_removes_nobody_although_others_are_left(
    client: AsyncClient, app: FastAPI
) -> None:
    await admin(client, app)  # a third one: the last admin is not what is at stake
    for remove in (REMOVALS["demote"], REMOVALS["suspend"], REMOVALS["delete"]):
        first, second = await admin(client, app), await admin(client, app)
        answers = await asyncio.gather(remove(client, first, second), remove(client, second, first))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses[0] in (200, 204)
        assert statuses[1] in (401, 403), statuses
