"""`kingpost doctor` on a sound production, and on every way of it to be wrong that we know."""

import json
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller
from redis import Redis

from app.cli import main
from app.clock import now
from app.doctor import peers
from app.repositories.server import ServerFacts
from app.settings import Settings
from tests.backends import Place, database_url, drop_database, run_statement
from tests.sentinels import start_program
from tests.services import free_port

SECRET = "tQ7vM2xZ9rK4nB8cW1yL6hJ3fD5gS0aP"
ADMIN = (
    "INSERT INTO users (email, email_key, username, username_key, password_hash, roles, is_active,"
    " created_at, updated_at, version) VALUES ('a@example.com', 'a@example.com', 'root', 'root',"
    " 'x', '{admin}', true, now(), now(), 1)"
)


@dataclass
class Stand:
    """A production, sound until a test breaks it."""

    database_url: str
    redis: Redis
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    closing: ExitStack
    environment: dict[str, str] = field(default_factory=dict)

    def sql(self, statement: str) -> None:
        """Run a statement on its database."""
        run_statement(self.database_url, statement)

    def file(self, name: str, content: str, mode: int) -> Path:
        """Make a file in its folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        path.chmod(mode)
        return path


@pytest.fixture(scope="module")
def mail_port() -> Iterator[int]:
    """A mail server."""
    server = Controller(object(), hostname="127.0.0.1", port=free_port())
    server.start()
    yield server.port
    server.stop()


@pytest.fixture
def stand(
    clean_database: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mail_port: int
) -> Iterator[Stand]:
    assert clean_database.database_url
    assert clean_database.redis_url
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir(mode=0o700)
    with Redis.from_url(clean_database.redis_url) as redis, ExitStack() as closing:
        before = redis.config_get("maxmemory*")
        redis.config_set("maxmemory", "200mb")
        redis.config_set("maxmemory-policy", "allkeys-lru")
        redis.set(peers.WORKER_KEY, "alive")
        stand = Stand(clean_database.database_url, redis, tmp_path, monkeypatch, closing)
        stand.sql(ADMIN)
        stand.environment = {
            "ENVIRONMENT": "production",
            "DATABASE_URL": clean_database.database_url,
            "REDIS_URL": clean_database.redis_url,
            "REDIS_TIMEOUT": "1",  # a machine that is busy with tests answers late
            "SECRET_KEY": SECRET,
            "DATA_DIR": "data",
            "PUBLIC_URL": "https://api.acme.test",
            "TRUSTED_PROXIES": "10.1.2.0/24",
            "OPERATORS_USERNAME": "prometheus",
            "OPERATORS_PASSWORD": "a password of operators",
            "WEB_CONCURRENCY": "2",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(mail_port),
        }
        yield stand
        for name in ("maxmemory", "maxmemory-policy"):
            redis.config_set(name, before[name])


def examined(stand: Stand, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]]]:
    """Run the doctor; return its exit code and what it found."""
    for name, value in stand.environment.items():
        stand.monkeypatch.setenv(name, value)
    code = main(["doctor", "--json"])
    return code, json.loads(capsys.readouterr().out)


Seed = Callable[[Stand], object]


def variables(**changed: str) -> Seed:
    """Change variables; an empty one is not set."""
    return lambda stand: stand.environment.update(changed)


def secret_in_a_file(mode: int) -> Seed:
    def seed(stand: Stand) -> None:
        path = stand.file("secret_key", SECRET, mode)
        stand.environment |= {"SECRET_KEY": "", "SECRET_KEY_FILE": str(path)}

    return seed


def another_database(encoding: str = "UTF8") -> Seed:
    def seed(stand: Stand) -> None:
        name = f"kingpost_test_{uuid4().hex}"
        stand.sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        stand.closing.callback(drop_database, stand.database_url, name)
        stand.environment["DATABASE_URL"] = database_url(stand.database_url, name)

    return seed


def a_clock_that_is_wrong(stand: Stand) -> None:
    stand.monkeypatch.setattr(peers, "now", lambda: now() + timedelta(seconds=10))


def a_full_disk(free: int) -> Seed:
    usage = namedtuple("usage", "total used free")
    return lambda stand: stand.monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage(10**12, 10**12 - free, free)
    )


def a_closed_port(name: str, scheme: str) -> Seed:
    return lambda stand: stand.environment.update(
        {name: f"{scheme}://someone:word@127.0.0.1:{free_port()}/0"}
    )


def by_a_sentinel(*, service: str = "main", password: str = "watch") -> Seed:
    """Reach the same Redis by a sentinel, or fail to."""

    def seed(stand: Stand) -> None:
        url = urlsplit(stand.environment["REDIS_URL"])
        lines = [f"sentinel monitor main 127.0.0.1 {url.port} 1", "requirepass watch"]
        lines.append(f"sentinel auth-pass main {url.password}")
        sentinel = start_program("sentinel", lines, "--sentinel")
        stand.closing.callback(sentinel.stop)
        where = f":{url.password}@127.0.0.1:{sentinel.port}/{service}{url.path}"
        stand.environment["REDIS_URL"] = f"redis+sentinel://{where}?sentinel_password={password}"

    return seed


def a_wrong_password(stand: Stand) -> None:
    _, at, where = stand.database_url.rpartition("@")
    stand.environment["DATABASE_URL"] = f"postgresql://kingpost:wrong{at}{where}"


SEEDS: dict[str, tuple[Seed, str, str]] = {
    "no secret": (variables(SECRET_KEY=""), "SECRET_KEY", "wrong"),
    "a short secret": (variables(SECRET_KEY="short"), "SECRET_KEY", "wrong"),
    "a known secret": (variables(SECRET_KEY="changeme" * 5), "SECRET_KEY", "wrong"),
    "nothing rotated": (variables(SECRET_KEY_PREVIOUS=SECRET), "SECRET_KEY_PREVIOUS", "warning"),
    "a secret that others read": (secret_in_a_file(0o644), "SECRET_KEY_FILE", "warning"),
    "a secret that others write": (secret_in_a_file(0o660), "SECRET_KEY_FILE", "wrong"),
    "a missing secret file": (
        variables(SECRET_KEY="", SECRET_KEY_FILE="nowhere"),
        "SECRET_KEY_FILE",
        "wrong",
    ),
    "an open .env": (lambda stand: stand.file(".env", "", 0o644), ".env", "warning"),
    "SQLite": (variables(DATABASE_URL="", WEB_CONCURRENCY=""), "DATABASE_URL", "wrong"),
    "no database": (a_closed_port("DATABASE_URL", "postgresql"), "database", "wrong"),
    "a wrong password": (a_wrong_password, "database", "wrong"),
    "an empty database": (another_database(), "migrations", "wrong"),
    "a poor encoding": (another_database("SQL_ASCII"), "database encoding", "wrong"),
    "an old schema": (
        lambda stand: stand.sql("UPDATE alembic_version SET version_num = '0001'"),
        "migrations",
        "wrong",
    ),
    "a wrong clock": (a_clock_that_is_wrong, "clock", "wrong"),
    "too many connections": (
        variables(WEB_CONCURRENCY="50", DATABASE_POOL_SIZE="50"),
        "connections",
        "wrong",
    ),
    "no admin": (lambda stand: stand.sql("DELETE FROM users"), "admins", "warning"),
    "jobs that wait": (
        lambda stand: stand.sql(
            "INSERT INTO jobs (kind, arguments, status, run_after, created_at) VALUES"
            " ('x', '{}', 'queued', now() - interval '1 hour', now())"
        ),
        "jobs",
        "wrong",
    ),
    "no Redis at its address": (a_closed_port("REDIS_URL", "redis"), "redis", "wrong"),
    "no sentinel at its address": (
        variables(REDIS_URL=f"redis+sentinel://127.0.0.1:{free_port()}/main/0"),
        "no sentinel answers",
        "wrong",
    ),
    "a service that no sentinel knows": (
        by_a_sentinel(service="another"),
        "no sentinel knows the service",
        "wrong",
    ),
    "a sentinel's wrong password": (by_a_sentinel(password="x"), "sentinel_password", "wrong"),
    "no Redis at all": (variables(REDIS_URL="", WEB_CONCURRENCY=""), "REDIS_URL", "warning"),
    "a boundless Redis": (
        lambda stand: stand.redis.config_set("maxmemory", 0),
        "redis memory",
        "warning",
    ),
    "a Redis that never forgets": (
        lambda stand: stand.redis.config_set("maxmemory-policy", "noeviction"),
        "redis memory",
        "warning",
    ),
    "no worker": (lambda stand: stand.redis.delete(peers.WORKER_KEY), "worker", "wrong"),
    "a frozen Redis is waited for": (variables(REDIS_TIMEOUT="5"), "REDIS_TIMEOUT", "warning"),
    "a file for a folder": (
        lambda stand: stand.environment.update(DATA_DIR=str(stand.file("x", "", 0o600))),
        "DATA_DIR",
        "wrong",
    ),
    "a folder that others write": (
        lambda stand: (stand.folder / "data").chmod(0o777),
        "DATA_DIR",
        "wrong",
    ),
    "a folder that nobody writes": (variables(DATA_DIR="/proc/kingpost"), "DATA_DIR", "wrong"),
    "kept secrets that others read": (
        lambda stand: stand.file("data/secrets/secret_key", SECRET, 0o644),
        "DATA_DIR/secrets",
        "wrong",
    ),
    "signing keys that others read": (
        lambda stand: stand.environment.update(
            SIGNING_KEYS_DIR=str(stand.file("keys/2026.pem", "", 0o644).parent)
        ),
        "SIGNING_KEYS_DIR",
        "wrong",
    ),
    "a full disk": (a_full_disk(10**6), "DATA_DIR space", "wrong"),
    "a disk that fills": (a_full_disk(5 * 10**8), "DATA_DIR space", "warning"),
    "no mail server at its address": (
        lambda stand: stand.environment.update(SMTP_PORT=str(free_port())),
        "SMTP_HOST",
        "wrong",
    ),
    "no mail server": (variables(SMTP_HOST=""), "SMTP_HOST", "warning"),
    "no collector at its address": (
        lambda stand: stand.environment.update(OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}"),
        "OTLP_ENDPOINT",
        "warning",
    ),
    "every proxy": (variables(TRUSTED_PROXIES="*"), "TRUSTED_PROXIES", "wrong"),
    "the world as a proxy": (variables(TRUSTED_PROXIES="0.0.0.0/0"), "TRUSTED_PROXIES", "wrong"),
    "no proxy": (variables(TRUSTED_PROXIES="127.0.0.1"), "TRUSTED_PROXIES", "warning"),
    "no HSTS": (variables(HSTS_SECONDS="0"), "HSTS_SECONDS", "warning"),
    "plain HTTP": (
        variables(PUBLIC_URL="http://api.acme.test", SMTP_HOST=""),
        "PUBLIC_URL",
        "wrong",
    ),
    "no limits": (variables(RATE_LIMITS_ENABLED="false"), "RATE_LIMITS_ENABLED", "wrong"),
    "webhooks into the own network": (
        variables(WEBHOOKS_ALLOW_PRIVATE="true"),
        "WEBHOOKS_ALLOW_PRIVATE",
        "wrong",
    ),
    "a talkative log": (variables(LOG_LEVEL="debug"), "LOG_LEVEL", "warning"),
    "open metrics": (
        variables(OPERATORS_USERNAME="", OPERATORS_PASSWORD=""),
        "OPERATORS_PASSWORD",
        "warning",
    ),
    "half an operator": (variables(OPERATORS_PASSWORD=""), "OPERATORS_PASSWORD", "wrong"),
    "every origin": (variables(CORS_ORIGINS="*"), "CORS_ORIGINS", "warning"),
    "slow statements": (
        variables(DATABASE_STATEMENT_TIMEOUT="60"),
        "DATABASE_STATEMENT_TIMEOUT",
        "warning",
    ),
    "endless events": (
        variables(EVENT_RETENTION_HOURS="10000"),
        "EVENT_RETENTION_HOURS",
        "warning",
    ),
    "long access": (variables(ACCESS_TOKEN_MINUTES="600"), "ACCESS_TOKEN_MINUTES", "warning"),
}


@pytest.mark.only("production")
def test_a_sound_production_has_nothing_to_mend(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = examined(stand, capsys)
    assert [each for each in found if each["verdict"] != "ok"] == []
    assert code == 0
    assert {"database version", "migrations", "redis version", "worker", "clock"} <= {
        each["check"] for each in found
    }


@pytest.mark.only("production")
def test_so_has_one_whose_redis_is_found_by_a_sentinel(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    by_a_sentinel()(stand)
    _, found = examined(stand, capsys)
    assert [each for each in found if each["verdict"] != "ok"] == []


@pytest.mark.only("production")
@pytest.mark.parametrize("name", SEEDS)
def test_a_misconfiguration_is_found(
    name: str, stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    seed, check, verdict = SEEDS[name]
    seed(stand)
    code, found = examined(stand, capsys)
    hits = [each for each in found if each["check"] == check] or [
        each for each in found if check in each["said"]
    ]
    assert {each["verdict"] for each in hits} == {verdict}, found
    assert all(each["mend"] for each in found if each["verdict"] != "ok")
    assert code == int(any(each["verdict"] == "wrong" for each in found))
    assert SECRET not in json.dumps(found)


def test_an_older_server_is_told_from_a_new_one() -> None:
    facts = ServerFacts(120_020, now(), 97, is_standby=False, encoding="UTF8")
    assert peers.judge_version(facts).verdict == "wrong"
    assert peers.judge_version(facts._replace(version=130_000)).verdict == "ok"
    assert peers.judge_redis_version("6.0.16").verdict == "wrong"
    assert peers.judge_redis_version("6.2.0").verdict == "ok"


def test_connections_are_counted_for_a_second_instance_too() -> None:
    settings = Settings(
        _env_file=None,
        database_url="postgresql://127.0.0.1/kingpost",
        redis_url="redis://127.0.0.1:6379/0",
        web_concurrency=4,
        database_pool_size=5,
    )
    verdicts = {left: peers.judge_connections(settings, left).verdict for left in (24, 44, 45)}
    assert verdicts == {24: "wrong", 44: "warning", 45: "ok"}


def test_it_speaks_to_people_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "ok       settings: accepted, for development" in said
    assert "wrong    database: SQLite, and nothing is there yet; run kingpost migrate" in said
    assert main(["migrate"]) == 0
    assert main(["doctor"]) == 0
