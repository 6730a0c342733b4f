"""Webhooks arrive: signed, to whom they may, in order, again after failures, lost never."""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from app.repositories.webhook_deliveries import WebhookDeliveryRepository
from app.services import webhook_loop
from tests.api.hooks import Hook, hooked
from tests.backends import ROOT
from tests.conftest import SECRET_KEY, MakeApp, MakeClient
from tests.factories import Tokens, admin, create_item, give_roles, new_user
from tests.patience import within
from tests.receivers import Received, Receiver, answering, receiving, until, until_answer


@pytest.fixture
async def owner(client: AsyncClient) -> Tokens:
    return await new_user(client)


async def patch_item(
    client: AsyncClient, tokens: Tokens, item: dict[str, Any], **changes: Any
) -> None:
    path = f"/api/v1/items/{item['id']}"
    answer = await client.patch(path, json=changes, headers=tokens.headers)
    assert answer.status_code == 200


def hold_first(receiver: Receiver, status: int) -> asyncio.Event:
    """Answer the first request with a status, once the event is set."""
    held = asyncio.Event()

    async def answer(got: Received, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        await answering(status)(got, writer)

    receiver.plan = [answer]
    return held


async def set_endpoint(app: FastAPI, hook: Hook, assignment: str, **values: Any) -> None:
    async with app.state.resources.db.transaction() as connection:
        statement = text(f"UPDATE webhook_endpoints SET {assignment} WHERE id = :id")
        await connection.execute(statement, {"id": hook.id, **values})


async def test_a_change_arrives_signed_and_is_logged(client: AsyncClient, owner: Tokens) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        receiver.answer = answering(200, body=b"thanks")
        item = await create_item(client, owner, name="Schöner Tisch", visibility="private")
        (got,) = await until(lambda: receiver.got)
        message = got.verified_by(hook.secret)
        assert message["type"] == "item.created"
        assert message["subject"] == f"item:{item['id']}"
        assert message["id"] == got.headers["webhook-id"]
        assert message["data"] == item
        assert datetime.fromisoformat(message["timestamp"]).tzinfo
        assert got.headers["content-type"] == "application/json"
        (logged,) = await hook.settled("succeeded")
        detail = await hook.delivery(logged["id"])
        assert detail["payload"].encode() == got.body
        assert detail["request_headers"]["webhook-id"] == message["id"]
        assert hook.secret not in json.dumps(detail)
        assert (detail["response_status"], detail["response_body"]) == (200, "thanks")
        assert (detail["attempt"], detail["event_id"]) == (1, message["id"])
        assert 0 <= detail["duration_ms"] < 5000
        assert detail["next_attempt_at"] is None


async def test_only_the_kinds_that_were_asked_for_arrive(
    client: AsyncClient, owner: Tokens
) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "item.updated") as hook:
        item = await create_item(client, owner, visibility="private")
        await patch_item(client, owner, item, price=2)
        await client.patch("/api/v1/users/me", json={"full_name": "A"}, headers=owner.headers)
        await patch_item(client, owner, item, price=3)
        await hook.settled("succeeded", 2)
        assert [got.message["type"] for got in receiver.got] == ["item.updated"] * 2


async def test_nobody_gets_what_they_may_not_read(client: AsyncClient, app: FastAPI) -> None:
    owner, stranger, boss = await new_user(client), await new_user(client), await admin(client, app)
    async with (
        receiving() as own,
        receiving() as strange,
        receiving() as admins,
        hooked(client, owner, own),
        hooked(client, stranger, strange),
        hooked(client, boss, admins),
    ):
        hidden = await create_item(client, owner, visibility="private")
        shown = await create_item(client, owner, visibility="public")
        await client.post("/api/v1/auth/logout", headers=(await new_user(client)).headers)
        last = f"item:{(await create_item(client, owner))['id']}"
        for receiver in (own, strange, admins):
            await until(partial(receiver.of, last))
            assert receiver.of(f"item:{shown['id']}")
            assert "session.ended" not in {got.message["type"] for got in receiver.got}
        subject = f"item:{hidden['id']}"
        assert (len(own.of(subject)), len(admins.of(subject))) == (1, 1)
        assert strange.of(subject) == []


