"""Traces: what a collector gets of a request and of what it causes, and what it never gets."""

import asyncio
import io
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.main import _log_context
from app.observability.logging import JsonLines
from tests import receivers
from tests.api.hooks import hooked
from tests.api.imports import NDJSON, ndjson
from tests.backends import ROOT, Place
from tests.conftest import MakeApp, MakeClient, MakeSettings
from tests.factories import create_item, new_user, register
from tests.live_server import running
from tests.otlp_receiver import Receiver, Span, receiving
from tests.patience import PATIENCE

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A collector; asked for before the app, which sends it the rest at its end."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
async def traced(receiver: Receiver, clean_database: Place, make_app: MakeApp) -> FastAPI:
    """A traced service by itself: another one on its database would send its webhooks."""
    return await make_app(otlp_endpoint=receiver.url, trace_sample_ratio=1.0)


@pytest.fixture
def traced_client(traced: FastAPI, make_client: MakeClient) -> httpx.AsyncClient:
    return make_client(traced)


def parent() -> tuple[str, dict[str, str]]:
    """Return the id of a new trace, and the header that begins it."""
    trace_id = secrets.token_hex(16)
    return trace_id, {"traceparent": f"00-{trace_id}-{PARENT_ID}-01"}


async def trace_of(app: FastAPI, receiver: Receiver, trace_id: str, *names: str) -> list[Span]:
    """Send what is there, and return a trace once it has these spans."""
    await asyncio.to_thread(app.state.resources.tracing.provider.force_flush)
    return await asyncio.to_thread(receiver.trace, trace_id, *names)


async def test_a_request_goes_on_with_its_callers_trace(
    traced: FastAPI, traced_client: httpx.AsyncClient, receiver: Receiver
) -> None:
    user = await new_user(traced_client)
    item = await create_item(traced_client, user)
    trace_id, headers = parent()
    url = f"/api/v1/items/{item['id']}"
    assert (await traced_client.get(url, headers=user.headers | headers)).status_code == 200

    name = "GET /api/v1/items/{item_id}"
    spans = await trace_of(traced, receiver, trace_id, name)
    server = next(each for each in spans if each.name == name)
    assert server.parent_id == PARENT_ID
    assert server.attributes["http.route"] == "/api/v1/items/{item_id}"
    assert server.attributes["http.response.status_code"] == 200
    statements = [each for each in spans if "db.operation.name" in each.attributes]
    assert "SELECT items" in {each.name for each in statements}
    assert {each.parent_id for each in statements} == {server.span_id}


