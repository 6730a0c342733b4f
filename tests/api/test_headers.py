"""What is on every answer: request id, timing, security headers, CORS, compression, HEAD."""

import json
import re

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Limits

from app.http_protocol import MAX_HEAD_BYTES
from tests.conftest import MakeApp, MakeClient
from tests.factories import create_item, expect, new_user
from tests.live_server import LiveServer
from tests.raw_socket import connection, request

EXPORT, STREAM = "/api/v1/items/export", "/api/v1/events?channel=items"
PATHS = ["/health/live", "/api/v1/items", "/", "/docs", "/nowhere", "/metrics"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_is_safe_in_a_browser(client: AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "strict-transport-security" not in headers
    assert "server" not in headers
    assert re.fullmatch(r"app;dur=\d+\.\d", headers["server-timing"])


async def test_transport_security_is_asked_for_over_tls_alone(
    app: FastAPI, make_client: MakeClient
) -> None:
    client = make_client(app, headers={"X-Forwarded-Proto": "https"})
    answer = await client.get("/health/live")
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    far = make_client(app, address="203.0.113.5", headers={"X-Forwarded-Proto": "https"})
    assert "strict-transport-security" not in (await far.get("/health/live")).headers


@pytest.mark.parametrize("given", ["abc", "A.b_c-9", "x" * 128])
async def test_a_request_id_is_echoed(client: AsyncClient, given: str) -> None:
    answer = await client.get("/health/live", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "é", "<x>", "a/b", "a,b"])
async def test_a_bad_request_id_is_made_anew(client: AsyncClient, given: str) -> None:
    headers = [(b"X-Request-ID", given.encode())]
    answer = await client.get("/health/live", headers=headers)
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_every_request_has_an_id_of_its_own(client: AsyncClient) -> None:
    ids = {(await client.get("/health/live")).headers["x-request-id"] for _ in range(10)}
    assert len(ids) == 10


async def test_signed_in_answers_are_kept_by_nobody(client: AsyncClient) -> None:
    tokens = await new_user(client)
    item = await create_item(client, tokens)
    own = {"{item_id}": str(item["id"]), "{user_id}": str(tokens.account.id)}
    document = expect(await client.get("/openapi.json"), 200)
    asked = 0
    for path, operations in document["paths"].items():
        if "get" not in operations or path.endswith(("/events", "/jwks.json")):
            continue
        url = path
        for name, value in own.items():
            url = url.replace(name, value)
        answer = await client.get(url, headers=tokens.headers)
        kept = answer.headers["cache-control"]
        assert "no-store" in kept or kept == "private, no-cache", f"{path}: {kept}"
        asked += answer.status_code == 200
    assert asked > 15


async def test_pages_of_named_origins_may_call(make_app: MakeApp, make_client: MakeClient) -> None:
    client = make_client(await make_app(cors_origins="https://app.example"))
    allowed, other = {"Origin": "https://app.example"}, {"Origin": "https://evil.example"}
    answer = await client.get("/api/v1/items", headers=allowed)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "ETag" in answer.headers["access-control-expose-headers"]
    assert "origin" in answer.headers["vary"].lower()
    refused = await client.get("/api/v1/items", headers=other)
    assert "access-control-allow-origin" not in refused.headers
    asked = {"Access-Control-Request-Method": "PATCH"}
    preflight = await client.options("/api/v1/items/1", headers=allowed | asked)
    assert preflight.status_code == 200
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    preflight = await client.options("/api/v1/items/1", headers=other | asked)
    assert "access-control-allow-origin" not in preflight.headers
    assert expect(preflight, 400)["error_code"] == "BAD_REQUEST"
    assert preflight.headers["content-type"] == "application/problem+json"


async def test_no_page_may_call_by_default(client: AsyncClient) -> None:
    answer = await client.get("/api/v1/items", headers={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_large_answers_are_compressed_where_that_is_understood(client: AsyncClient) -> None:
    tokens = await new_user(client)
    item = await create_item(client, tokens, description="x" * 1500)
    url = f"/api/v1/items/{item['id']}"
    packed = await client.get(url, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == item
    plain = await client.get(url, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert "accept-encoding" in packed.headers["vary"].lower()
    for refused in ("gzip;q=0", "br, GZIP ; q=0.0", "gzip;q=0, *"):
        answer = await client.get(url, headers={"Accept-Encoding": refused})
        assert "content-encoding" not in answer.headers, refused
        assert "accept-encoding" in answer.headers["vary"].lower()
    wanted = await client.get(url, headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert wanted.headers["content-encoding"] == "gzip"
    small = await client.get("/health/live", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in small.headers


async def test_head_works_wherever_get_does(client: AsyncClient, app: FastAPI) -> None:
    tokens = await new_user(client)
    item = await create_item(client, tokens)
    document = expect(await client.get("/openapi.json"), 200)
    checked = 0
    for path, operations in document["paths"].items():
        if "get" not in operations or "events" in path:
            continue
        url = path.replace("{item_id}", str(item["id"])).replace(
            "{user_id}", str(tokens.account.id)
        )
        get = await client.get(url, headers=tokens.headers)
        head = await client.head(url, headers=tokens.headers)
        assert (head.status_code, head.content) == (get.status_code, b""), url
        assert head.headers.get("etag") == get.headers.get("etag"), url
        checked += 1
    assert checked > 15


async def test_a_connection_goes_on_after_head(server: LiveServer) -> None:
    async with server.client(limits=Limits(max_connections=1)) as client:
        tokens = await new_user(client)
        item = await create_item(client, tokens)
        for path in (f"/api/v1/items/{item['id']}", "/api/v1/items", "/nowhere", EXPORT, STREAM):
            head = await client.head(path)
            stream = head.extensions["network_stream"]
            got = await client.get("/health/live")
            assert (head.content, got.json()) == (b"", {"status": "alive"}), path
            assert got.extensions["network_stream"] is stream, f"{path}: the server hung up"


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_too(server: LiveServer, sent: bytes) -> None:
    async with connection(server.url) as raw:
        raw.write(sent)
        head, _, body = (await raw.reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"content-type: application/problem+json" in head
    assert b"x-content-type-options: nosniff" in head
    problem = json.loads(body)
    assert (problem["status"], problem["error_code"]) == (400, "BAD_REQUEST")
    assert f"x-request-id: {problem['request_id']}".encode() in head


async def test_a_head_without_end_is_cut_off(server: LiveServer) -> None:
    async with connection(server.url) as raw:
        raw.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"a" * (MAX_HEAD_BYTES + 2**20))
        answer = await raw.reader.read()  # to its end: the connection is closed
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error_code"] == "HEADERS_TOO_LARGE"
    async with connection(server.url) as raw:
        raw.write(request("/health/live", {"X-Long": "a" * 2**20}))
        assert (await raw.head()).startswith("HTTP/1.1 200")
