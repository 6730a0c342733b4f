"""What the service talks to: is it there, is it new enough, is it set up for us."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

from app.adapters.database import Database
from app.adapters.sentinel import NoPrimary, open_pool
from app.clock import now
from app.cpus import usable_cpus
from app.doctor.finding import Finding, ok, warning, wrong
from app.errors import DatabaseUnavailable
from app.repositories.jobs import JobRepository
from app.repositories.schema import current_revision, is_served, known_revisions
from app.repositories.server import ServerFacts, server_facts
from app.repositories.users import UserRepository
from app.security.principal import Role
from app.settings import MailTls, Settings

_DEADLINE = 5.0  # seconds, for each of them
_OLDEST_POSTGRES = 13
_OLDEST_REDIS = (6, 2)
_WORST_SKEW = timedelta(seconds=2)
_LONGEST_WAIT = timedelta(minutes=1)
_SPARE_CONNECTIONS = 5  # a migration, a worker, a person with psql
WORKER_KEY = "kingpost:jobs:health"


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Yield what is sound and what is not, one after the other."""
    async for finding in _database(settings):
        yield finding
    if settings.redis_url is not None:
        async for finding in _redis(settings, settings.redis_url.get_secret_value()):
            yield finding
    if settings.smtp_host:
        yield await _smtp(settings.smtp_host, settings)
    if settings.otlp_endpoint:
        yield await _collector(settings.otlp_endpoint)


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.is_postgres and not (settings.data_dir / "kingpost.db").exists():
        yield wrong("database", "SQLite, and nothing is there yet", "run kingpost migrate")
        return
    db = Database(settings)
    try:
        async with asyncio.timeout(_DEADLINE):
            await db.ping()
    except (DatabaseUnavailable, TimeoutError) as error:
        cause = error.__cause__ or error
        why = getattr(cause, "orig", None) or cause.__cause__ or cause
        yield wrong(
            "database",
            f"no answer ({type(why).__name__})",
            "start it, or correct DATABASE_URL: host, port, name, user, password, firewall",
        )
    else:
        yield ok("database", "PostgreSQL answers" if db.is_postgres else "SQLite")
        if db.is_postgres:
            async for finding in _postgres(db, settings):
                yield finding
        async for finding in _schema(db, settings):
            yield finding
    finally:
        await db.close()


async def _postgres(db: Database, settings: Settings) -> AsyncIterator[Finding]:
    async with db.read() as connection:
        before = now()
        facts = await server_facts(connection)
        moment = before + (now() - before) / 2
    yield judge_version(facts)
    yield judge_clock(moment, facts.clock)
    yield judge_connections(settings, facts.connections)
    if facts.is_standby:
        yield wrong(
            "database role",
            "a standby, which takes no writes",
            "let DATABASE_URL name the primary, for instance with ?target_session_attrs=primary",
        )
    if facts.encoding != "UTF8":
        yield wrong(
            "database encoding",
            f"{facts.encoding} cannot hold every name",
            "make the database anew with ENCODING 'UTF8'",
        )


def judge_version(facts: ServerFacts) -> Finding:
    """Judge PostgreSQL's version."""
    version = f"{facts.version // 10_000}.{facts.version % 10_000}"
    if facts.version < _OLDEST_POSTGRES * 10_000:
        return wrong(
            "database version",
            f"PostgreSQL {version} is too old",
            f"upgrade to {_OLDEST_POSTGRES} or newer",
        )
    return ok("database version", f"PostgreSQL {version}")


def judge_clock(ours: datetime, theirs: datetime) -> Finding:
    """Judge this machine's clock by the database's."""
    skew = ours - theirs.astimezone(UTC)
    said = f"{skew.total_seconds():+.1f} s against the database's"
    if abs(skew) > _WORST_SKEW:
        return wrong("clock", said, "let both machines take their time from NTP")
    return ok("clock", said)


def judge_connections(settings: Settings, available: int) -> Finding:
    """Judge whether what this instance may open fits into what PostgreSQL admits."""
    workers = settings.web_concurrency or (usable_cpus() if settings.redis_url else 1)
    wanted = workers * settings.database_pool_size
    said = (
        f"{workers} workers x DATABASE_POOL_SIZE {settings.database_pool_size} = {wanted} "
        f"for each instance, of {available} that PostgreSQL admits"
    )
    mend = "lower DATABASE_POOL_SIZE or WEB_CONCURRENCY, raise max_connections, or use PgBouncer"
    if settings.database_pgbouncer:
        return ok("connections", f"{wanted} for each instance, to PgBouncer")
    if wanted + _SPARE_CONNECTIONS > available:
        return wrong("connections", said, mend)
    if 2 * wanted + _SPARE_CONNECTIONS > available:
        return warning("connections", f"{said}: a second instance would not fit", mend)
    return ok("connections", said)


