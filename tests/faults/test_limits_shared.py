"""Five times the limit over four real workers: the limit is admitted, whatever clients claim."""

import asyncio

import httpx
import pytest

from tests.conftest import MakeSettings
from tests.factories import register, sign_in
from tests.faults.conftest import producing

pytestmark = [
    pytest.mark.system,
    pytest.mark.only("production"),
    pytest.mark.usefixtures("clean_database"),
]

LIMIT, TIMES = 100, 5
PROXY = "10.9.9.9"  # nobody is that


async def test_over_four_workers_the_limit_is_exact_and_unforgeable(
    make_settings: MakeSettings,
) -> None:
    async with producing(
        make_settings(),
        workers=4,
        RATE_LIMITS_ENABLED="true",
        RATE_LIMIT_DEFAULT=f"{LIMIT}/hour",
        TRUSTED_PROXIES=PROXY,
        REDIS_TIMEOUT="5",  # of a busy machine
    ) as production:
        limits = httpx.Limits(max_connections=40, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=production.url, timeout=60, limits=limits) as client:
            account = await register(client)
            tokens = [await sign_in(client, account) for _ in range(TIMES)]

            async def ask(number: int, headers: dict[str, str]) -> int:
                claimed = {
                    "X-Forwarded-For": f"10.0.{number % 7}.{number % 251}",
                    "Forwarded": f"for=10.1.0.{number % 251}",
                    "X-Real-IP": f"10.2.0.{number % 251}",
                    "User-Agent": f"client {number}",
                }
                version = 1 + number % 2
                path = f"/api/v{version}/items?limit={1 + number % 100}"
                return (await client.get(path, headers=claimed | headers)).status_code

            # Of one person with many tokens, and of one address without.
            signed_in = [each.headers for each in tokens]
            nobody: list[dict[str, str]] = [{}]
            for callers in (signed_in, nobody):
                statuses = await asyncio.gather(
                    *(ask(n, callers[n % len(callers)]) for n in range(TIMES * LIMIT))
                )
                assert set(statuses) <= {200, 429, 503}  # a busy machine may have no connection
                served, allowed = statuses.count(200), LIMIT - spent(callers)
                # Who found no connection was told so before being counted, or after.
                assert served <= allowed <= served + statuses.count(503)


def spent(callers: list[dict[str, str]]) -> int:
    """Return how many requests of theirs came before."""
    return 0 if callers[0] else 1 + TIMES  # registering and signing in, by address