async def test_what_turned_private_while_it_waited_is_withheld(
    client: AsyncClient, app: FastAPI, owner: Tokens
) -> None:
    stranger = await new_user(client)
    async with receiving() as receiver, hooked(client, stranger, receiver, "item.created") as hook:
        held = hold_first(receiver, 500)
        item = await create_item(client, owner, visibility="public")
        await until(lambda: receiver.got)
        await patch_item(client, owner, item, visibility="private")
        held.set()
        (withheld,) = await hook.settled("cancelled")
        assert "may not read" in withheld["error"]
        assert len(receiver.got) == 1


async def test_an_admin_who_is_none_any_more_gets_nothing_of_others(
    client: AsyncClient, app: FastAPI, owner: Tokens
) -> None:
    boss = await admin(client, app)
    async with receiving() as receiver, hooked(client, boss, receiver, "item.created") as hook:
        held = hold_first(receiver, 500)
        await create_item(client, owner, visibility="private")
        await until(lambda: receiver.got)
        await give_roles(app, boss.account)
        held.set()
        assert await hook.settled("cancelled")
        assert len(receiver.got) == 1


async def test_a_test_says_that_it_is_one(client: AsyncClient, owner: Tokens) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "user.updated") as hook:
        made = await hook.call("test")
        (got,) = await until(lambda: receiver.got)
        message = got.verified_by(hook.secret)
        assert message["type"] == "webhook.test"
        assert message["id"] == made["message_id"]
        assert made["event_id"] is None


async def test_both_secrets_sign_for_a_day_after_a_rotation(
    client: AsyncClient, app: FastAPI, owner: Tokens
) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "user.updated") as hook:
        rotated = await hook.call("secret/rotate", 200)
        expires_at = datetime.fromisoformat(rotated["previous_expires_at"])
        assert timedelta(hours=23) < expires_at - datetime.now(UTC) <= timedelta(hours=24)
        await hook.call("test")
        (got,) = await until(lambda: receiver.got)
        assert len(got.headers["webhook-signature"].split()) == 2
        got.verified_by(hook.secret)
        got.verified_by(rotated["secret"])
        await hook.settled("succeeded")
        await set_endpoint(app, hook, "previous_expires_at = '2026-01-01 00:00:00+00:00'")
        await hook.call("test")
        _, got = await until(lambda: receiver.got[1:] and receiver.got)
        assert len(got.headers["webhook-signature"].split()) == 1
        got.verified_by(rotated["secret"])


async def test_a_failure_is_tried_again_with_the_same_id_and_body(
    client: AsyncClient, owner: Tokens
) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        receiver.plan = [answering(500, body=b"oh no"), answering(302, "Location: /elsewhere")]
        await create_item(client, owner)
        (done,) = await hook.settled("succeeded")
        assert done["attempt"] == 3
        assert len({(got.headers["webhook-id"], got.body) for got in receiver.got}) == 1
        assert [got.path for got in receiver.got] == ["/hook"] * 3
        first, second, third = (got.at for got in receiver.got)
        assert second - first >= 0.005
        assert third - second >= 0.3
        assert (await hook.read())["failing_since"] is None


async def test_retry_after_is_waited_for(client: AsyncClient, owner: Tokens) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        receiver.plan = [answering(429, "Retry-After: 1")]
        await create_item(client, owner)
        await hook.settled("succeeded")
        first, second = (got.at for got in receiver.got)
        assert second - first >= 0.95


