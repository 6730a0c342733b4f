"""The documents are true: commands run as pasted, links lead somewhere, lists are complete."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import app.errors
from app.errors import DomainError
from tests.patience import PATIENCE
from tests.system.browser import Service

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADDRESS = "http://localhost:8000"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service as `make run` starts it, embedded, in a folder of its own."""
    service = Service(tmp_path_factory.mktemp("docs"))
    service.start()
    yield service
    service.stop()


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def run(script: str, service: Service) -> str:
    done = subprocess.run(
        ["sh", "-eu", "-c", script.replace(ADDRESS, service.origin)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_first_requests_of_the_readme_work_as_pasted(service: Service) -> None:
    first = next(each for each in fenced(PAGES[0], "sh") if "auth/register" in each)
    separator = "printf '\\n---\\n'"
    commands = re.sub(r"\n\n", f"\n{separator}\n", first)
    answers = [each.strip() for each in run(commands, service).split("---")]
    bodies = [json.loads(each) for each in answers if each.startswith("{")]
    registered, created, found = bodies[0], bodies[1], bodies[2]
    assert registered["username"] == "ada"
    assert created["name"] == "Oak desk"
    assert [item["id"] for item in found["items"]] == [created["id"]]


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_examples_that_call_the_service_run(page: Path, service: Service) -> None:
    for script in fenced(page, "sh"):
        if ADDRESS in script:
            run(script, service)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_targets_and_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in targets, f"{page.name}: make {target}"
    for path in re.findall(r"`((?:app|tests|migrations)/[\w./]+)`", text):
        if "purchase_orders" not in path:
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_every_error_code_is_listed() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    listed = set(
        re.findall(r"`([A-Z_]{3,})`", page.split("errors: begin")[1].split("errors: end")[0])
    )
    known = {
        each.error_code
        for each in vars(app.errors).values()
        if isinstance(each, type) and issubclass(each, DomainError)
    }
    assert known | {"MALFORMED_JSON"} == listed
