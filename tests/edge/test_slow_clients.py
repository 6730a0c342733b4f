"""slowhttptest against the edge: whoever dawdles is out within seconds, and nobody else notices."""

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.edge.conftest import Edge
from tests.factories import create_item, new_user

pytestmark = [pytest.mark.system, pytest.mark.only("production")]

CONNECTIONS = 150  # below the 200 that one address may have
SECONDS = 40  # it ends by itself when all are out
ATTACKS = {
    "slow headers": ["-H", "-i", "3", "-x", "24"],
    "slow body": ["-B", "-i", "10", "-s", "8192", "-x", "10"],
    # Ten answers of 200 KB asked for at once, more than the kernel takes in for anybody, and read a
    # few bytes at a time.
    "slow read": ["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "10"],
}


_OPEN = ("01", "08")  # established, and closed by the client alone


@pytest.fixture
def program() -> str:
    found = shutil.which("slowhttptest")
    if found is None:
        pytest.skip("slowhttptest is missing (Debian: apt-get install slowhttptest)")
    return found


def held_by(port: int) -> set[str]:
    """Return the far ends of the connections that are open on a port, as the kernel writes them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[2] for row in rows if row[1].endswith(f":{port:04X}") and row[3] in _OPEN}


async def attack(program: str, options: list[str], url: str) -> None:
    """Run an attack to its end."""
    load = ["-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-l", str(SECONDS), "-u", url]
    process = await asyncio.create_subprocess_exec(
        *(program, *options, *load), stdout=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(SECONDS + 40):
        await process.wait()


@pytest.mark.parametrize("kind", ATTACKS)
async def test_slow_clients_are_out_within_seconds_and_harm_nobody(
    edge: Edge, program: str, kind: str
) -> None:
    statuses: list[int] = []
    slowest = 0.0
    first_seen: dict[str, float] = {}
    last_seen: dict[str, float] = {}
    async with edge.client() as client:
        tokens = await new_user(client)
        for _ in range(100):
            await create_item(client, tokens, description=os.urandom(900).hex())
        ours = held_by(edge.port)
        url = f"{edge.url}/api/v1/items?limit=100"
        attacking = asyncio.create_task(attack(program, ATTACKS[kind], url))
        while not attacking.done():
            asked = time.monotonic()
            statuses.append((await client.get("/api/v1/items?limit=1")).status_code)
            slowest = max(slowest, time.monotonic() - asked)
            for each in held_by(edge.port) - ours:
                first_seen.setdefault(each, asked)
                last_seen[each] = asked
            await asyncio.sleep(0.1)
    await attacking
    held = sorted(last_seen[each] - first_seen[each] for each in first_seen)
    assert len(held) >= CONNECTIONS
    assert held[len(held) // 2] > 1  # they did try
    assert held[-1] < 20  # promised: 10, of a machine at rest
    assert set(statuses) == {200}
    assert slowest < 5
