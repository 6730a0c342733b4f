"""Webhook endpoints: making, changing and guarding them, and who may see their log."""

import asyncio
from typing import Any

import openapi_spec_validator
import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from app.schemas.webhooks import KINDS
from app.services import retention
from tests.api.hooks import hooked
from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, admin, create_item, expect, new_user
from tests.receivers import receiving

OFF = {"url": "https://1.1.1.1/hook", "is_active": False}


@pytest.fixture
async def owner(client: AsyncClient) -> Tokens:
    return await new_user(client)


async def create(client: AsyncClient, tokens: Tokens, **over: Any) -> dict[str, Any]:
    body = OFF | over
    return expect(await client.post("/api/v1/webhooks", json=body, headers=tokens.headers), 201)


async def test_an_endpoint_is_made_read_changed_and_deleted(
    client: AsyncClient, owner: Tokens
) -> None:
    answer = await client.post(
        "/api/v1/webhooks", json=OFF | {"events": ["item.created"]}, headers=owner.headers
    )
    made = expect(answer, 201)
    path = answer.headers["location"]
    assert answer.headers["cache-control"] == "no-store"
    assert made["url"] == "https://1.1.1.1/hook"
    assert made["disabled_reason"] == "owner"
    assert path == f"/api/v1/webhooks/{made['id']}"
    read = expect(await client.get(path, headers=owner.headers), 200)
    assert read == {name: value for name, value in made.items() if name != "secret"}
    listed = expect(await client.get("/api/v1/webhooks", headers=owner.headers), 200)
    assert listed["items"] == [read]
    changed = await client.patch(
        path, json={"events": [], "url": "https://1.1.1.1:443"}, headers=owner.headers
    )
    assert expect(changed, 200)["url"] == "https://1.1.1.1/"
    assert (await client.delete(path, headers=owner.headers)).status_code == 204
    assert (await client.get(path, headers=owner.headers)).status_code == 404
    assert (await client.delete(path, headers=owner.headers)).status_code == 404


async def test_v2_speaks_camel_case(client: AsyncClient, owner: Tokens) -> None:
    made = await client.post(
        "/api/v2/webhooks",
        json={"url": "https://1.1.1.1", "isActive": False},
        headers=owner.headers,
    )
    assert expect(made, 201)["isActive"] is False
    path = f"/api/v2/webhooks/{made.json()['id']}/deliveries"
    page = expect(await client.get(path, headers=owner.headers), 200)
    assert page == {"items": [], "nextCursor": None, "hasMore": False}


async def test_the_secret_is_shown_at_creation_and_rotation_only(
    client: AsyncClient, app: FastAPI, owner: Tokens
) -> None:
    made = await create(client, owner)
    path = f"/api/v1/webhooks/{made['id']}"
    rotated = expect(await client.post(f"{path}/secret/rotate", headers=owner.headers), 200)
    secrets = [made["secret"], rotated["secret"]]
    assert all(secret.startswith("whsec_") for secret in secrets)
    assert secrets[0] != secrets[1]
    read = (await client.get(path, headers=owner.headers)).text
    listed = (await client.get("/api/v1/webhooks", headers=owner.headers)).text
    async with app.state.resources.db.read() as connection:
        statement = text("SELECT secret, previous_secret FROM webhook_endpoints WHERE id = :id")
        kept = str((await connection.execute(statement, {"id": made["id"]})).one())
    for secret in secrets:
        for place in (read, listed, kept):
            assert secret.removeprefix("whsec_") not in place


async def test_a_repeated_request_makes_one_endpoint_and_keeps_no_secret(
    client: AsyncClient, app: FastAPI, owner: Tokens
) -> None:
    headers = owner.headers | {"Idempotency-Key": "once"}
    first = expect(await client.post("/api/v1/webhooks", json=OFF, headers=headers), 201)
    second = expect(await client.post("/api/v1/webhooks", json=OFF, headers=headers), 201)
    assert second == first | {"secret": None}
    async with app.state.resources.db.read() as connection:
        kept = await connection.execute(
            text("SELECT body FROM idempotency_keys WHERE scope = :scope"),
            {"scope": f"user:{owner.account.id}"},
        )
        assert b"whsec_" not in bytes(kept.scalar_one())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://1.1.1.1/",
        "https://user:pass@1.1.1.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://does-not-exist.invalid/",
        "https://1.1.1.1/\r\nX: y",
    ],
)
async def test_a_url_that_leads_nowhere_is_refused(
    client: AsyncClient, somebody: Tokens, url: str
) -> None:
    answer = await client.post("/api/v1/webhooks", json={"url": url}, headers=somebody.headers)
    assert expect(answer, 422)["errors"][0]["field"] == "url"


