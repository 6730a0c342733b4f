"""The settings: where they come from, what is refused, and that their documentation is true."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.adapters.limits import parse_limits
from app.scaffolding.settings_reference import env_example, markdown_table
from app.settings import Settings, refusals

ROOT = Path(__file__).resolve().parents[3]
SECRET = "8f3kd02mvn47sla91xq5zbt6wjy0cuhe"
GOOD: dict[str, Any] = {
    "environment": "production",
    "secret_key": SECRET,
    "database_url": "postgresql://kingpost@db/kingpost",
    "redis_url": "redis://redis",
}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of this machine decides here."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)


def refusal(**values: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        Settings(**values)
    return str(refused.value)


def test_nothing_needs_to_be_set() -> None:
    settings = Settings()
    assert settings.sqlalchemy_url.startswith("sqlite+aiosqlite:///")
    assert not settings.is_production


def test_a_safe_production_is_accepted() -> None:
    assert Settings(**GOOD).is_production


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"secret_key": None}, "SECRET_KEY"),
        ({"secret_key": "short"}, "SECRET_KEY"),
        ({"secret_key": "a" * 64}, "SECRET_KEY"),
        ({"secret_key": "change-me-change-me-change-me-change-me"}, "SECRET_KEY"),
        ({"secret_key": "Your-Secret-Key-Of-At-Least-32-Letters"}, "SECRET_KEY"),
        ({"secret_key_previous": "short"}, "SECRET_KEY_PREVIOUS"),
        ({"secret_key_previous": "changeme" * 5}, "SECRET_KEY_PREVIOUS"),
        ({"database_url": None}, "DATABASE_URL"),
        ({"database_url": "sqlite:///var/kingpost.db"}, "DATABASE_URL"),
        ({"smtp_host": "mail.example.com"}, "PUBLIC_URL"),  # links that lead to localhost
        ({"trusted_proxies": "*"}, "TRUSTED_PROXIES"),
        ({"cors_origins": "*", "cors_credentials": True}, "CORS_ORIGINS"),
        ({"operators_username": "ops"}, "OPERATORS_PASSWORD"),
        ({"web_concurrency": 2, "redis_url": None}, "REDIS_URL"),
        ({"web_concurrency": 2, "database_url": None}, "DATABASE_URL"),
        ({"web_concurrency": 2, "database_url": "sqlite:///x.db"}, "WEB_CONCURRENCY"),
    ],
)
def test_an_unsafe_production_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    assert named in refusal(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"database_url": "mysql://kingpost@db/kingpost"}, "DATABASE_URL"),
        ({"redis_url": "redis:6379"}, "REDIS_URL"),
        ({"redis_url": "redis+sentinel://redis:26379/"}, "REDIS_URL"),
        ({"redis_url": "redis+sentinel://redis:redis/main"}, "REDIS_URL"),
        ({"rate_limit_login": "often"}, "RATE_LIMIT_LOGIN"),
        ({"rate_limit_default": "10/fortnight"}, "RATE_LIMIT_DEFAULT"),
        ({"cors_origins": "app.example.com"}, "CORS_ORIGINS"),
        ({"cors_origins": "https://app.example.com/"}, "CORS_ORIGINS"),
        ({"trusted_proxies": "nginx"}, "TRUSTED_PROXIES"),
        ({"trusted_proxies": "10.1.0.0/8"}, "TRUSTED_PROXIES"),
        ({"public_url": "kingpost.example"}, "PUBLIC_URL"),
        ({"public_url": "https://kingpost.example/?a=b"}, "PUBLIC_URL"),
        ({"mail_from": "Kingpost"}, "MAIL_FROM"),
        ({"mail_from": "King, Post <post@example.com>"}, "MAIL_FROM"),
        ({"mail_from": "a@example.com\r\nBcc: b@example.com"}, "MAIL_FROM"),
        ({"smtp_username": "postman"}, "SMTP_USERNAME"),
        ({"smtp_tls": "none", "smtp_username": "x", "smtp_password": "y"}, "SMTP_TLS"),
        ({"drain_seconds": 60}, "DRAIN_SECONDS"),
        ({"web_concurrency": 0}, "WEB_CONCURRENCY"),
        ({"webhooks_ports": "443,65536"}, "WEBHOOKS_PORTS"),
        ({"webhooks_ports": "https"}, "WEBHOOKS_PORTS"),
        ({"otlp_endpoint": "collector:4318"}, "OTLP_ENDPOINT"),
        ({"s3_access_key_id": "AKIA"}, "S3_ACCESS_KEY_ID"),
    ],
)
def test_a_value_that_cannot_be_is_refused_everywhere(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**change)
    assert [said for said in refusals(refused.value) if said.startswith(named)]


@pytest.mark.parametrize(
    "limit", ["5/minute", "100 per hour", "5/second;100/minute", "10/2 minutes", "1 per 1 day"]
)
def test_a_limit_can_be_written_as_its_library_reads_it(limit: str) -> None:
    assert Settings(rate_limit_login=limit).rate_limit_login == limit
    assert parse_limits(limit)


def test_every_problem_is_told_at_once_and_by_its_variable() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**{**GOOD, "secret_key": None, "trusted_proxies": "*"})
    assert refusals(refused.value) == [
        "SECRET_KEY must be set in production",
        "TRUSTED_PROXIES must not be * in production",
    ]
    with pytest.raises(ValidationError) as refused:
        Settings(port="none", drain_seconds=-1)
    assert [said.partition(":")[0] for said in refusals(refused.value)] == ["PORT", "DRAIN_SECONDS"]


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "REDIS_URL", "DATABASE_URL", "SECRET_KEY", "API_V1_SUNSET_AT"):
        monkeypatch.setenv(name, "")
    assert Settings() == Settings(_env_file=None)
    assert (Settings().port, Settings().redis_url) == (8000, None)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    if content:
        (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "secret"))
    with pytest.raises(ValueError, match="SECRET_KEY_FILE") as refused:
        Settings()
    assert refusals(refused.value)[0].startswith("SECRET_KEY_FILE: ")


def test_a_refusal_never_shows_the_value() -> None:
    assert "hunter2" not in refusal(**{**GOOD, "secret_key": "hunter2"})
    assert "hunter2" not in refusal(port="hunter2")


def test_a_setting_can_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "secret"))
    secret = Settings().secret_key
    assert secret is not None
    assert secret.get_secret_value() == SECRET


def test_the_environment_wins_over_a_file_and_a_file_over_dotenv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("TOKEN_ISSUER=dotenv\nTOKEN_AUDIENCE=dotenv\nLOG_LEVEL=error\n")
    (tmp_path / "issuer").write_text("file")
    monkeypatch.setenv("TOKEN_ISSUER_FILE", str(tmp_path / "issuer"))
    monkeypatch.setenv("TOKEN_AUDIENCE_FILE", str(tmp_path / "issuer"))
    monkeypatch.setenv("TOKEN_AUDIENCE", "environment")
    settings = Settings()
    assert settings.token_issuer == "file"
    assert settings.token_audience == "environment"
    assert settings.log_level == "error"


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example, https://b.example")
    assert Settings().cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_spelling_of_postgresql_means_asyncpg(scheme: str) -> None:
    settings = Settings(database_url=f"{scheme}://u:p@host/name")
    assert settings.sqlalchemy_url == "postgresql+asyncpg://u:p@host/name"


def test_the_example_file_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example()
    names = re.findall(r"^#([A-Z0-9_]+)=", env_example(), re.MULTILINE)
    assert sorted(names) == sorted(name.upper() for name in Settings.model_fields)


def test_the_example_file_sets_the_defaults_where_it_is_used(tmp_path: Path) -> None:
    lines = re.findall(r"^#([A-Z0-9_]+=.+)$", env_example(), re.MULTILINE)
    (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
    assert Settings() == Settings(_env_file=None)


def test_the_documentation_lists_what_the_settings_say() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert markdown_table() in page
