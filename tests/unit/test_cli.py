"""`kingpost`: the commands, and what they say when something is wrong."""

import json
from pathlib import Path

import pytest

from app.cli import main
from app.settings import Settings
from app.version import VERSION


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each command finds an empty folder and no settings."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "serve" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", ["serve", "migrate", "create-admin", "seed", "openapi", "new-resource", "settings"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert "usage: kingpost" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.strip() == VERSION


def test_wrong_settings_are_named_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "none")
    monkeypatch.setenv("SECRET_KEY", "short")
    assert main(["migrate"]) == 2
    said = capsys.readouterr().err
    assert "PORT" in said
    assert "Traceback" not in said
    monkeypatch.delenv("PORT")
    assert main(["migrate"]) == 2
    said = capsys.readouterr().err
    assert "SECRET_KEY must have at least 32 bytes" in said
    assert "short" not in said


@pytest.mark.parametrize(
    ("version", "prefix"), [(None, "/"), ("v1", "/api/v1/"), ("v2", "/api/v2/")]
)
def test_the_openapi_document_is_printed(
    capsys: pytest.CaptureFixture[str], version: str | None, prefix: str
) -> None:
    assert main(["openapi", *(["--version", version] if version else [])]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["paths"]
    assert all(path.startswith(prefix) for path in document["paths"])


def test_a_resource_outside_a_checkout_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-resource", "invoice"]) == 2
    assert "not a checkout" in capsys.readouterr().err
