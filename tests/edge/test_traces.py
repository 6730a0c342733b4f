"""One trace from the edge to the webhook: nginx, the service, its worker, and a real collector."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import receivers
from tests.api.hooks import hooked
from tests.api.imports import NDJSON, ndjson
from tests.api.test_production_start import environment
from tests.conftest import MakeSettings
from tests.edge.conftest import configured, start
from tests.factories import expect, new_user
from tests.faults.test_jobs import worker
from tests.otlp_receiver import Receiver, Span, receiving
from tests.processes import gunicorn
from tests.services import free_port

pytestmark = [
    pytest.mark.system,
    pytest.mark.only("production"),
    pytest.mark.usefixtures("clean_database"),
]


@dataclass
class TracedEdge:
    """nginx before a service and a worker of it, whose traces a collector gets."""

    url: str
    log: Path
    collector: Receiver

    async def logged(self, path: str) -> dict[str, Any]:
        """Return nginx's line of the one request for a path."""

        def lines() -> list[dict[str, Any]]:
            entries = [json.loads(line) for line in self.log.read_text().splitlines()]
            return [entry for entry in entries if entry["path"] == path]

        (entry,) = await receivers.until(lines)
        logged: dict[str, Any] = entry
        return logged

    async def trace(self, trace_id: str, *names: str) -> list[Span]:
        """Return a trace once it has spans of these names."""
        return await asyncio.to_thread(self.collector.trace, trace_id, *names)


@pytest.fixture
async def traced_edge(make_settings: MakeSettings, tmp_path: Path) -> AsyncIterator[TracedEdge]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "these tests need nginx (Debian: apt-get install nginx-light)"
    port, settings = free_port(), make_settings()
    with receiving() as collector:
        variables = environment(settings) | {
            "OTLP_ENDPOINT": collector.url,
            "TRACE_SAMPLE_RATIO": "1",
            "WEBHOOKS_ALLOW_PRIVATE": "true",
            "WEBHOOKS_ALLOW_HTTP": "true",
        }
        async with AsyncExitStack() as stack:
            service = stack.enter_context(gunicorn("traced", "app.main:app", variables))
            stack.enter_context(worker(settings, **variables))
            process = start(program, configured(tmp_path, [service], port, free_port()))
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            yield TracedEdge(f"https://127.0.0.1:{port}", tmp_path / "access.log", collector)


async def test_one_trace_leads_from_nginx_to_the_webhook_of_a_job(traced_edge: TracedEdge) -> None:
    forged = "0" * 31 + "1"  # its sender chose it, so that it is always sampled
    claimed = {"traceparent": f"00-{forged}-00f067aa0ba902b7-01", "Content-Type": NDJSON}
    async with (
        httpx.AsyncClient(
            base_url=traced_edge.url,
            transport=httpx.AsyncHTTPTransport(verify=False, retries=5),
            timeout=20,
        ) as client,
        receivers.receiving() as endpoint,
    ):
        user = await new_user(client)
        async with hooked(client, user, endpoint, "item.created") as hook:
            content = ndjson({"name": "Lamp", "price": "12.00"})
            path = "/api/v1/items/import"
            answer = await client.post(path, content=content, headers=user.headers | claimed)
            expect(answer, 202)
            (got,) = await receivers.until(lambda: endpoint.got)
            await hook.settled("succeeded")
    trace_id = (await traced_edge.logged(path))["trace_id"]
    assert got.headers["traceparent"].split("-")[1] == trace_id

    wanted = (f"POST {path}", "INSERT jobs", "job items.import", "events deliver", "webhook POST")
    spans = await traced_edge.trace(trace_id, *wanted)
    by_name = {each.name: each for each in spans}
    server, job = by_name[f"POST {path}"], by_name["job items.import"]
    assert by_name["INSERT jobs"].parent_id == server.span_id
    assert job.parent_id == server.span_id
    assert by_name["events deliver"].parent_id == job.span_id
    assert by_name["webhook POST"].parent_id == job.span_id
    assert [each for each in spans if each.name.startswith("redis")]
    assert forged not in {each.trace_id for each in traced_edge.collector.spans}
