"""Is it alive, is it ready: for the orchestrator, and in one summary for people."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.dependencies.resources import CurrentResources
from app.errors import DomainError
from app.repositories.schema import is_current
from app.resources import Resources
from app.version import VERSION

router = APIRouter(prefix="/health", tags=["health"])

_DEADLINE = 2.0  # seconds for each check; the orchestrator's own timeout is longer
_STORAGE_DEADLINE = 1.5  # shorter: without it the service is still ready


class Alive(BaseModel):
    """The event loop turns."""

    status: Literal["alive"] = "alive"


class Check(BaseModel):
    """What one check found."""

    status: Literal["ok", "degraded", "failed"]
    detail: str | None = None
    duration_ms: float = 0.0


class Readiness(BaseModel):
    """Whether requests should be sent here."""

    status: Literal["ok", "degraded", "unavailable", "draining"]
    uptime_seconds: float = Field(examples=[12.5])
    checks: dict[str, Check]


class Summary(Readiness):
    """Both in one, for people."""

    version: str


_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": Readiness, "description": "Not ready, or draining"}
}


@router.get("/live", response_model=Alive, summary="Liveness")
async def live() -> Alive:
    """Answer as long as the event loop turns; asks nothing outside the process."""
    return Alive()


@router.get(
    "/ready",
    response_model=Readiness,
    summary="Readiness",
    responses=_NOT_READY,
)
async def ready(response: Response, resources: CurrentResources) -> Readiness:
    """Answer 200 where requests are welcome, else 503; without Redis it is degraded, yet ready."""
    readiness = await check(resources)
    if readiness.status in ("unavailable", "draining"):
        response.status_code = 503
    return readiness


@router.get("", response_model=Summary, summary="Health", responses=_NOT_READY)
async def health(response: Response, resources: CurrentResources) -> Summary:
    """Say how the service is, in one summary for people."""
    readiness = await ready(response, resources)
    return Summary(**dict(readiness), version=VERSION)


async def check(resources: Resources) -> Readiness:
    """Run every check at once, each with a deadline."""
    checks = {
        "database": _database,
        "migrations": _migrations,
        "redis": _redis,
        "events": _events,
        "storage": _storage,
    }
    results = await asyncio.gather(*(_timed(run, resources) for run in checks.values()))
    found = dict(zip(checks, results, strict=True))
    states = {result.status for result in results}
    status: Literal["ok", "degraded", "unavailable", "draining"]
    if resources.is_draining:
        status = "draining"
    elif "failed" in states:
        status = "unavailable"
    else:
        status = "degraded" if "degraded" in states else "ok"
    return Readiness(status=status, uptime_seconds=round(resources.uptime(), 1), checks=found)


async def _timed(run: Callable[[Resources], Awaitable[Check]], resources: Resources) -> Check:
    started = time.monotonic()
    try:
        async with asyncio.timeout(_DEADLINE):
            result = await run(resources)
    except TimeoutError:
        result = Check(status="failed", detail="no answer within the deadline")
    except DomainError as error:
        result = Check(status="failed", detail=error.title)
    return result.model_copy(update={"duration_ms": round((time.monotonic() - started) * 1000, 1)})


async def _database(resources: Resources) -> Check:
    await resources.db.ping()
    return Check(status="ok", detail="PostgreSQL" if resources.db.is_postgres else "SQLite")


async def _migrations(resources: Resources) -> Check:
    async with resources.db.read() as connection:
        current = await is_current(connection)
    return Check(status="ok") if current else Check(status="failed", detail="run kingpost migrate")


async def _redis(resources: Resources) -> Check:
    if resources.redis is None:
        return Check(status="ok", detail="embedded: not configured")
    if await resources.redis.is_alive():
        return Check(status="ok")
    return Check(status="degraded", detail="away; working without it")


async def _events(resources: Resources) -> Check:
    if resources.tail.is_fresh():
        return Check(status="ok")
    return Check(status="degraded", detail="live events lag behind")


async def _storage(resources: Resources) -> Check:
    try:
        async with asyncio.timeout(_STORAGE_DEADLINE):
            await resources.files.storage.check()
    except (DomainError, TimeoutError):
        return Check(status="degraded", detail="away; files are unavailable, all else works")
    return Check(status="ok", detail="S3" if resources.settings.s3_bucket else "local disk")