async def test_events_of_one_subject_arrive_in_order_also_after_failures(
    client: AsyncClient, owner: Tokens
) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver) as hook:
        receiver.plan = [answering(500), answering(500)]
        items = [await create_item(client, owner, visibility="private") for _ in range(3)]
        for price in range(1, 4):
            for item in items:
                await patch_item(client, owner, item, price=price)
        await hook.settled("succeeded", 12)
        for item in items:
            taken: dict[str, int] = {}
            for message in receiver.of(f"item:{item['id']}"):
                taken[message["id"]] = message["data"]["version"]
            assert list(taken.values()) == [1, 2, 3, 4]


async def test_what_fails_again_and_again_gives_way_to_what_follows_of_its_subject(
    client: AsyncClient, owner: Tokens
) -> None:
    async def refuse_the_first(got: Received, writer: asyncio.StreamWriter) -> None:
        status = 500 if got.message["data"]["version"] == 1 else 204
        await answering(status)(got, writer)

    async with receiving() as receiver, hooked(client, owner, receiver) as hook:
        receiver.answer = refuse_the_first
        item = await create_item(client, owner, visibility="private")
        await patch_item(client, owner, item, price=2)
        await hook.settled("succeeded")
        versions = [message["data"]["version"] for message in receiver.of(f"item:{item['id']}")]
        assert versions[:4] == [1, 1, 1, 2]


async def test_410_switches_off_at_once_and_tells_the_owner(
    client: AsyncClient, owner: Tokens
) -> None:
    async with (
        receiving() as gone,
        receiving() as other,
        hooked(client, owner, other, "webhook.disabled"),
        hooked(client, owner, gone, "item.created") as hook,
    ):
        gone.answer = answering(410)
        await create_item(client, owner)
        (told,) = await until(lambda: other.got)
        assert told.message["data"]["reason"] == "gone"
        assert told.message["subject"] == f"webhook:{hook.id}"
        off = await hook.read()
        assert (off["is_active"], off["disabled_reason"]) == (False, "gone")
        assert off["disabled_at"]
        await create_item(client, owner)
        on = await hook.patch(is_active=True)
        assert (on["is_active"], on["disabled_reason"], on["disabled_at"]) == (True, None, None)
        gone.answer = answering(204)
        missed = len(gone.got)
        last = await create_item(client, owner)
        await until(lambda: gone.of(f"item:{last['id']}"))
        assert len(gone.got) == missed + 1  # what came while it was off is not sent


async def test_long_failure_switches_off(client: AsyncClient, app: FastAPI, owner: Tokens) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        receiver.answer = answering(500)
        await set_endpoint(app, hook, "failing_since = '2026-01-01 00:00:00+00:00'")
        await create_item(client, owner)
        await hook.settled("failed")
        off = await hook.read()
        assert (off["is_active"], off["disabled_reason"]) == (False, "failing")


async def test_switched_off_it_gets_nothing_more(client: AsyncClient, owner: Tokens) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        receiver.answer = answering(503, "Retry-After: 60")
        await create_item(client, owner)
        await until(lambda: receiver.got)
        await hook.settled("pending")
        await hook.patch(is_active=False)
        (cancelled,) = await hook.log()
        assert cancelled["status"] == "cancelled"
        assert cancelled["next_attempt_at"] is None


async def test_retry_sends_the_same_again(client: AsyncClient, owner: Tokens) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        await create_item(client, owner)
        (done,) = await hook.settled("succeeded")
        path = f"/api/v1/webhooks/deliveries/{done['id']}/retry"
        assert (await client.post(path, headers=owner.headers)).status_code == 202
        first, second = await until(lambda: receiver.got[1:] and receiver.got)
        assert first.body == second.body
        assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_replay_sends_what_was_sent_and_what_was_missed(
    client: AsyncClient, owner: Tokens
) -> None:
    started_at = datetime.now(UTC)
    missed = await create_item(client, owner, visibility="private")
    await client.patch("/api/v1/users/me", json={"full_name": "A"}, headers=owner.headers)
    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        sent = await create_item(client, owner, visibility="private")
        await hook.settled("succeeded")
        strange = await create_item(client, await new_user(client), visibility="private")
        until_now = {"since": started_at.isoformat(), "until": datetime.now(UTC).isoformat()}
        assert (await hook.call("replay", body=until_now))["queued"] >= 2
        await until(lambda: receiver.of(f"item:{missed['id']}"))
        await until(lambda: len(receiver.of(f"item:{sent['id']}")) == 2)
        await hook.settled("succeeded", 2)
        assert receiver.of(f"item:{strange['id']}") == []
        assert not await hook.log(status="pending")


