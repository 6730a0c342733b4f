"""The settings: where they come from, what is refused, and that their documentation is true."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.scaffolding.settings_reference import env_example, markdown_table
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
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
        ({"secret_key_previous": "short"}, "SECRET_KEY_PREVIOUS"),
        ({"database_url": None}, "DATABASE_URL"),
        ({"trusted_proxies": "*"}, "TRUSTED_PROXIES"),
        ({"cors_origins": "*", "cors_credentials": True}, "CORS_ORIGINS"),
        ({"operators_username": "ops"}, "OPERATORS_PASSWORD"),
        ({"web_concurrency": 2, "redis_url": None}, "REDIS_URL"),
        ({"web_concurrency": 2, "database_url": None}, "DATABASE_URL"),
    ],
)
def test_an_unsafe_production_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    assert named in refusal(**{**GOOD, **change})


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
