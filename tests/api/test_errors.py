"""Every error, from whatever layer, is one RFC 9457 problem that gives nothing away."""

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from tests.conftest import MakeApp, MakeClient
from tests.factories import Tokens, create_item, new_user
from tests.live_server import LiveServer
from tests.raw_socket import connection

ITEMS = "/api/v1/items"


def problem(answer: Response, status: int, error_code: str) -> dict[str, Any]:
    """Check the shape that every problem has, and return it."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["error_code"]) == (status, error_code), body
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["type"]
    assert body["title"]
    assert body["detail"]
    asked_for = answer.request.url.raw_path.partition(b"?")[0].decode()
    assert body["instance"] == asked_for  # a URI reference: percent-encoded
    assert answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    return body


async def post(
    client: AsyncClient,
    content: Any,
    tokens: Tokens | None = None,
    content_type: str = "application/json",
) -> Response:
    tokens = tokens or await new_user(client)
    headers = {"Content-Type": content_type, **tokens.headers}
    return await client.post(ITEMS, content=content, headers=headers)


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/nowhere", "/api/v1/items/1/2/3", "/api/v1"])
async def test_an_unknown_path_is_a_problem(client: AsyncClient, path: str) -> None:
    problem(await client.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", [ITEMS, "/api/v2/users/me", "/health/live", "/api/v1/auth/token"])
async def test_a_wrong_method_names_the_right_ones(client: AsyncClient, path: str) -> None:
    answer = await client.request("PUT", path)
    problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"]
    assert "PUT" not in answer.headers["allow"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", ITEMS, "GET, HEAD, OPTIONS, POST"),
        ("POST", f"{ITEMS}/1", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("PUT", "/api/v2/items/1/files", "GET, HEAD, OPTIONS, POST"),
        ("HEAD", f"{ITEMS}/bulk", "OPTIONS, POST"),
        ("GET", f"{ITEMS}/bulk", "OPTIONS, POST"),
        ("GET", f"{ITEMS}/import", "OPTIONS, POST"),
        ("DELETE", f"{ITEMS}/export", "GET, HEAD, OPTIONS"),
        ("PATCH", f"{ITEMS}/stats", "GET, HEAD, OPTIONS"),
        ("PUT", "/api/items", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/api/v1/auth/token", "OPTIONS, POST"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("POST", "/health/live", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method_names_all_the_right_ones(
    client: AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_an_unknown_method_is_a_problem(client: AsyncClient) -> None:
    for method in ("BREW", "TRACE", "CONNECT", "get"):
        answer = await client.request(method, ITEMS)
        if method != "get":
            problem(answer, 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize(
    "sent", [b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]
)
async def test_what_is_no_http_is_a_problem(server: LiveServer, sent: bytes) -> None:
    async with asyncio.timeout(5), connection(server.url) as raw:
        raw.write(sent)
        head, _, body = (await raw.reader.read()).decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert status == "HTTP/1.1 400 Bad Request"
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    found = json.loads(body)
    assert (found["status"], found["error_code"]) == (400, "BAD_REQUEST")
    assert found["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"nothing", b"[1,", b'{"name":"a" "price":1}', b"\xff\xfe", b"{'name':1}"],
)
async def test_malformed_json_is_a_clear_error(
    client: AsyncClient, somebody: Tokens, content: bytes
) -> None:
    answer = await post(client, content, somebody)
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code, answer.json()["error_code"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ('"name": "\\u0000"', "name"),
        ('"name": "\\ud800"', "name"),
        ('"name": ""', "name"),
        (f'"name": "{"x" * 101}"', "name"),
        ('"name": 7', "name"),
        ('"price": 0', "price"),
        ('"price": -1', "price"),
        ('"price": 1.005', "price"),
        ('"price": NaN', "price"),
        ('"price": Infinity', "price"),
        ('"price": 1e999', "price"),
        ('"price": 99999999999999999999', "price"),
        ('"price": true', "price"),
        ('"discount_percent": 101', "discount_percent"),
        ('"tags": "wood"', "tags"),
        ('"tags": ["' + '","'.join(str(n) for n in range(21)) + '"]', "tags"),
        (f'"tags": ["{"x" * 41}"]', "tags.0"),
        (f'"description": "{"x" * 2001}"', "description"),
        ('"visibility": "hidden"', "visibility"),
        ('"owner_id": 1', "owner_id"),
        ('"id": 1', "id"),
        ('"version": 9', "version"),
    ],
)
async def test_a_bad_field_is_named_and_not_echoed(
    client: AsyncClient, somebody: Tokens, change: str, field: str
) -> None:
    name, _, value = change.partition(": ")
    fields = {'"name"': '"CANARY"', '"price"': "1", name: value}
    text = "{" + ",".join(f"{k}:{v}" for k, v in fields.items()) + "}"
    answer = await post(client, text.encode(), somebody)
    body = problem(answer, 422, "VALIDATION_ERROR")
    assert field in [each["field"] for each in body["errors"]], body
    assert all(each["message"] and each["type"] for each in body["errors"])
    assert "CANARY" not in answer.text
    assert '"input"' not in answer.text


@pytest.mark.parametrize(
    "item_id",
    ["0", "-1", "abc", "1.5", "9" * 19, "9" * 400, "%00", "²", "%2B1", "%201", "1.0", "1_0"],
)
async def test_an_id_that_cannot_be_is_unprocessable(client: AsyncClient, item_id: str) -> None:
    problem(await client.get(f"{ITEMS}/{item_id}"), 422, "VALIDATION_ERROR")


async def test_an_id_that_could_be_is_not_found(client: AsyncClient) -> None:
    problem(await client.get(f"{ITEMS}/{2**63 - 1}"), 404, "NOT_FOUND")


async def test_a_wrong_content_type_is_refused(client: AsyncClient) -> None:
    answer = await post(client, b'{"name":"a","price":1}', content_type="text/plain")
    assert answer.status_code in (415, 422)


async def test_deep_json_is_refused(client: AsyncClient) -> None:
    for content in (b"[" * 100_000, b'{"name":' * 5000, b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"):
        answer = await post(client, content)
        assert answer.status_code in (400, 422)
    brackets = json.dumps({"name": "[" * 90, "price": 1}).encode()
    assert (await post(client, brackets)).status_code == 201


async def test_too_much_is_refused_by_name(make_app: MakeApp, make_client: MakeClient) -> None:
    client = make_client(await make_app(max_body_bytes=2000))
    problem(await post(client, b"x" * 2001), 413, "PAYLOAD_TOO_LARGE")

    async def chunks() -> Any:
        for _ in range(30):
            yield b"x" * 100

    problem(await post(client, chunks()), 413, "PAYLOAD_TOO_LARGE")
    problem(await client.get(f"{ITEMS}?q={'x' * 9000}"), 414, "URI_TOO_LONG")
    many = {f"X-{number}": "x" for number in range(200)}
    problem(await client.get(ITEMS, headers=many), 431, "HEADERS_TOO_LARGE")
    odd = await client.post(ITEMS, content=b"{}", headers={"Content-Length": "two"})
    assert odd.status_code in (400, 401)


async def test_nul_in_an_address_is_refused(client: AsyncClient) -> None:
    for path in (f"{ITEMS}?q=%00", f"{ITEMS}/%00", "/api/v1/us%00ers"):
        assert (await client.get(path)).status_code == 422


async def test_a_bug_tells_nothing_of_itself(
    app: FastAPI, client: AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    tokens = await new_user(client)
    item = await create_item(client, tokens)

    def broken(*_: Any) -> Any:
        raise RuntimeError("CANARY /etc/passwd SELECT * FROM users")

    monkeypatch.setattr("app.services.items._readable", broken)
    answer = await client.get(f"{ITEMS}/{item['id']}")
    problem(answer, 500, "INTERNAL_ERROR")
    for secret in ("CANARY", "RuntimeError", "SELECT", "passwd", "Traceback", ".py"):
        assert secret not in answer.text
    assert "CANARY" in caplog.text  # the log has it


async def test_a_stranger_cannot_tell_a_private_item_from_none(client: AsyncClient) -> None:
    owner, stranger = await new_user(client), await new_user(client)
    item = await create_item(client, owner, visibility="private")
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        bodies = []
        for item_id in (item["id"], 2**62):
            body = {"name": "a", "price": 1} if method in ("PATCH", "PUT") else None
            answer = await client.request(
                method, f"{ITEMS}/{item_id}", json=body, headers=stranger.headers
            )
            assert answer.status_code == 404
            bodies.append(
                {k: v for k, v in answer.json().items() if k not in ("request_id", "instance")}
            )
        assert bodies[0] == bodies[1]