async def test_a_dead_and_a_slow_endpoint_delay_nobody_else(
    client: AsyncClient, owner: Tokens
) -> None:
    held = asyncio.Event()

    async def hang(_: Received, writer: asyncio.StreamWriter) -> None:
        await held.wait()

    async with receiving() as closed:
        dead_url = closed.url
    async with (
        receiving() as slow,
        receiving() as live,
        hooked(client, owner, slow, "item.created"),
        hooked(client, owner, dead_url, "item.created"),
        hooked(client, owner, live, "item.created") as hook,
    ):
        slow.answer = hang
        try:
            items = [await create_item(client, owner) for _ in range(8)]
            async with within(10):  # the slow one takes 15 seconds
                await until(lambda: all(live.of(f"item:{item['id']}") for item in items))
            await hook.settled("succeeded", 8)
            await until(lambda: slow.most_at_once == 2)
            assert len(slow.got) == 2  # and no more, until one of them is over
        finally:
            held.set()


async def test_an_endpoint_that_cannot_be_served_is_told_of_once_and_delays_nobody(
    client: AsyncClient,
    owner: Tokens,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    find_due = WebhookDeliveryRepository.due
    async with (
        receiving() as unlucky,
        receiving() as live,
        hooked(client, owner, unlucky, "item.created") as broken,
        hooked(client, owner, live, "item.created"),
    ):

        async def breaking(self: Any, endpoint_id: int, **options: Any) -> Any:
            if endpoint_id == broken.id:
                raise LookupError("CANARY")
            return await find_due(self, endpoint_id, **options)

        monkeypatch.setattr(WebhookDeliveryRepository, "due", breaking)
        for _ in range(3):  # each wakes who would try it again
            item = await create_item(client, owner)
            await until(lambda name=f"item:{item['id']}": live.of(name))  # type: ignore[misc]
        assert caplog.text.count(f"webhook {broken.id} could not be served") == 1
        assert not unlucky.got


async def test_each_event_becomes_one_delivery_however_many_processes_there_are(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    apps = [await make_app() for _ in range(3)]
    clients = [make_client(app) for app in apps]
    owner = await new_user(clients[0])
    async with receiving() as receiver, hooked(clients[0], owner, receiver, "item.created") as hook:
        made = await asyncio.gather(
            *(create_item(clients[index % 3], owner, visibility="private") for index in range(30))
        )
        await hook.settled("succeeded", 30)
        got = [each.message["subject"] for each in receiver.got]
        assert sorted(got) == sorted(f"item:{item['id']}" for item in made)
        assert receiver.most_at_once <= 2


async def test_a_process_that_died_in_the_middle_loses_nothing(
    client: AsyncClient, app: FastAPI, owner: Tokens
) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "item.created") as hook:
        # As a process leaves it that was killed between leasing and noting the answer.
        await set_endpoint(
            app,
            hook,
            "leased_by = 'dead', leased_until = :until",
            until=_moment(app, datetime.now(UTC) + timedelta(seconds=2)),
        )
        await create_item(client, owner)
        await hook.settled("pending")
        assert receiver.got == []
        await hook.settled("succeeded")
        assert len(receiver.got) == 1


async def test_secrets_survive_the_rotation_of_the_secret_key(
    client: AsyncClient, app: FastAPI, owner: Tokens, make_app: MakeApp
) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "user.updated") as hook:
        key = "another-secret-of-the-tests-5d1a49d6b3c4e7f1a2058d6c"
        there = await make_app(secret_key=key, secret_key_previous=SECRET_KEY)
        and_back = await make_app(secret_key_previous=key)
        for turned in (there, and_back):
            secrets = turned.state.resources.webhook_secrets
            before = await _endpoint(app, hook)
            assert secrets.signing(before) == [hook.secret]
            assert await secrets.reseal() >= 1
            after = await _endpoint(app, hook)
            assert after.secret != before.secret
            assert secrets.signing(after) == [hook.secret]
            assert await secrets.reseal() == 0


