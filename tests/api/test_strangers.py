"""What a stranger expects who has read the contract, and only that."""

from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.api.test_errors import ITEMS, problem
from tests.factories import admin, create_item, expect, new_user

JSON = {"Content-Type": "application/json"}
REGISTER = "/api/v1/auth/register"
TOKEN = "/api/v1/auth/token"


def methods(answer: Any) -> set[str]:
    return set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", ITEMS, {"GET", "HEAD", "OPTIONS", "POST"}),
        ("TRACE", f"{ITEMS}/1", {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"}),
        ("POST", "/api/items/1", {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"}),
        ("GET", f"{ITEMS}/bulk", {"OPTIONS", "POST"}),
        ("DELETE", f"{ITEMS}/export", {"GET", "HEAD", "OPTIONS"}),
        ("HEAD", TOKEN, {"OPTIONS", "POST"}),
        ("POST", "/health/live", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/docs/assets/swagger-ui.css", {"GET", "HEAD", "OPTIONS"}),
    ],
)
async def test_a_wrong_method_is_told_all_that_the_path_has(
    client: AsyncClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert methods(answer) == allowed
    asked = await client.options(path)
    assert (asked.status_code, asked.content) == (204, b"")
    assert methods(asked) == allowed


async def test_options_of_nothing_is_not_found(client: AsyncClient) -> None:
    problem(await client.options("/api/v1/nothing"), 404, "NOT_FOUND")


async def test_a_refused_preflight_is_a_problem(client: AsyncClient) -> None:
    headers = {"Origin": "https://stranger.example", "Access-Control-Request-Method": "POST"}
    answer = await client.options(ITEMS, headers=headers)
    assert "origin" in problem(answer, 400, "BAD_REQUEST")["detail"]
    assert "access-control-allow-origin" not in answer.headers
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("items?q=" + "x" * 9000, {}, 414),
        ("items?q=%00", {}, 422),
        ("items/%00", {}, 422),
        ("items", {"headers": [("X-Many", "1")] * 150}, 431),
        ("auth/register", {"method": "POST", "content": b"x" * 3_000_000, "headers": JSON}, 413),
        ("auth/register", {"method": "POST", "content": b"[" * 50, "headers": JSON}, 422),
    ],
)
async def test_what_is_too_much_is_refused_in_the_name_of_a_version(
    client: AsyncClient, version: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = await client.request(**{"method": "GET", "url": f"/api/v{version}/{path}", **options})
    assert answer.status_code == status
    assert answer.headers["api-version"] == version
    if status == 422:
        assert answer.json()["errors"][0]["field"] in ("path", "query", "body")


async def test_a_refused_version_may_not_be_cached_for_others(client: AsyncClient) -> None:
    answer = await client.get("/api/items", headers={"API-Version": "9"})
    problem(answer, 400, "UNSUPPORTED_API_VERSION")
    assert "API-Version" in answer.headers["vary"]
    assert "Accept" in answer.headers["vary"]


async def test_a_problem_names_the_path_that_was_asked_for(client: AsyncClient) -> None:
    answer = await client.get("/api/items/987654321")
    assert problem(answer, 404, "NOT_FOUND")["instance"] == "/api/items/987654321"


async def test_a_media_type_is_read_in_any_case(client: AsyncClient) -> None:
    answer = await client.get("/api/items", headers={"Accept": "Application/VND.Kingpost.V2+JSON"})
    assert answer.headers["api-version"] == "2"


@pytest.mark.parametrize(
    "content", [b'{"email": "\xff"}', b'{"email": ' + b"9" * 5000 + b"}", b"{'email': 1}"]
)
async def test_what_no_parser_reads_is_malformed_json(client: AsyncClient, content: bytes) -> None:
    answer = await client.post(REGISTER, content=content, headers=JSON)
    problem(answer, 400, "MALFORMED_JSON")


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", "missing", "A body is required"),
        (b"[]", "model_attributes_type", "The body must be a JSON object"),
        (b"null", "model_attributes_type", "The body must be a JSON object"),
        (b"5", "model_attributes_type", "The body must be a JSON object"),
    ],
)
async def test_a_body_that_is_no_object_is_told_so(
    client: AsyncClient, content: bytes, kind: str, message: str
) -> None:
    answer = await client.post(REGISTER, content=content, headers=JSON)
    errors = problem(answer, 422, "VALIDATION_ERROR")["errors"]
    assert errors == [{"field": "body", "message": message, "type": kind}]


async def test_signing_in_by_json_is_told_to_send_a_form(client: AsyncClient) -> None:
    tokens = await new_user(client)
    body = {"username": tokens.account.username, "password": tokens.account.password}
    for options in ({"json": body}, {"content": b"username=a", "headers": {}}):
        answer = await client.post(TOKEN, **options)
        detail = problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")["detail"]
        assert "x-www-form-urlencoded" in detail
    expect(await client.post(TOKEN, data=body), 200)
    missing = await client.post(TOKEN)
    assert [each["field"] for each in problem(missing, 422, "VALIDATION_ERROR")["errors"]] == [
        "username",
        "password",
    ]


@pytest.mark.parametrize("encodings", ["gzip;q=0", "gzip;q=0.0, br", "identity, gzip; q=0", "br"])
async def test_a_refused_compression_is_not_used(client: AsyncClient, encodings: str) -> None:
    answer = await client.get("/api/v1/openapi.json", headers={"Accept-Encoding": encodings})
    assert "content-encoding" not in answer.headers
    assert "Accept-Encoding" in answer.headers["vary"]


@pytest.mark.parametrize("encodings", ["gzip", "br, GZIP;q=0.5", "*", "x-gzip"])
async def test_a_wanted_compression_is_used(client: AsyncClient, encodings: str) -> None:
    answer = await client.get("/api/v1/openapi.json", headers={"Accept-Encoding": encodings})
    assert answer.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    "email", ["<ada@example.com>", "Ada <ada@example.com>", "a" * 65 + "@example.com"]
)
async def test_an_address_is_nothing_but_an_address(client: AsyncClient, email: str) -> None:
    password = "correct horse battery"
    body = {"email": email, "username": "ada", "password": password, "confirm_password": password}
    errors = problem(await client.post(REGISTER, json=body), 422, "VALIDATION_ERROR")["errors"]
    assert [each["field"] for each in errors] == ["email"]