async def _schema(db: Database, settings: Settings) -> AsyncIterator[Finding]:
    async with db.read() as connection:
        current = await current_revision(connection)
    newest = known_revisions()[0]
    if not is_served(current):
        yield wrong(
            "migrations",
            f"the database is at {current or 'none'}, this code at {newest}",
            "run kingpost migrate",
        )
        return
    yield ok("migrations", f"at {current}")
    async with db.read() as connection:
        admins = await UserRepository(connection).count(role=Role.ADMIN, is_active=None, q=None)
        backlog = await JobRepository(connection).backlog()
    if not admins:
        yield warning("admins", "there is no admin", "run kingpost create-admin")
    if backlog.oldest is not None and now() - backlog.oldest > _LONGEST_WAIT:
        minutes = (now() - backlog.oldest).total_seconds() / 60
        yield wrong(
            "jobs",
            f"{backlog.waiting} jobs wait, the oldest for {minutes:.0f} minutes",
            "run kingpost worker, or more of them"
            if not settings.runs_jobs_inline
            else "start the service, or raise JOB_CONCURRENCY",
        )


async def _redis(settings: Settings, url: str) -> AsyncIterator[Finding]:
    pool = open_pool(
        ConnectionPool,
        url,
        socket_timeout=_DEADLINE,
        socket_connect_timeout=_DEADLINE,
        decode_responses=True,
    )
    redis: Redis = Redis.from_pool(pool)
    try:
        started = time.monotonic()
        facts: dict[str, Any] = await redis.info()
        took = time.monotonic() - started
        has_worker = bool(await redis.exists(WORKER_KEY))
    except (RedisError, OSError) as error:
        yield _redis_away(error)
        return
    finally:
        await redis.aclose()
    yield _redis_speed(settings, took)
    yield judge_redis_version(str(facts["redis_version"]))
    yield judge_redis_memory(int(facts.get("maxmemory", 0)), str(facts.get("maxmemory_policy", "")))
    if not settings.runs_jobs_inline:
        yield (
            ok("worker", "one is alive")
            if has_worker
            else wrong(
                "worker",
                "jobs are left to kingpost worker, and none is alive",
                "run kingpost worker, or set RUN_JOBS=inline",
            )
        )


def _redis_away(error: Exception) -> Finding:
    if isinstance(error.__cause__, NoPrimary):
        return wrong(
            "redis",
            str(error.__cause__),
            "start them, or correct REDIS_URL: the sentinels' addresses and password, and the name "
            "that `sentinel monitor` gives the service",
        )
    return wrong(
        "redis",
        f"no answer ({type(error).__name__})",
        "start it, or correct REDIS_URL: host, port, password, firewall",
    )


def _redis_speed(settings: Settings, took: float) -> Finding:
    if took > settings.redis_timeout:
        return warning(
            "redis",
            f"answered after {took * 1000:.0f} ms, with the sign-in; REDIS_TIMEOUT gives it "
            f"{settings.redis_timeout * 1000:.0f}",
            "move it closer, or raise REDIS_TIMEOUT",
        )
    return ok("redis", f"answered within {took * 1000:.0f} ms")


def judge_redis_version(version: str) -> Finding:
    """Judge Redis' version."""
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers < _OLDEST_REDIS:
        return wrong("redis version", f"Redis {version} is too old", "upgrade to 6.2 or newer")
    return ok("redis version", f"Redis {version}")


def judge_redis_memory(limit: int, policy: str) -> Finding:
    """Judge what Redis does when it is full; everything in it may be lost, so it may forget."""
    if not limit:
        return warning(
            "redis memory",
            "no limit: it grows until the machine has none left",
            "set maxmemory, and maxmemory-policy allkeys-lru",
        )
    if not policy.startswith("allkeys-"):
        return warning(
            "redis memory",
            f"maxmemory-policy is {policy}: a full Redis refuses to write",
            "set maxmemory-policy allkeys-lru; nothing of ours in it has to last",
        )
    return ok("redis memory", f"{limit // (1024 * 1024)} MB, {policy}")


async def _smtp(host: str, settings: Settings) -> Finding:
    port, is_tls = settings.smtp_port, settings.smtp_tls is MailTls.TLS
    try:
        async with asyncio.timeout(_DEADLINE):
            reader, writer = await asyncio.open_connection(host, port, ssl=is_tls or None)
            try:
                greeting = await reader.readline()
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, ValueError) as error:
        greeting, problem = b"", type(error).__name__
    else:
        problem = "no greeting of a mail server"
    if not greeting.startswith(b"220"):
        return wrong(
            "SMTP_HOST",
            f"{host}:{port} does not take mails ({problem})",
            "correct SMTP_HOST, SMTP_PORT and SMTP_TLS, or open the firewall",
        )
    return ok("SMTP_HOST", f"{host}:{port} answers")


async def _collector(endpoint: str) -> Finding:
    url = urlsplit(endpoint)
    try:
        async with asyncio.timeout(_DEADLINE):
            _, writer = await asyncio.open_connection(
                url.hostname, url.port or (443 if url.scheme == "https" else 80)
            )
        writer.transport.abort()
    except (OSError, TimeoutError, ValueError) as error:
        return warning(
            "OTLP_ENDPOINT",
            f"{url.hostname} takes no connection ({type(error).__name__}): traces are lost",
            "start the collector, correct the address (OTLP over HTTP is port 4318), or unset it",
        )
    return ok("OTLP_ENDPOINT", f"{url.hostname} answers")
