"""What the tests of API keys share."""

from dataclasses import dataclass
from typing import Any

from httpx import AsyncClient

from tests.factories import Tokens, expect

KEYS = "/api/v1/auth/api-keys"
ME = "/api/v1/users/me"
EVERYTHING = ("items:read", "items:write", "users:read", "users:write", "events:read")


@dataclass(frozen=True)
class Key:
    """A key as its owner got it."""

    id: int
    secret: str
    owner: Tokens

    @property
    def headers(self) -> dict[str, str]:
        """The header that sends the key."""
        return {"X-API-Key": self.secret}

    @property
    def url(self) -> str:
        """Where the key is managed."""
        return f"{KEYS}/{self.id}"


async def new_key(client: AsyncClient, owner: Tokens, *scopes: str, **over: Any) -> Key:
    """Create a key, with every scope unless some are named."""
    body = {"name": "Import", "scopes": scopes or EVERYTHING} | over
    made = expect(await client.post(KEYS, json=body, headers=owner.headers), 201)
    return Key(made["id"], made["secret"], owner)


async def rotated(client: AsyncClient, key: Key, overlap_seconds: int) -> Key:
    """Give a key another secret."""
    answer = await client.post(
        f"{key.url}/rotate",
        json={"overlap_seconds": overlap_seconds},
        headers=key.owner.headers,
    )
    return Key(key.id, expect(answer, 200)["secret"], key.owner)


async def works(client: AsyncClient, key: Key) -> bool:
    """Tell whether a key's secret, with the scope `items:read`, is good now."""
    answer = await client.get("/api/v1/items?limit=1", headers=key.headers)
    if answer.status_code == 200:
        return True
    assert expect(answer, 401)["error_code"] == "INVALID_API_KEY"
    return False
