"""What settings may say of providers, and that no secret of theirs is repeated."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.adapters.oidc import Providers
from app.settings import Settings, refusals
from app.settings.identity_providers import PRESETS

SECRET = "GOCSPX-9f86d081884c7d659a2feaa0"
CLIENT = {"client_id": "us", "client_secret": SECRET}
PRODUCTION: dict[str, Any] = {
    "environment": "production",
    "secret_key": "8f3kd02mvn47sla91xq5zbt6wjy0cuhe",
    "database_url": "postgresql://kingpost@db/kingpost",
    "redis_url": "redis://redis",
    "public_url": "https://api.example.org",
}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` of this machine decides here."""
    monkeypatch.chdir(tmp_path)


def refusal(**values: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        Settings(**values)
    assert SECRET not in str(refused.value)
    return "; ".join(refusals(refused.value))


def test_a_variable_names_them_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OIDC_PROVIDERS", json.dumps({"google": CLIENT}))
    settings = Settings()
    assert settings.oidc_providers["google"].client_id == "us"
    assert SECRET not in repr(settings)


def test_a_mounted_file_names_them_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "providers.json"
    path.write_text(json.dumps({"facebook": CLIENT}))
    monkeypatch.setenv("OIDC_PROVIDERS_FILE", str(path))
    assert list(Settings().oidc_providers) == ["facebook"]


def test_none_is_needed() -> None:
    assert Settings().oidc_providers == {}


def test_google_is_known_by_its_issuer() -> None:
    (google,) = Providers(Settings(oidc_providers={"google": CLIENT})).listed()
    assert google.label == "Google"
    assert PRESETS["google"].issuer == "https://accounts.google.com"


@pytest.mark.parametrize(
    ("providers", "said"),
    [
        (f'{{"google": {{"client_secret": "{SECRET}"', "it is not JSON"),
        (f'["{SECRET}"]', "valid dict"),
        ("[" * 100_000, "it is not JSON"),
        ({"google": {}}, "Field required"),
        ({"google": {**CLIENT, "client_id": ""}}, "at least 1 character"),
        ({"google": {**CLIENT, "secret": SECRET}}, "Extra inputs"),
        ({"house": CLIENT}, "house needs an issuer"),
        ({"Google": CLIENT}, "lower-case"),
        ({"a/b": {**CLIENT, "issuer": "https://a.example"}}, "lower-case"),
        ({"x" * 33: {**CLIENT, "issuer": "https://a.example"}}, "32 at most"),
        ({"google": {**CLIENT, "issuer": "https://a.example"}}, "google is known"),
        ({"house": {**CLIENT, "issuer": "a.example"}}, "no address"),
        ({"house": {**CLIENT, "issuer": "file:///etc/passwd"}}, "no address"),
        ({"house": {**CLIENT, "issuer": "https://a.example/?q"}}, "no address"),
    ],
)
def test_what_cannot_work_is_refused_by_name(providers: object, said: str) -> None:
    told = refusal(oidc_providers=providers)
    assert "OIDC_PROVIDERS" in told
    assert said in told


def test_in_production_nothing_is_asked_in_the_clear() -> None:
    plain = {"house": {**CLIENT, "issuer": "http://a.example"}}
    assert Settings(oidc_providers=plain)
    assert "https://" in refusal(**PRODUCTION, oidc_providers=plain)


def test_in_production_the_callbacks_address_is_not_left_to_requests() -> None:
    assert Settings(**PRODUCTION, oidc_providers={"google": CLIENT})
    left = {**PRODUCTION, "public_url": None, "oidc_providers": {"google": CLIENT}}
    assert "OIDC_PROVIDERS needs PUBLIC_URL" in refusal(**left)


@pytest.mark.parametrize("url", ["api.example.com", "https://a/b", "https://u@a", "https://a?b"])
def test_the_public_address_is_an_origin(url: str) -> None:
    assert "PUBLIC_URL" in refusal(public_url=url)
