"""Nobody learns who has an account: not by the answer, and not by how long it takes.

The time is judged by ranks, which a busy machine disturbs little: taken in turns, a known and an
unknown account must each be the slower one about as often as the other. A control shows that a
difference would be seen.
"""

import random
import time
from collections.abc import Awaitable, Callable
from itertools import count, product
from math import sqrt
from typing import Any
from uuid import uuid4

import pytest

from app.adapters.mail import Mail
from app.services.recovery import Recovery
from tests.api.mail.conftest import MakeOffice
from tests.api.mail.mailbox import PostOffice
from tests.conftest import MakeClient
from tests.factories import register

_ROUNDS = 50
# How far from a half chance may take the share: four and a half standard deviations (Mann-Whitney).
_TOLERATED = 4.5 * sqrt((2 * _ROUNDS + 1) / (12 * _ROUNDS**2))

Call = Callable[[str], Awaitable[Any]]


async def share_of_slower(call: Call, known: list[str], unknown: list[str]) -> float:
    """Return how often a known account takes longer than an unknown one: half the time if alike."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    chance = random.Random(7)
    for turn in range(_ROUNDS):
        for is_known in chance.sample([True, False], 2):
            name = (known if is_known else unknown)[turn % len(known)]
            started = time.perf_counter()
            await call(name)
            taken[is_known].append(time.perf_counter() - started)
    pairs = [a > b for a, b in product(taken[True], taken[False])]
    return sum(pairs) / len(pairs)


def asking(office: PostOffice, path: str) -> Call:
    answers: set[tuple[int, str]] = set()

    async def call(email: str) -> None:
        answer = await office.post(path, {"email": email})
        answers.add((answer.status_code, answer.text))
        assert len(answers) == 1, answers

    return call


def signing_in(office: PostOffice, make_client: MakeClient) -> Call:
    """Sign in with a wrong password, from somewhere else each time."""
    numbers = count()
    codes: set[tuple[int, str]] = set()

    async def call(name: str) -> None:
        number = next(numbers)
        client = make_client(office.app, address=f"10.{number // 250}.{number % 250}.1")
        form = {"username": name, "password": "a guess"}
        answer = await client.post("/api/v1/auth/token", data=form)
        codes.add((answer.status_code, answer.json()["detail"]))
        assert len(codes) == 1, codes

    return call


async def accounts(office: PostOffice) -> tuple[list[str], list[str]]:
    """Return addresses of accounts, and as many that have none."""
    known = [(await register(office.client)).email for _ in range(8)]
    unknown = [f"user{n}{uuid4().hex[:10]}@example.com" for n in range(8)]
    return known, unknown


@pytest.mark.parametrize("path", ["password/forgot", "email/resend"])
async def test_asking_for_a_mail_tells_nobody_whether_there_is_an_account(
    make_office: MakeOffice, path: str
) -> None:
    office = await make_office(run_jobs="worker")
    known, unknown = await accounts(office)
    assert abs(await share_of_slower(asking(office, path), known, unknown) - 0.5) < _TOLERATED


@pytest.mark.costly_hashes
@pytest.mark.only("production")
async def test_a_wrong_password_tells_nobody_whether_there_is_an_account(
    make_office: MakeOffice, make_client: MakeClient
) -> None:
    office = await make_office(run_jobs="worker")
    known, unknown = await accounts(office)
    call = signing_in(office, make_client)
    assert abs(await share_of_slower(call, known, unknown) - 0.5) < _TOLERATED


@pytest.mark.only("production")
async def test_mailing_in_the_request_would_be_seen(
    make_office: MakeOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = await make_office(run_jobs="worker")
    known, unknown = await accounts(office)
    mailer = office.app.state.resources.mailer

    async def ask_at_once(self: Recovery, email: str) -> None:
        await self.answer(email)
        if email in known:
            await mailer.send(Mail("id", email, "Hello", "text", "<p>text</p>"))

    monkeypatch.setattr(Recovery, "ask", ask_at_once)
    call = asking(office, "password/forgot")
    assert await share_of_slower(call, known, unknown) - 0.5 > _TOLERATED