async def test_private_addresses_are_refused_at_registration_and_at_a_change(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    client = make_client(await make_app(webhooks_allow_private=False))
    owner = await new_user(client)
    made = await create(client, owner)
    for host in ("127.0.0.1", "localhost", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]"):
        url = f"http://{host}/latest/meta-data"
        for answer in (
            await client.post("/api/v1/webhooks", json={"url": url}, headers=owner.headers),
            await client.patch(
                f"/api/v1/webhooks/{made['id']}", json={"url": url}, headers=owner.headers
            ),
        ):
            refused = expect(answer, 422)
            assert refused["errors"][0]["field"] == "url"
            assert "public" in refused["detail"]


async def test_only_the_ports_of_the_setting_are_allowed(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    client = make_client(await make_app(webhooks_ports=("443",)))
    owner = await new_user(client)
    await create(client, owner)
    answer = await client.post(
        "/api/v1/webhooks", json={"url": "https://1.1.1.1:22"}, headers=owner.headers
    )
    assert expect(answer, 422)["errors"][0]["field"] == "url"


@pytest.mark.parametrize(
    "body",
    [
        {"events": ["item.exploded"]},
        {"events": ["session.ended"]},
        {"events": ["Item.created"]},
        {"events": ["x" * 60]},
        {"events": [f"a{index}.b" for index in range(51)]},
        {"events": None},
        {"secret": "whsec_mine"},
        {"owner_id": 1},
    ],
)
async def test_what_is_no_endpoint_is_refused(
    client: AsyncClient, somebody: Tokens, body: dict[str, Any]
) -> None:
    answer = await client.post("/api/v1/webhooks", json=OFF | body, headers=somebody.headers)
    assert answer.status_code == 422


@pytest.mark.parametrize("field", ["url", "events", "is_active"])
async def test_no_field_can_be_removed(client: AsyncClient, owner: Tokens, field: str) -> None:
    made = await create(client, owner)
    answer = await client.patch(
        f"/api/v1/webhooks/{made['id']}", json={field: None}, headers=owner.headers
    )
    assert expect(answer, 422)["errors"][0]["field"] == field


async def test_the_kinds_of_resources_of_ones_own_can_be_asked_for(
    client: AsyncClient, owner: Tokens
) -> None:
    made = await create(client, owner, events=["purchase_order.created", "item.created"])
    assert made["events"] == ["purchase_order.created", "item.created"]


async def test_an_account_has_at_most_twenty_also_when_it_asks_at_once(
    client: AsyncClient, owner: Tokens
) -> None:
    answers = await asyncio.gather(
        *(client.post("/api/v1/webhooks", json=OFF, headers=owner.headers) for _ in range(24))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 20 + [409] * 4


async def test_creating_and_testing_is_limited(make_app: MakeApp, make_client: MakeClient) -> None:
    app = await make_app(rate_limits_enabled=True, rate_limit_webhooks="2/minute")
    client = make_client(app)
    owner = await new_user(client)
    for status in (201, 201, 429):
        answer = await client.post("/api/v1/webhooks", json=OFF, headers=owner.headers)
        assert answer.status_code == status


async def test_a_switched_off_endpoint_is_not_tested_and_not_replayed(
    client: AsyncClient, owner: Tokens
) -> None:
    made = await create(client, owner)
    path = f"/api/v1/webhooks/{made['id']}"
    tested = await client.post(f"{path}/test", headers=owner.headers)
    assert expect(tested, 409)["detail"].startswith("The webhook is off")
    body = {"since": "2026-01-01T00:00:00Z"}
    replayed = await client.post(f"{path}/replay", json=body, headers=owner.headers)
    assert replayed.status_code == 409


@pytest.mark.parametrize("field", ["since", "until"])
async def test_a_moment_beyond_all_time_zones_is_422(
    client: AsyncClient, owner: Tokens, field: str
) -> None:
    made = await create(client, owner)
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        body = {"since": "2026-01-01T00:00:00Z", field: moment}
        path = f"/api/v1/webhooks/{made['id']}/replay"
        answer = await client.post(path, json=body, headers=owner.headers)
        assert expect(answer, 422)["errors"][0]["field"] == field


async def test_a_delivery_is_for_its_owner_alone(client: AsyncClient, app: FastAPI) -> None:
    owner, stranger, boss = await new_user(client), await new_user(client), await admin(client, app)
    async with receiving() as receiver, hooked(client, owner, receiver) as hook:
        made = await hook.call("test")
        path = f"/api/v1/webhooks/deliveries/{made['id']}"
        await hook.settled("succeeded")
        for tokens, status in ((owner, 200), (stranger, 404), (boss, 404)):
            assert (await client.get(path, headers=tokens.headers)).status_code == status
        for tokens, status in ((stranger, 404), (boss, 404), (owner, 202)):
            answer = await client.post(f"{path}/retry", headers=tokens.headers)
            assert answer.status_code == status
        assert (await client.get(path)).status_code == 401


async def test_the_log_is_paged_and_filtered_in_both_versions(
    client: AsyncClient, owner: Tokens
) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "user.updated") as hook:
        made = [(await hook.call("test"))["id"] for _ in range(5)]
        await hook.settled("succeeded", 5)
        page = await client.get(
            f"{hook.path}/deliveries", params={"skip": 1, "limit": 2}, headers=owner.headers
        )
        body = expect(page, 200)
        assert [each["id"] for each in body["items"]] == made[::-1][1:3]
        assert body["total"] == 5
        assert 'rel="next"' in page.headers["link"]
        seen: list[int] = []
        query: dict[str, Any] = {"limit": 2, "status": "succeeded"}
        while True:
            url = f"/api/v2/webhooks/{hook.id}/deliveries"
            body = expect(await client.get(url, params=query, headers=owner.headers), 200)
            seen += [each["id"] for each in body["items"]]
            if not body["hasMore"]:
                break
            query["cursor"] = body["nextCursor"]
        assert seen == made[::-1]
        other = await client.get(url, params=query | {"status": "failed"}, headers=owner.headers)
        assert expect(other, 400)["error_code"] == "INVALID_CURSOR"
        assert await hook.log(status="failed") == []


async def test_replay_refuses_a_time_that_is_none(client: AsyncClient, owner: Tokens) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "user.updated") as hook:
        late = {"since": "2026-11-21T09:00:00Z", "until": "2026-11-21T08:00:00Z"}
        assert (await hook.call("replay", 422, late))["errors"][0]["field"] == "until"
        await hook.call("replay", 422, {"since": "2026-11-21T09:00:00"})  # of which zone?
        await hook.call("replay", 422, {})


async def test_a_deleted_account_leaves_no_endpoint(client: AsyncClient, app: FastAPI) -> None:
    owner = await new_user(client)
    made = await create(client, owner)
    await client.request("DELETE", "/api/v1/users/me", headers=owner.headers)
    async with app.state.resources.db.read() as connection:
        statement = text("SELECT count(*) FROM webhook_endpoints WHERE id = :id")
        assert (await connection.execute(statement, {"id": made["id"]})).scalar_one() == 0


async def test_the_log_is_forgotten_after_a_while_but_not_what_is_to_be_sent(
    client: AsyncClient, app: FastAPI, owner: Tokens
) -> None:
    from datetime import timedelta

    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        await create_item(client, owner)
        await hook.settled("succeeded")
        async with app.state.resources.db.transaction() as connection:
            await connection.execute(
                text(
                    "UPDATE webhook_deliveries SET created_at = '2026-01-01 00:00:00+00:00' "
                    "WHERE endpoint_id = :id"
                ),
                {"id": hook.id},
            )
        gone = await retention.sweep(app.state.resources.db, timedelta(days=1), timedelta(days=400))
        assert gone["deliveries"] >= 1
        assert await hook.log() == []


async def test_openapi_declares_every_kind_of_event(client: AsyncClient) -> None:
    for path in ("/openapi.json", "/api/v1/openapi.json", "/api/v2/openapi.json"):
        document = (await client.get(path)).json()
        declared = document["webhooks"]
        assert set(declared) == {*KINDS, "webhook.test"}
        schemas = document["components"]["schemas"]
        for kind, operations in declared.items():
            content = operations["post"]["requestBody"]["content"]["application/json"]
            schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
            assert schema["properties"]["type"]["const"] == kind
            names = {each["name"] for each in operations["post"]["parameters"]}
            assert names == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    openapi_spec_validator.validate(document)


async def test_the_list_comes_in_pages_as_every_list_does(
    client: AsyncClient, owner: Tokens
) -> None:
    ids = []
    for _ in range(3):
        made = await client.post("/api/v1/webhooks", json=OFF, headers=owner.headers)
        ids.append(expect(made, 201)["id"])
    answer = await client.get("/api/v1/webhooks?skip=1&limit=1", headers=owner.headers)
    page = expect(answer, 200)
    assert [each["id"] for each in page["items"]] == ids[1:2]
    assert (page["total"], page["skip"], page["limit"]) == (3, 1, 1)
    assert 'rel="next"' in answer.headers["link"]
    seen, cursor = [], ""
    while cursor is not None:
        query = f"?limit=2{f'&cursor={cursor}' if cursor else ''}"
        page = expect(await client.get(f"/api/v2/webhooks{query}", headers=owner.headers), 200)
        seen += [each["id"] for each in page["items"]]
        cursor = page["nextCursor"]
        assert page["hasMore"] is (cursor is not None)
    assert seen == ids
