"""The shipped nginx configuration in front of the service: TLS, streams, limits, retries."""

import asyncio
import contextlib
import json
import os
import signal
import time

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tests.edge.conftest import Edge, trusting
from tests.factories import create_item, expect, new_user

pytestmark = [pytest.mark.system, pytest.mark.only("production")]


async def test_requests_sockets_and_streams_come_through(edge: Edge) -> None:
    async with edge.client() as client:
        tokens = await new_user(client)
        address = edge.url.replace("https", "wss", 1)
        async with (
            connect(f"{address}/ws", additional_headers=tokens.headers, ssl=trusting()) as live,
            client.stream("GET", "/api/v1/events?channel=items") as stream,
        ):
            assert json.loads(await live.recv())["type"] == "welcome"
            await live.send('{"action":"subscribe","channel":"items"}')
            assert json.loads(await live.recv())["type"] == "subscribed"
            item = await create_item(client, tokens)
            async with asyncio.timeout(5):
                assert json.loads(await live.recv())["event"]["data"]["id"] == item["id"]
                async for line in stream.aiter_lines():
                    if line.startswith("data:"):
                        assert json.loads(line[5:])["data"]["id"] == item["id"]
                        break
        answer = await client.get("/health/live")
        assert answer.headers["strict-transport-security"]


async def test_what_a_client_claims_of_itself_is_dropped(edge: Edge) -> None:
    async with edge.client() as client:
        forged = {"X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4"}
        tokens = await new_user(client)
        client.headers.update(forged)
        form = {"username": tokens.account.username, "password": tokens.account.password}
        pair = expect(await client.post("/api/v1/auth/token", data=form), 200)
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        listed = expect(await client.get("/api/v1/auth/sessions", headers=headers), 200)
        assert {each["address"] for each in listed["items"]} == {"127.0.0.1"}


async def test_a_page_from_here_may_open_a_socket_and_one_from_elsewhere_may_not(
    edge: Edge,
) -> None:
    async with edge.client() as client:
        tokens = await new_user(client)
    address = edge.url.replace("https", "wss", 1)
    claimed = {**tokens.headers, "X-Forwarded-For": "1.2.3.4", "X-Request-ID": "socket-1"}
    async with connect(
        f"{address}/ws",
        additional_headers=claimed,
        origin=Origin(edge.url),
        ssl=trusting(),
    ) as live:
        assert json.loads(await live.recv())["type"] == "welcome"
        assert live.response is not None
        assert live.response.headers["x-request-id"] == "socket-1"
    with pytest.raises(InvalidStatus):
        async with connect(
            f"{address}/ws",
            additional_headers=tokens.headers,
            origin=Origin("https://evil.example"),
            ssl=trusting(),
        ):
            pass
    assert all("1.2.3.4" not in service.log() for service in edge.services)


async def test_what_goes_wrong_here_is_a_problem_too(edge: Edge) -> None:
    async with edge.client() as client:
        large = await client.post("/api/v1/items", content=b"x" * (2 * 1024 * 1024 + 1))
        assert expect(large, 413)["error_code"] == "PAYLOAD_TOO_LARGE"
        assert large.headers["content-type"] == "application/problem+json"
        given = {"X-Request-ID": "abc-1"}
        assert (await client.get("/health/live", headers=given)).headers["x-request-id"] == "abc-1"
        assert (await client.get("/metrics")).status_code == 404
        for service in edge.services:
            workers = service.workers  # a dead arbiter has none
            service.process.send_signal(signal.SIGKILL)
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            while (gone := await client.get("/api/v1/items")).status_code == 200:
                await asyncio.sleep(0.05)
        assert expect(gone, 502)["error_code"] == "BAD_GATEWAY"
        assert gone.headers["retry-after"] == "1"
    entries = [json.loads(line) for line in edge.log.read_text().splitlines()]
    assert "abc-1" in [entry["request_id"] for entry in entries]


async def test_a_killed_worker_is_hidden_from_readers(edge: Edge) -> None:
    statuses: list[int] = []
    cut_off: list[int] = []
    stop = asyncio.Event()

    async def read() -> None:
        async with edge.client() as client:
            while not stop.is_set():
                try:
                    statuses.append((await client.get("/api/v1/items")).status_code)
                except httpx.RemoteProtocolError:
                    cut_off.append(1)  # the worker died between an answer's head and its body

    readers = [asyncio.create_task(read()) for _ in range(4)]
    for service in [*edge.services, edge.services[0]]:
        await asyncio.sleep(0.7)
        os.kill(service.workers[0], signal.SIGKILL)
    await asyncio.sleep(2)
    stop.set()
    await asyncio.gather(*readers)
    assert set(statuses) == {200}
    assert len(cut_off) <= 3  # one a kill: what has begun cannot be asked for again


async def test_a_client_that_dawdles_is_closed_within_seconds(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, ssl=trusting())
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    started = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(20):
            while await reader.read(1000):
                pass
    assert time.monotonic() - started < 15
    writer.close()


async def test_a_file_goes_through_both_ways(edge: Edge) -> None:
    content = b"%PDF-1.7\n" + os.urandom(10_000_000)
    async with edge.client() as client:
        tokens = await new_user(client)
        item = await create_item(client, tokens)
        url = f"/api/v1/items/{item['id']}/files"
        upload = {"file": ("plan.pdf", content, "application/pdf")}
        stored = expect(await client.post(url, files=upload, headers=tokens.headers), 201)
        file_id = stored["items"][0]["id"]
        # The instances share no folder here; the one that has it answers.
        async with asyncio.timeout(20):
            while (found := await client.get(f"/api/v1/files/{file_id}")).status_code != 200:
                await asyncio.sleep(0.05)
        assert found.content == content
        large = {"name": "x" * 3_000_000, "price": 1}
        refused = await client.post("/api/v1/items", json=large, headers=tokens.headers)
        assert expect(refused, 413)["error_code"] == "PAYLOAD_TOO_LARGE"