@pytest.mark.only("production")
async def test_redis_is_part_of_the_trace(
    receiver: Receiver, make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(
        otlp_endpoint=receiver.url, trace_sample_ratio=1.0, rate_limits_enabled=True
    )
    trace_id, headers = parent()
    await make_client(app).get("/api/v1/items", headers=headers)
    spans = await trace_of(app, receiver, trace_id, "GET /api/v1/items")
    assert [each for each in spans if each.attributes.get("db.system.name") == "redis"]


async def test_a_write_shows_its_statements_too(
    traced: FastAPI, traced_client: httpx.AsyncClient, receiver: Receiver
) -> None:
    user = await new_user(traced_client)
    trace_id, headers = parent()
    body = {"name": "Lamp", "price": "12.00"}
    await traced_client.post("/api/v1/items", json=body, headers=user.headers | headers)
    spans = await trace_of(traced, receiver, trace_id, "POST /api/v1/items")
    assert "INSERT items" in {each.name for each in spans}


@pytest.mark.only("production")
async def test_a_job_goes_on_with_the_trace_of_its_request(
    traced: FastAPI, traced_client: httpx.AsyncClient, receiver: Receiver
) -> None:
    trace_id, headers = parent()
    body = {
        "email": f"{trace_id}@example.com",
        "username": f"u{trace_id[:20]}",
        "password": "violet-anchor-74-meadow",
        "confirm_password": "violet-anchor-74-meadow",
    }
    answer = await traced_client.post("/api/v1/auth/register", json=body, headers=headers)
    assert answer.status_code == 201
    async with asyncio.timeout(PATIENCE):
        while not [each for each in receiver.spans if each.name.startswith("job ")]:
            await asyncio.to_thread(traced.state.resources.tracing.provider.force_flush)
            await asyncio.sleep(0.02)
    spans = await trace_of(traced, receiver, trace_id, "POST /api/v1/auth/register")
    server = next(each for each in spans if each.name == "POST /api/v1/auth/register")
    job = next(each for each in spans if each.name.startswith("job "))
    assert job.parent_id == server.span_id
    assert [each for each in spans if each.parent_id == job.span_id], "its own statements"


@pytest.mark.only("production")
async def test_a_webhook_lets_its_receiver_go_on_with_the_trace(
    traced: FastAPI, traced_client: httpx.AsyncClient, receiver: Receiver
) -> None:
    user = await new_user(traced_client)
    async with (
        receivers.receiving() as endpoint,
        hooked(traced_client, user, endpoint, "item.created") as hook,
    ):
        await create_item(traced_client, user)
        (got,) = await receivers.until(lambda: endpoint.got)
        assert got.verified_by(hook.secret)
        await hook.settled("succeeded")
    version, trace_id, span_id, flags = got.headers["traceparent"].split("-")
    assert (version, int(flags, 16) & 1) == ("00", 1)
    spans = await trace_of(traced, receiver, trace_id, "webhook POST")
    assert [each.name for each in spans if each.span_id == span_id] == ["webhook POST"]


def named(spans: Sequence[Span], name: str) -> Span:
    """Return the one span of a name."""
    (found,) = (each for each in spans if each.name == name)
    return found


@pytest.mark.parametrize("has_key", [False, True], ids=["one-statement", "transaction"])
async def test_one_trace_leads_from_a_write_to_its_event_and_its_webhook(
    traced: FastAPI, traced_client: httpx.AsyncClient, receiver: Receiver, has_key: bool
) -> None:
    user = await new_user(traced_client)
    trace_id, headers = parent()
    if has_key:
        headers["Idempotency-Key"] = trace_id
    async with (
        receivers.receiving() as endpoint,
        hooked(traced_client, user, endpoint, "item.created") as hook,
    ):
        body = {"name": "Lamp", "price": "12.00"}
        await traced_client.post("/api/v1/items", json=body, headers=user.headers | headers)
        (got,) = await receivers.until(lambda: endpoint.got)
        await hook.settled("succeeded")
    wanted = ("POST /api/v1/items", "INSERT items", "events deliver", "webhook POST")
    spans = await trace_of(traced, receiver, trace_id, *wanted)
    server = named(spans, "POST /api/v1/items")
    assert server.parent_id == PARENT_ID
    assert {named(spans, name).parent_id for name in wanted[1:]} == {server.span_id}
    assert got.headers["traceparent"] == f"00-{trace_id}-{named(spans, 'webhook POST').span_id}-01"


async def test_one_trace_leads_from_a_request_over_its_job_to_the_webhook_of_it(
    traced: FastAPI, traced_client: httpx.AsyncClient, receiver: Receiver
) -> None:
    user = await new_user(traced_client)
    trace_id, headers = parent()
    async with (
        receivers.receiving() as endpoint,
        hooked(traced_client, user, endpoint, "item.created") as hook,
    ):
        client_headers = user.headers | headers | {"Content-Type": NDJSON}
        answer = await traced_client.post(
            "/api/v1/items/import",
            content=ndjson({"name": "Lamp", "price": "12.00"}),
            headers=client_headers,
        )
        assert answer.status_code == 202
        (got,) = await receivers.until(lambda: endpoint.got)
        await hook.settled("succeeded")
    wanted = ("POST /api/v1/items/import", "job items.import", "events deliver", "webhook POST")
    spans = await trace_of(traced, receiver, trace_id, *wanted)
    job = named(spans, "job items.import")
    assert job.parent_id == named(spans, "POST /api/v1/items/import").span_id
    assert {each.parent_id for each in spans if each.name == "events deliver"} == {job.span_id}
    assert named(spans, "webhook POST").parent_id == job.span_id
    assert got.headers["traceparent"].split("-")[1] == trace_id


async def test_an_export_shows_its_snapshot_and_what_is_read_in_it(
    traced: FastAPI, traced_client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await create_item(traced_client, await new_user(traced_client))
    trace_id, headers = parent()
    answer = await traced_client.get("/api/v1/items/export", headers=headers)
    assert answer.status_code == 200
    spans = await trace_of(traced, receiver, trace_id, "GET /api/v1/items/export", "snapshot")
    server = named(spans, "GET /api/v1/items/export")
    assert named(spans, "snapshot").parent_id == server.span_id
    assert named(spans, "SELECT items").parent_id == server.span_id


async def test_without_a_collector_an_event_keeps_no_trace(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    item = await create_item(client, await new_user(client))
    async with app.state.resources.db.read() as connection:
        statement = text(
            "SELECT traceparent FROM events WHERE subject_id = :id AND kind = 'item.created'"
        )
        found = (await connection.execute(statement, {"id": item["id"]})).scalars().all()
    assert found == [None]


@pytest.mark.only("production")
async def test_no_value_and_no_secret_leaves_the_house(
    traced: FastAPI, traced_client: httpx.AsyncClient, receiver: Receiver
) -> None:
    account = await register(traced_client, password="canary-password-7-lake")
    form = {"username": account.username, "password": "canary-wrong-8-lake"}
    await traced_client.post("/api/v1/auth/token", data=form)
    trace_id, headers = parent()
    await traced_client.get("/api/v1/items?q=canary-query&ticket=canary-ticket", headers=headers)
    await trace_of(traced, receiver, trace_id, "GET /api/v1/items")
    everything = b"".join(receiver.bodies)
    assert b"canary" not in everything
    assert account.email.encode() not in everything
    assert account.username.encode() not in everything
    assert b"GET /api/v1/items" in everything


@pytest.mark.only("production")
async def test_an_event_is_delivered_in_a_span_and_polling_in_none(
    traced: FastAPI, traced_client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await create_item(traced_client, await new_user(traced_client))
    async with asyncio.timeout(PATIENCE):
        while "events deliver" not in {each.name for each in receiver.spans}:
            await asyncio.to_thread(traced.state.resources.tracing.provider.force_flush)
            await asyncio.sleep(0.02)
    roots = {each.name for each in receiver.spans if not each.parent_id}
    assert not [name for name in roots if name.startswith(("SELECT", "redis"))]


@pytest.mark.only("embedded")
async def test_probes_and_scrapes_are_not_traced(
    traced: FastAPI, traced_client: httpx.AsyncClient, receiver: Receiver
) -> None:
    for path in ("/health/ready", "/metrics"):
        await traced_client.get(path)
    trace_id, headers = parent()
    await traced_client.get("/api/v1/items", headers=headers)
    await trace_of(traced, receiver, trace_id, "GET /api/v1/items")
    assert not [each for each in receiver.spans if "health" in each.name or "metrics" in each.name]


@pytest.mark.only("production")
async def test_a_log_line_has_the_id_of_its_trace(traced_client: httpx.AsyncClient) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(_log_context))
    logger = logging.getLogger("kingpost.access")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        trace_id, headers = parent()
        await traced_client.get("/api/v1/items", headers=headers)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    lines: list[dict[str, Any]] = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["trace_id"] for line in lines] == [trace_id]


@pytest.mark.only("embedded")
async def test_a_client_cannot_have_itself_sampled(
    receiver: Receiver, make_app: MakeApp, make_client: MakeClient
) -> None:
    app = await make_app(otlp_endpoint=receiver.url, trace_sample_ratio=0.0)
    for _ in range(20):
        await make_client(app).get("/api/v1/items", headers=parent()[1])
    await asyncio.to_thread(app.state.resources.tracing.provider.force_flush)
    assert receiver.spans == []


@pytest.mark.only("embedded")
async def test_the_end_of_a_process_sends_what_is_left(
    make_settings: MakeSettings, make_client: MakeClient, receiver: Receiver
) -> None:
    from app.main import create_app

    trace_id, headers = parent()
    settings = make_settings(otlp_endpoint=receiver.url, trace_sample_ratio=1)
    async with running(create_app(settings)) as app:
        await make_client(app).get("/api/v1/items", headers=headers)
    assert "GET /api/v1/items" in {
        each.name for each in receiver.spans if each.trace_id == trace_id
    }


# What one process does: serves some requests, ends, and tells when and with what loaded.
PROGRAM = """
import asyncio, sys, time
import httpx
from app.main import create_app
from app.settings import Settings

async def main():
    app = create_app(Settings(_env_file=None, log_level="error"))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            for _ in range(20):
                assert (await client.get("/api/v1/items")).status_code == 200
        print(time.time())

asyncio.run(main())
heavy = ("opentelemetry.sdk", "opentelemetry.exporter")  # the API comes with FastAPI
print(len([each for each in sys.modules if each.startswith(heavy)]))
"""


def run_alone(folder: Path, **variables: str) -> tuple[float, int]:
    """Run the program; return how long its end took, and how much of OpenTelemetry it loaded."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.defpath, "DATA_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    moment, loaded = done.stdout.split()[-2:]
    return time.time() - float(moment), int(loaded)


@pytest.mark.only("embedded")
def test_without_a_collector_nothing_of_it_is_loaded(clean_database: Place) -> None:
    assert run_alone(clean_database.data_dir)[1] == 0


@pytest.mark.only("embedded")
def test_a_frozen_collector_delays_neither_answers_nor_the_end(clean_database: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # takes connections, and says nothing
        url = f"http://127.0.0.1:{frozen.getsockname()[1]}"
        seconds, loaded = run_alone(
            clean_database.data_dir, OTLP_ENDPOINT=url, TRACE_SAMPLE_RATIO="1"
        )
        frozen.settimeout(1)
        frozen.accept()[0].close()  # it was tried
    assert loaded
    assert seconds < 30  # by itself it would try again for a minute
