"""Signing up against hostile and unlucky input: one winner, no 500, nothing secret comes back."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from app.security.names import folded
from tests.factories import PASSWORD, expect, new_user, register

REGISTER = "/api/v1/auth/register"
CANARY = "CANARY-sesame-9931"


def body_of(name: str | None = None, **over: Any) -> dict[str, Any]:
    """Return a body that would be accepted; keywords replace its fields."""
    name = name or f"reg{uuid4().hex[:10]}"
    body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD} | over
    body.setdefault("confirm_password", body["password"])
    return body


async def sign_up(client: AsyncClient, body: dict[str, Any]) -> Response:
    """Register, coming back as long as the service asks for it."""
    while True:
        answer = await client.post(REGISTER, json=body)
        if answer.status_code != 503:
            return answer
        assert int(answer.headers["retry-after"]) >= 1
        await asyncio.sleep(0.05)


async def test_a_hundred_variants_of_one_address_have_one_winner(client: AsyncClient) -> None:
    wide = str.maketrans({c: chr(ord(c) + 0xFEE0) for c in "abcdefghijklmnopqrstuvwxyz"})
    local = f"race.{uuid4().hex[:8]}"

    def variant(number: int) -> str:
        cased = "".join(c.upper() if number >> i & 1 else c for i, c in enumerate(local))
        host = "EXAMPLE.com" if number % 2 else "Example.COM"
        return f"{cased.translate(wide) if number % 3 == 0 else cased}@{host}"

    answers = await asyncio.gather(
        *(
            sign_up(client, body_of(f"{local}.{number}", email=variant(number)))
            for number in range(100)
        )
    )
    statuses = [each.status_code for each in answers]
    # A spelling that no mail could be sent to is refused as such; all others are the one address.
    assert set(statuses) <= {201, 409, 422}, statuses
    assert statuses.count(201) == 1
    assert statuses.count(409) >= 60
    taken = {each.json()["error_code"] for each in answers if each.status_code == 409}
    assert taken == {"EMAIL_TAKEN"}


async def test_many_at_once_with_one_username_have_one_winner(client: AsyncClient) -> None:
    name = f"same{uuid4().hex[:8]}"
    answers = await asyncio.gather(
        *(
            sign_up(client, body_of(username=name.upper() if number % 2 else name))
            for number in range(20)
        )
    )
    statuses = [each.status_code for each in answers]
    assert sorted(statuses) == [201] + [409] * 19
    assert {a.json()["error_code"] for a in answers if a.status_code == 409} == {"USERNAME_TAKEN"}


async def test_one_domain_in_unicode_and_in_punycode_is_one_address(client: AsyncClient) -> None:
    name = f"idn{uuid4().hex[:8]}"
    expect(await sign_up(client, body_of(email=f"{name}@bücher.example.com")), 201)
    answer = await sign_up(client, body_of(email=f"{name}@xn--bcher-kva.example.com"))
    assert expect(answer, 409)["error_code"] == "EMAIL_TAKEN"


@pytest.mark.parametrize("joint", ["\u200d", "\u200c", "\ufe0f", "\u3164", "\u034f"])
async def test_a_name_that_looks_the_same_is_the_same(client: AsyncClient, joint: str) -> None:
    account = await register(client)
    twin = account.username[:4] + joint + account.username[4:]
    answer = await sign_up(client, body_of(username=twin))
    assert answer.status_code in (409, 422), answer.text


@pytest.mark.parametrize("username", ["\u3164\u3164\u3164", "\u200d\u200d\u200d", "ab\u200d"])
async def test_a_name_that_nobody_sees_is_refused(client: AsyncClient, username: str) -> None:
    body = expect(await sign_up(client, body_of(username=username)), 422)
    assert [each["field"] for each in body["errors"]] == ["username"]


async def test_a_name_that_grows_when_folded_is_never_a_500(client: AsyncClient) -> None:
    # U+FDFA is one letter, and eighteen characters in the form in which names compare.
    body = expect(await sign_up(client, body_of(username="\ufdfa" * 50)), 422)
    assert [each["field"] for each in body["errors"]] == ["username"]
    answer = await sign_up(client, body_of(email="\ufdfa" * 60 + "@example.com"))
    assert answer.status_code in (409, 422), answer.text
    tokens = await new_user(client)
    patch = {"username": "\ufdfa" * 50}
    answer = await client.patch("/api/v1/users/me", json=patch, headers=tokens.headers)
    assert expect(answer, 422)["errors"][0]["field"] == "username"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", '"a\\u0000b"'),
        ("username", '"ab\\ud800cd"'),
        ("username", f'"{"x" * 51}"'),
        ("username", f'"{"x" * 100_000}"'),
        ("username", str(2**31)),
        ("username", str(2**63)),
        ("username", "9" * 400),
        ("username", "NaN"),
        ("username", "1e999"),
        ("username", "null"),
        ("username", '["ada"]'),
        ("email", '"a\\u0000b@example.com"'),
        ("email", '"\\udfff@example.com"'),
        ("email", f'"{"x" * 250}@example.com"'),
        ("email", f'"x@{"x." * 130}com"'),
        ("email", "-Infinity"),
        ("email", '"ada@example.com\\r\\nBcc: eve@example.com"'),
        ("full_name", '"\\u0000"'),
        ("full_name", '"\\ud800"'),
        ("full_name", f'"{"x" * 101}"'),
        ("full_name", "1e999"),
        ("password", f'"{CANARY}\\u0000"'),
        ("password", f'"{CANARY}\\ud800"'),
        ("password", f'"{CANARY}{"x" * 120}"'),
        ("password", "12345678"),
        ("confirm_password", f'"{CANARY}\\ud800"'),
        ("confirm_password", f'"{CANARY}{"x" * 1100}"'),
    ],
)
async def test_what_no_column_holds_is_unprocessable(
    client: AsyncClient, field: str, value: str
) -> None:
    fields = {name: json.dumps(each) for name, each in body_of().items()}
    text = "{" + ",".join(f'"{n}":{v}' for n, v in (fields | {field: value}).items()) + "}"
    answer = await client.post(
        REGISTER, content=text.encode(), headers={"Content-Type": "application/json"}
    )
    problem = expect(answer, 422)
    # A password that was refused leaves nothing to compare its confirmation with.
    assert field in [each["field"] for each in problem["errors"]]
    assert "CANARY" not in answer.text
    assert PASSWORD not in answer.text


@pytest.mark.parametrize("name", ["\\ud800", "\\u0000", "__proto__", "passwordHash", "x" * 5000])
async def test_a_field_that_nobody_knows_is_refused_whatever_its_name(
    client: AsyncClient, name: str
) -> None:
    text = json.dumps(body_of())[:-1] + f', "{name}": "{CANARY}"}}'
    answer = await client.post(
        REGISTER, content=text.encode(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422), answer.text
    assert "CANARY" not in answer.text


@pytest.mark.parametrize(
    "extra",
    [
        {"roles": ["admin"]},
        {"role": "admin"},
        {"is_active": True},
        {"is_verified": True},
        {"password_hash": CANARY},
        {"email_key": "x"},
        {"version": 7},
        {"deleted_at": None},
    ],
)
async def test_nobody_assigns_more_than_the_form_asks_for(
    client: AsyncClient, extra: dict[str, Any]
) -> None:
    problem = expect(await sign_up(client, body_of(**extra)), 422)
    assert [each["field"] for each in problem["errors"]] == list(extra)
    assert "CANARY" not in str(problem)


async def test_a_common_password_in_other_letters_is_common_all_the_same(
    client: AsyncClient,
) -> None:
    # It is hashed in its compatibility form, so that the plain spelling would open the account.
    wide = "".join(chr(ord(c) + 0xFEE0) for c in "iloveyou1")
    problem = expect(await sign_up(client, body_of(password=wide)), 422)
    assert [each["field"] for each in problem["errors"]] == ["password"]


async def test_v2_speaks_camel_case_and_understands_both(client: AsyncClient) -> None:
    for key in ("confirmPassword", "confirm_password"):
        body = body_of()
        body[key] = body.pop("confirm_password")
        user = expect(await client.post("/api/v2/auth/register", json=body), 201)
        assert {"isActive", "isVerified", "fullName", "createdAt"} <= set(user)


async def test_the_password_is_kept_as_argon2_alone(client: AsyncClient, app: FastAPI) -> None:
    account = await register(client, password=CANARY)
    async with app.state.resources.db.read() as connection:
        tables = ("users", "sessions", "events", "idempotency_keys", "login_failures")
        known = set(await connection.run_sync(lambda sync: sync.dialect.get_table_names(sync)))
        for table in known.intersection(tables):
            rows = (await connection.exec_driver_sql(f"SELECT * FROM {table}")).all()
            assert CANARY not in str(rows), table
        mine = await app.state.resources.accounts.get(account.id)
    assert mine.password_hash.startswith("$argon2id$")


def test_folding_is_stable() -> None:
    for name in ("Straße", "\ufdfa", "İstanbul", "ﬁ", "ǅ", "\u1e9e", "a\u0345"):
        assert folded(folded(name)) == folded(name)
