"""A real Prometheus that watches servers of the tests."""

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.services import free_port


class Prometheus:
    """Its HTTP API."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def query(self, expression: str) -> list[float]:
        """Return the values that an expression has now."""
        answer = await self._client.get("/api/v1/query", params={"query": expression})
        body = answer.json()
        assert body["status"] == "success", (expression, body)
        return [float(each["value"][1]) for each in body["data"]["result"]]

    async def firing(self) -> list[dict[str, str]]:
        """Return the labels of the alerts that fire."""
        alerts = (await self._client.get("/api/v1/alerts")).json()["data"]["alerts"]
        return [each["labels"] for each in alerts if each["state"] == "firing"]


@asynccontextmanager
async def watching(port: int, rules: str) -> AsyncIterator[Prometheus]:
    """Run Prometheus on a service of this machine; it looks every half second."""
    program = shutil.which("prometheus")
    assert program, "this test needs Prometheus (Debian: apt-get install prometheus)"
    own_port = free_port()
    with tempfile.TemporaryDirectory(prefix="kingpost-prometheus-") as name:
        folder = Path(name)
        target = {"targets": [f"127.0.0.1:{port}"]}
        config: dict[str, Any] = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "kingpost-api", "static_configs": [target]}],
        }
        (folder / "rules.yml").write_text(rules, encoding="utf-8")
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        process = await asyncio.to_thread(
            subprocess.Popen,
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{own_port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{own_port}"
            async with httpx.AsyncClient(base_url=url, timeout=10) as client:
                await until(lambda: _is_ready(client), seconds=30)
                yield Prometheus(client)
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, 30)


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/-/ready")).is_success
    except httpx.TransportError:
        return False


async def until(condition: Callable[[], Any], *, seconds: float) -> None:
    """Wait until an asynchronous condition holds.

    Raises:
        TimeoutError: it never did.
    """
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.2)
