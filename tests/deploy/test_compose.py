"""docker-compose.yml, the Dockerfile and the nginx configuration, read as data."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.system.docker_engine import GRAFANA, IMAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shipped() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture
def services(shipped: Any) -> Any:
    return shipped["services"]


def test_ours_run_without_privileges(services: Any) -> None:
    for name in ("api", "migrate"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_one_image_is_built_once_and_never_pulled(services: Any) -> None:
    ours = {name: each for name, each in services.items() if each["image"] == "kingpost"}
    assert set(ours) == {"api", "worker", "migrate"}
    assert [name for name, service in ours.items() if "build" in service] == ["api"]
    assert {service["pull_policy"] for service in ours.values()} == {"never"}


def test_nginx_meets_the_api_only_where_it_is_a_trusted_proxy(shipped: Any, services: Any) -> None:
    inside = shipped["networks"]["inside"]
    assert inside["internal"] is True
    assert (
        inside["ipam"]["config"][0]["subnet"] == services["api"]["environment"]["TRUSTED_PROXIES"]
    )
    assert set(services["nginx"]["networks"]) & set(services["api"]["networks"]) == {"inside"}
    for name in ("postgres", "redis"):
        assert services[name]["networks"] == ["inside"]


def test_every_other_image_has_a_stand_in_where_no_registry_answers(services: Any) -> None:
    named = {each["image"] for each in services.values()}
    assert named == {"kingpost", GRAFANA, *IMAGES.values()}
    for name in ("postgres", "redis"):
        manifest = (ROOT / f"k8s/overlays/development/{name}.yaml").read_text(encoding="utf-8")
        assert f"image: {IMAGES[name]}\n" in manifest


def test_every_variable_is_a_setting_and_no_secret_is_one(services: Any) -> None:
    known = {name.upper() for name in Settings.model_fields}
    for name in services["api"]["environment"]:
        assert name.removesuffix("_FILE") in known, name
    assert not {"SECRET_KEY", "DATABASE_URL"} & set(services["api"]["environment"])


def test_everything_long_lived_has_a_health_check_and_a_limit(services: Any) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name, service in services.items():
        if name != "migrate":
            assert "mem_limit" in service, name
            assert "healthcheck" in service or ("build" in service and "HEALTHCHECK" in dockerfile)


def test_the_image_is_made_of_the_lock_and_runs_as_nobody() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes" in text
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert "# syntax=" not in text
    assert "<<" not in text


def test_nginx_waits_longer_than_what_is_behind_it() -> None:
    text = (ROOT / "docker/nginx/nginx.conf").read_text(encoding="utf-8")
    settings = Settings(_env_file=None)
    read = [float(each) for each in re.findall(r"proxy_read_timeout (\d+)s", text)]
    assert min(read) > settings.database_statement_timeout
    assert max(read) > 3 * settings.websocket_ping_seconds
    gunicorn = (ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")
    kept_inside = float(gunicorn.partition("\nkeepalive = ")[2].split()[0])
    upstream = (ROOT / "docker/nginx/upstream.conf").read_text(encoding="utf-8")
    kept_by_nginx = float(upstream.partition("keepalive_timeout ")[2].split("s")[0])
    assert kept_by_nginx < kept_inside
    body = int(text.partition("client_max_body_size ")[2].split("m")[0]) * 1024 * 1024
    assert body == settings.max_body_bytes