async def test_v2_takes_the_names_of_v1_in_a_query_as_well(
    client: AsyncClient, app: FastAPI
) -> None:
    boss = await admin(client, app)
    for name in ("isActive", "is_active"):
        answer = await client.get(f"/api/v2/users?{name}=false", headers=boss.headers)
        assert all(not each["isActive"] for each in expect(answer, 200)["items"]), name


async def test_a_bad_token_is_told_by_the_challenge(client: AsyncClient) -> None:
    me = "/api/v1/users/me"
    unasked = await client.get(me)
    assert unasked.headers["www-authenticate"] == "Bearer"
    bad = await client.get(me, headers={"Authorization": "Bearer not.a.token"})
    assert problem(bad, 401, "INVALID_TOKEN")
    assert bad.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_v2_pages_an_accounts_items_by_cursor(client: AsyncClient) -> None:
    owner = await new_user(client)
    wanted = [(await create_item(client, owner))["id"] for _ in range(3)]
    url, seen = f"/api/v2/users/{owner.account.id}/items?limit=2", []
    while url:
        answer = await client.get(url)
        page = expect(answer, 200)
        assert set(page) == {"items", "nextCursor", "hasMore"}
        seen += [item["id"] for item in page["items"]]
        url = answer.links.get("next", {}).get("url", "")
    assert seen == wanted
    unknown = await client.get(f"/api/v2/users/{owner.account.id}/items?cursor=made-up")
    problem(unknown, 400, "INVALID_CURSOR")
