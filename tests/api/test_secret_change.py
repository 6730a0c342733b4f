"""Changing SECRET_KEY while old and new processes serve side by side: nobody is refused."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.mail.letters import Letter
from app.security.links import Right
from app.services.post import Order
from tests import receivers
from tests.api.hooks import hooked
from tests.api.second_factors import enrol, sign_in
from tests.conftest import SECRET_KEY, MakeApp, MakeClient
from tests.factories import create_item, expect, new_user

NEW = "the-key-to-come-of-the-tests-8c1f5b7a90d24e63b1f7"
V2 = "/api/v2/items"

BEFORE = {"secret_key": SECRET_KEY}
KNOWN = {"secret_key": SECRET_KEY, "secret_key_previous": NEW}
TURNED = {"secret_key": NEW, "secret_key_previous": SECRET_KEY}
# Who serve side by side during a roll-out.
ROLL_OUTS = {"first": (BEFORE, KNOWN), "second": (KNOWN, TURNED)}

pytestmark = pytest.mark.only("production")


@dataclass
class Process:
    """A process with its key, and a client of it."""

    app: FastAPI
    client: AsyncClient

    @property
    def resources(self) -> Any:
        return self.app.state.resources


Pair = tuple[Process, Process]


@pytest.fixture(params=list(ROLL_OUTS))
async def pairs(
    request: pytest.FixtureRequest, make_app: MakeApp, make_client: MakeClient
) -> list[Pair]:
    """Two processes, each as the one that something comes from and that it is brought to."""
    apps = [await make_app(**keys) for keys in ROLL_OUTS[request.param]]
    one, other = (Process(app, make_client(app)) for app in apps)
    return [(one, other), (other, one)]


async def test_who_signed_in_at_one_goes_on_at_the_other(pairs: list[Pair]) -> None:
    for one, other in pairs:
        user = await new_user(one.client)
        answer = await other.client.get("/api/v1/users/me", headers=user.headers)
        assert answer.status_code == 200
        refresh_token = user.refresh
        for process in (other, one, other):
            body = {"refresh_token": refresh_token}
            pair = expect(await process.client.post("/api/v1/auth/refresh", json=body), 200)
            refresh_token = pair["refresh_token"]


async def test_two_tabs_that_refresh_at_both_stay_signed_in(pairs: list[Pair]) -> None:
    for one, other in pairs:
        user = await new_user(one.client)
        body = {"refresh_token": user.refresh}
        answers = [
            expect(await process.client.post("/api/v1/auth/refresh", json=body), 200)
            for process in (one, other)
        ]
        for process, pair in ((other, answers[0]), (one, answers[1])):
            headers = {"Authorization": f"Bearer {pair['access_token']}"}
            assert (
                await process.client.get("/api/v1/users/me", headers=headers)
            ).status_code == 200


async def test_a_second_factor_of_one_opens_the_other(pairs: list[Pair]) -> None:
    for one, other in pairs:
        enrolled = await enrol(one.client, one.app)
        assert (await sign_in(other.client, enrolled)).status_code == 200


async def test_a_page_of_one_is_continued_at_the_other(pairs: list[Pair]) -> None:
    for one, other in pairs:
        user = await new_user(one.client)
        made = [(await create_item(one.client, user))["id"] for _ in range(3)]
        query: dict[str, Any] = {"limit": 1, "ownerId": user.account.id}
        seen = []
        for process in (one, other, one):
            page = expect(await process.client.get(V2, params=query, headers=user.headers), 200)
            seen += [each["id"] for each in page["items"]]
            query["cursor"] = page["nextCursor"]
        assert seen == made


async def test_what_was_made_at_one_under_a_key_is_told_again_by_the_other(
    pairs: list[Pair],
) -> None:
    for one, other in pairs:
        user = await new_user(one.client)
        headers = {**user.headers, "Idempotency-Key": "once"}
        body = {"name": "Once", "price": 1}
        first = expect(await one.client.post("/api/v1/items", json=body, headers=headers), 201)
        again = await other.client.post("/api/v1/items", json=body, headers=headers)
        assert expect(again, 201) == first
        assert again.headers["idempotency-replayed"] == "true"
        changed = await other.client.post(
            "/api/v1/items", json=body | {"price": 2}, headers=headers
        )
        assert expect(changed, 422)["error_code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_a_webhook_that_was_made_at_one_is_signed_by_the_other(pairs: list[Pair]) -> None:
    for one, other in pairs:
        user = await new_user(one.client)
        async with (
            receivers.receiving() as endpoint,
            hooked(one.client, user, endpoint, "item.created") as hook,
        ):
            for process in (one, other):
                reseal: Callable[[], Awaitable[int]] = process.resources.webhook_secrets.reseal
                await reseal()  # the hourly job runs on either side
                await create_item(other.client, user)
            for got in await receivers.until(
                lambda: endpoint.got if len(endpoint.got) == 2 else []
            ):
                assert got.verified_by(hook.secret)
            await hook.settled("succeeded", 2)


async def test_a_signed_link_of_one_is_good_at_the_other(pairs: list[Pair]) -> None:
    for one, other in pairs:
        query, _ = one.resources.links.sign(Right.DOWNLOAD, "7", timedelta(minutes=1))
        other.resources.links.check(Right.DOWNLOAD, "7", int(query["expires"]), query["signature"])


async def test_a_mail_that_one_queued_is_sent_by_the_other(pairs: list[Pair]) -> None:
    for one, other in pairs:
        order = Order(Letter.PASSWORD_CHANGED, "somebody@example.com")
        assert other.resources.post.open(one.resources.post.seal(order)) == order
