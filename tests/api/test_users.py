"""Accounts: one's own, and all of them for admins."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.security.principal import Role
from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, admin, create_item, expect, give_roles, new_user, sign_in
from tests.patience import no_longer

USERS = "/api/v1/users"


async def change(client: AsyncClient, by: Tokens, user_id: int, **body: Any) -> int:
    answer = await client.patch(f"{USERS}/{user_id}", json=body, headers=by.headers)
    return answer.status_code


async def test_everyone_reads_and_changes_their_own_account(client: AsyncClient) -> None:
    me = await new_user(client)
    user = expect(await client.get(f"{USERS}/me", headers=me.headers), 200)
    assert (user["email"], user["username"]) == (me.account.email, me.account.username)
    answer = await client.patch(f"{USERS}/me", json={"full_name": "Ada"}, headers=me.headers)
    assert expect(answer, 200)["full_name"] == "Ada"
    answer = await client.patch(f"{USERS}/me", json={"full_name": None}, headers=me.headers)
    assert expect(answer, 200)["full_name"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"roles": ["admin"]},
        {"is_active": False},
        {"email": "x@example.com"},
        {"password_hash": "x"},
        {"username": None},
        {"id": 1},
    ],
)
async def test_nobody_changes_of_themselves_what_is_not_theirs(
    client: AsyncClient, somebody: Tokens, body: dict[str, Any]
) -> None:
    before = await client.get(f"{USERS}/me", headers=somebody.headers)
    answer = await client.patch(f"{USERS}/me", json=body, headers=somebody.headers)
    assert answer.status_code == 422
    assert (await client.get(f"{USERS}/me", headers=somebody.headers)).json() == before.json()


async def test_a_taken_username_is_refused(client: AsyncClient) -> None:
    one, other = await new_user(client), await new_user(client)
    body = {"username": other.account.username.upper()}
    answer = await client.patch(f"{USERS}/me", json=body, headers=one.headers)
    assert expect(answer, 409)["error_code"] == "USERNAME_TAKEN"


async def test_others_see_a_public_face_without_the_address(
    client: AsyncClient, app: FastAPI
) -> None:
    one, other, boss = await new_user(client), await new_user(client), await admin(client, app)
    url = f"{USERS}/{one.account.id}"
    assert (await client.get(url)).status_code == 401
    seen = await client.get(url, headers=other.headers)
    assert set(expect(seen, 200)) == {"id", "username", "full_name", "created_at"}
    assert one.account.email not in seen.text
    for reader in (one, boss):
        assert expect(await client.get(url, headers=reader.headers), 200)["email"]


async def test_only_admins_list_and_change_accounts(client: AsyncClient) -> None:
    me = await new_user(client)
    assert (await client.get(USERS, headers=me.headers)).status_code == 403
    assert await change(client, me, me.account.id, roles=["admin"]) == 403
    answer = await client.delete(f"{USERS}/{me.account.id}", headers=me.headers)
    assert answer.status_code == 403


@pytest.mark.usefixtures("clean_database")
async def test_admins_list_accounts_filtered_and_paged(client: AsyncClient, app: FastAPI) -> None:
    boss = await admin(client, app)
    people = [await new_user(client) for _ in range(4)]
    await give_roles(app, people[0].account, Role.USER, Role.ANALYST)
    assert await change(client, boss, people[1].account.id, is_active=False) == 200

    async def ids(query: str) -> list[int]:
        answer = await client.get(f"{USERS}?{query}", headers=boss.headers)
        return [user["id"] for user in expect(answer, 200)["items"]]

    everyone = [boss.account.id, *(each.account.id for each in people)]
    assert await ids("") == everyone
    assert await ids("role=analyst") == [people[0].account.id]
    assert await ids("role=admin") == [boss.account.id]
    assert await ids("is_active=false") == [people[1].account.id]
    assert await ids(f"q={people[2].account.username.upper()}") == [people[2].account.id]
    assert await ids("q=%25") == []
    assert await ids("skip=1&limit=2") == everyone[1:3]
    url, seen = "/api/v2/users?limit=2", []
    while url:
        answer = await client.get(url, headers=boss.headers)
        seen += [user["id"] for user in expect(answer, 200)["items"]]
        url = answer.links.get("next", {}).get("url", "")
    assert seen == everyone


async def test_accounts_come_with_their_items_on_request(client: AsyncClient, app: FastAPI) -> None:
    boss, owner = await admin(client, app), await new_user(client)
    item = await create_item(client, owner, visibility="private")
    url = f"{USERS}?q={owner.account.username}"
    plain = expect(await client.get(url, headers=boss.headers), 200)["items"][0]
    assert plain["items"] is None
    answer = await client.get(f"{url}&include=items", headers=boss.headers)
    assert expect(answer, 200)["items"][0]["items"] == [item]


async def test_an_accounts_items_are_those_that_the_caller_may_read(client: AsyncClient) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    public = await create_item(client, owner)
    private = await create_item(client, owner, visibility="private")
    url = f"{USERS}/{owner.account.id}/items"
    for reader, wanted in ((owner, [public, private]), (stranger, [public])):
        page = expect(await client.get(url, headers=reader.headers), 200)
        assert (page["items"], page["total"]) == (wanted, len(wanted))
    assert (await client.get(f"{USERS}/{2**62}/items")).status_code == 404


async def test_a_deleted_account_takes_its_items_and_frees_its_name(client: AsyncClient) -> None:
    me, reader = await new_user(client), await new_user(client)
    item = await create_item(client, me)
    assert (await client.delete(f"{USERS}/me", headers=me.headers)).status_code == 204
    assert (await client.get(f"{USERS}/me", headers=me.headers)).status_code == 401
    for url in (f"{USERS}/{me.account.id}", f"/api/v1/items/{item['id']}"):
        assert (await client.get(url, headers=reader.headers)).status_code == 404
    form = {"username": me.account.username, "password": me.account.password}
    assert (await client.post("/api/v1/auth/token", data=form)).status_code == 401
    again = await new_user(client, username=me.account.username, email=me.account.email)
    assert again.account.id != me.account.id


@pytest.mark.usefixtures("clean_database")
async def test_the_last_admin_stays(client: AsyncClient, app: FastAPI) -> None:
    boss = await admin(client, app)
    mine = boss.account.id
    for attempt in (
        await change(client, boss, mine, roles=["user"]),
        await change(client, boss, mine, is_active=False),
        (await client.delete(f"{USERS}/me", headers=boss.headers)).status_code,
        (await client.delete(f"{USERS}/{mine}", headers=boss.headers)).status_code,
    ):
        assert attempt == 409
    assert (await client.get(USERS, headers=boss.headers)).status_code == 200


@pytest.mark.usefixtures("clean_database")
async def test_two_admins_who_remove_each_other_at_once_leave_one(
    client: AsyncClient, app: FastAPI
) -> None:
    for _ in range(5):
        one, other = await admin(client, app), await admin(client, app)
        statuses = await asyncio.gather(
            change(client, one, other.account.id, roles=["user"]),
            change(client, other, one.account.id, roles=["user"]),
        )
        left = []
        for each in (one, other):
            fresh = await sign_in(client, each.account)
            if (await client.get(USERS, headers=fresh.headers)).status_code == 200:
                left.append(each)
        assert left, statuses
        for each in left[1:] if len(left) > 1 else []:
            await change(client, left[0], each.account.id, roles=["user"])
        await give_roles(app, left[0].account, Role.USER)


@pytest.mark.parametrize("change_of", [{"roles": ["user"]}, {"is_active": False}])
async def test_a_change_bites_within_a_second_on_every_worker(
    client: AsyncClient,
    app: FastAPI,
    make_app: MakeApp,
    make_client: MakeClient,
    change_of: dict[str, Any],
) -> None:
    boss, fallen = await admin(client, app), await admin(client, app)
    elsewhere = make_client(await make_app())
    assert (await elsewhere.get(USERS, headers=fallen.headers)).status_code == 200
    assert await change(client, boss, fallen.account.id, **change_of) == 200
    here = await client.get(USERS, headers=fallen.headers)
    assert here.status_code in (401, 403)

    async def still() -> bool:
        return (await elsewhere.get(USERS, headers=fallen.headers)).status_code == 200

    await no_longer(still, than=1)


async def test_a_stale_role_never_changes_anything(
    client: AsyncClient, app: FastAPI, make_app: MakeApp, make_client: MakeClient
) -> None:
    boss, fallen = await admin(client, app), await admin(client, app)
    elsewhere = make_client(await make_app())
    assert (await elsewhere.get(USERS, headers=fallen.headers)).status_code == 200
    assert await change(client, boss, fallen.account.id, roles=["user"]) == 200
    assert await change(elsewhere, fallen, fallen.account.id, roles=["admin"]) == 403