async def _endpoint(app: FastAPI, hook: Hook) -> Any:
    from app.repositories.webhooks import WebhookRepository

    async with app.state.resources.db.read() as connection:
        endpoint = await WebhookRepository(connection).get(hook.id, hook.tokens.account.id)
    assert endpoint
    return endpoint


def _moment(app: FastAPI, moment: datetime) -> Any:
    """Return a time as the driver takes it in plain SQL."""
    if app.state.resources.db.is_postgres:
        return moment
    return moment.replace(tzinfo=None).isoformat(" ")


async def test_the_receiver_of_the_documentation_verifies(
    client: AsyncClient, owner: Tokens
) -> None:
    page = (ROOT / "docs/webhooks.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    async with receiving() as receiver, hooked(client, owner, receiver, "user.updated") as hook:
        await hook.call("test")
        (got,) = await until(lambda: receiver.got)
        assert names["receive"](hook.secret, got.headers, got.body)["type"] == "webhook.test"


async def test_those_that_fail_leave_room_for_the_others(
    client: AsyncClient, app: FastAPI, owner: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_loop, "_SLOTS", 2)
    monkeypatch.setattr(webhook_loop, "_FAILING_SLOTS", 1)
    held = asyncio.Event()

    async def hang(_: Received, writer: asyncio.StreamWriter) -> None:
        await held.wait()

    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(receiving())
        live = await stack.enter_async_context(receiving())
        slow.answer = hang
        for _ in range(3):
            hook = await stack.enter_async_context(hooked(client, owner, slow, "item.created"))
            await set_endpoint(app, hook, "failing_since = created_at")
        await stack.enter_async_context(hooked(client, owner, live, "item.created"))
        try:
            item = await create_item(client, owner)
            await until(lambda: live.of(f"item:{item['id']}"))
            await until(lambda: slow.got)
            assert len(slow.got) == 1
        finally:
            held.set()


async def test_a_secret_whose_key_is_gone_is_said_in_the_log_and_mended_by_rotating(
    client: AsyncClient, app: FastAPI, owner: Tokens
) -> None:
    async with receiving() as receiver, hooked(client, owner, receiver, "user.updated") as hook:
        before = await _endpoint(app, hook)
        await set_endpoint(app, hook, "secret = :lost", lost=f"0000.{before.secret[9:]}")
        made = await hook.call("test")
        await until_answer(partial(attempted, hook, made["id"]))
        assert "rotate it" in (await hook.delivery(made["id"]))["error"]
        rotated = await hook.call("secret/rotate", 200)
        (got,) = await until(lambda: receiver.got)
        got.verified_by(rotated["secret"])
        assert await app.state.resources.webhook_secrets.reseal() >= 1  # what is lost is let go
        assert (await _endpoint(app, hook)).previous_secret is None


async def attempted(hook: Hook, delivery_id: int) -> bool:
    return bool((await hook.delivery(delivery_id))["attempt"])


@pytest.mark.usefixtures("clean_database")
async def test_what_was_committed_before_a_crash_is_sent_after_a_restart(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    crashed = make_client(await make_app(run_jobs="worker"))  # it commits, and sends nothing
    owner = await new_user(crashed)
    async with receiving() as receiver, hooked(crashed, owner, receiver, "item.created") as hook:
        items = [await create_item(crashed, owner) for _ in range(3)]
        assert await hook.log() == []
        await make_app()
        await hook.settled("succeeded", 3)
        got = [each.message["subject"] for each in receiver.got]
        assert sorted(got) == sorted(f"item:{item['id']}" for item in items)
