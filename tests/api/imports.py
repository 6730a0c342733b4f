"""What tests of imports share: sending a file, and waiting for what becomes of it."""

import asyncio
import json
from typing import Any

from httpx import AsyncClient

from tests.factories import Tokens, expect
from tests.patience import PATIENCE

V1, V2 = "/api/v1/items", "/api/v2/items"
NDJSON, CSV = "application/x-ndjson", "text/csv"


def ndjson(*lines: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def send(
    client: AsyncClient, owner: Tokens, body: Any, *, base: str = V1, **query: Any
) -> dict[str, Any]:
    """Send a file and return its job, which is not done yet."""
    headers = owner.headers | {"Content-Type": query.pop("media_type", NDJSON)}
    answer = await client.post(f"{base}/import", content=body, params=query, headers=headers)
    return expect(answer, 202)


async def ended(client: AsyncClient, owner: Tokens, job: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            url = f"/api/v1/jobs/{job['id']}"
            found = expect(await client.get(url, headers=owner.headers), 200)
            if found["status"] not in ("queued", "running"):
                return found
            await asyncio.sleep(0.01)


async def imported(
    client: AsyncClient, owner: Tokens, body: Any, **query: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Import a file; return the job's result and the refused lines."""
    job = await ended(client, owner, await send(client, owner, body, **query))
    assert job["status"] == "succeeded", job
    return job["result"], await rejected(client, owner, job)


async def rejected(client: AsyncClient, owner: Tokens, job: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.get(f"/api/v1/jobs/{job['id']}/rejected", headers=owner.headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == NDJSON
    return [json.loads(line) for line in answer.text.splitlines()]


async def owned(client: AsyncClient, owner: Tokens, base: str = V1) -> list[dict[str, Any]]:
    params = {"owner_id": owner.account.id, "limit": 100}
    answer = await client.get(base, params=params, headers=owner.headers)
    items: list[dict[str, Any]] = expect(answer, 200)["items"]
    return items


def many(count: int) -> bytes:
    filling = "Something to say of it. " * 12
    lines = [{"name": f"Item {n}", "price": 1, "description": filling} for n in range(count)]
    return ndjson(*lines)
