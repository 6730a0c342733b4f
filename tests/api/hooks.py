"""What tests of webhooks share: endpoints that are gone after the test, and their deliveries."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from httpx import AsyncClient

from tests.factories import Tokens, expect
from tests.receivers import Receiver, until_answer


@dataclass
class Hook:
    """An endpoint that was created, and its owner's view of it."""

    client: AsyncClient
    tokens: Tokens
    id: int
    secret: str

    @property
    def path(self) -> str:
        """Where it is."""
        return f"/api/v1/webhooks/{self.id}"

    async def read(self) -> dict[str, Any]:
        """Return it as it is now."""
        return expect(await self.client.get(self.path, headers=self.tokens.headers), 200)

    async def patch(self, **changes: Any) -> dict[str, Any]:
        """Change it."""
        answer = await self.client.patch(self.path, json=changes, headers=self.tokens.headers)
        return expect(answer, 200)

    async def call(self, what: str, status: int = 202, body: Any = None) -> dict[str, Any]:
        """Post to one of its operations."""
        answer = await self.client.post(
            f"{self.path}/{what}", json=body, headers=self.tokens.headers
        )
        return expect(answer, status)

    async def log(self, **query: Any) -> list[dict[str, Any]]:
        """Return its deliveries, the oldest first."""
        answer = await self.client.get(
            f"{self.path}/deliveries", params={"limit": 100, **query}, headers=self.tokens.headers
        )
        items: list[dict[str, Any]] = expect(answer, 200)["items"]
        return items[::-1]

    async def delivery(self, delivery_id: int) -> dict[str, Any]:
        """Return a delivery with all that is known of it."""
        path = f"/api/v1/webhooks/deliveries/{delivery_id}"
        return expect(await self.client.get(path, headers=self.tokens.headers), 200)

    async def settled(self, status: str, count: int = 1) -> list[dict[str, Any]]:
        """Return the deliveries of a status, once there are so many."""

        async def enough() -> list[dict[str, Any]]:
            found = await self.log(status=status)
            return found if len(found) >= count else []

        found: list[dict[str, Any]] = await until_answer(enough)
        return found


@asynccontextmanager
async def hooked(
    client: AsyncClient, tokens: Tokens, receiver: Receiver | str, *events: str
) -> AsyncIterator[Hook]:
    """Have events sent to a receiver until the end of the block."""
    url = receiver if isinstance(receiver, str) else receiver.url
    body = {"url": url, "events": list(events)}
    made = expect(await client.post("/api/v1/webhooks", json=body, headers=tokens.headers), 201)
    hook = Hook(client, tokens, made["id"], made["secret"])
    try:
        yield hook
    finally:
        await client.delete(hook.path, headers=tokens.headers)
