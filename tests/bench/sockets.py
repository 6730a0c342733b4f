"""What idle WebSockets cost."""

import asyncio
import json
import urllib.parse
import urllib.request

from websockets.asyncio.client import ClientConnection, connect

from app.services.seeding import PASSWORD
from tests.processes import Service

_SOCKETS = 800
_USERS = 40  # a user has a limit of its own


def idle_memory(service: Service) -> float:
    """Return what one signed-in, subscribed and then idle WebSocket takes, in KiB."""
    return asyncio.run(_idle_memory(service))


async def _idle_memory(service: Service) -> float:
    tokens = [sign_in(service, number) for number in range(1, _USERS + 1)]
    warm_up = [await _open(service, tokens[0]) for _ in range(20)]
    before = sum(service.memory())
    opened = [await _open(service, tokens[number % _USERS]) for number in range(_SOCKETS)]
    after = sum(service.memory())
    for each in [*warm_up, *opened]:
        each.transport.abort()
    return (after - before) * 1024 / _SOCKETS


async def _open(service: Service, token: str) -> ClientConnection:
    live = await connect(
        f"ws://127.0.0.1:{service.port}/ws",
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        ping_interval=None,
    )
    await live.recv()
    await live.send(json.dumps({"action": "subscribe", "channel": "items"}))
    await live.recv()
    return live


def sign_in(service: Service, number: int) -> str:
    """Return an access token of a seeded account."""
    form = urllib.parse.urlencode({"username": f"seed{number}", "password": PASSWORD}).encode()
    url = f"http://127.0.0.1:{service.port}/api/v1/auth/token"
    with urllib.request.urlopen(url, form) as answer:
        return str(json.load(answer)["access_token"])
