"""`kingpost`: the commands, and what they say when something is wrong."""

import asyncio
import io
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.cli import main
from app.commands import accounts, migrate
from app.security.passwords import PasswordHasher
from app.settings import Settings
from app.version import VERSION


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each command finds an empty folder and no settings."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)


COMMANDS = (
    "serve",
    "migrate",
    "create-admin",
    "reset-second-factor",
    "seed",
    "openapi",
    "new-resource",
    "settings",
    "version",
)
ROOT = Path(__file__).parents[2]
PASSWORD = "violet anchor meadow"


@pytest.fixture
def migrated(capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded database, as `kingpost migrate` makes it."""
    assert main(["migrate"]) == 0
    assert "is now at revision" in capsys.readouterr().out


def create_admin(*more: str, username: str = "root", email: str = "root@example.com") -> int:
    return main(["create-admin", "--username", username, "--email", email, *more])


def typed(text: str, monkeypatch: pytest.MonkeyPatch, *, on_a_terminal: bool = False) -> None:
    """Let a command find this on its standard input."""
    stdin = io.StringIO(text)
    monkeypatch.setattr(stdin, "isatty", lambda: on_a_terminal)
    monkeypatch.setattr(sys, "stdin", stdin)


def password_opens(username: str, password: str) -> bool:
    """Tell whether this is the account's password, by its hash in the embedded database."""
    with closing(sqlite3.connect("var/kingpost.db")) as connection:
        query = "SELECT password_hash FROM users WHERE username = ?"
        stored = connection.execute(query, (username,)).fetchone()[0]
    hasher = PasswordHasher(concurrency=1)
    try:
        return asyncio.run(hasher.verify(password, stored)).ok
    finally:
        hasher.close()


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(command in said for command in COMMANDS)


def test_a_command_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["srve"])
    assert left.value.code == 2
    assert "srve" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
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


def test_a_file_that_is_missing_is_named_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY_FILE", "/nowhere/secret")
    assert main(["migrate"]) == 2
    said = capsys.readouterr().err
    assert "SECRET_KEY_FILE: /nowhere/secret cannot be read" in said


def test_migrations_are_checked_and_carried_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("var").mkdir()
    assert main(["migrate", "--check"]) == 1
    assert "at revision none" in capsys.readouterr().out
    assert main(["migrate"]) == 0
    assert main(["migrate"]) == 0
    assert "The database is at revision" in capsys.readouterr().out
    assert main(["migrate", "--check"]) == 0


@pytest.mark.usefixtures("migrated")
def test_a_newer_database_is_left_alone() -> None:
    with closing(sqlite3.connect("var/kingpost.db", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        assert main(["migrate"]) == 0
        assert main(["migrate", "--check"]) == 0
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("9999",)]


@pytest.mark.parametrize(
    "command", [("seed",), ("create-admin", "--username", "root", "--email", "root@example.com")]
)
def test_a_database_that_was_never_migrated_is_told(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert main(command) == 1
    assert "first: kingpost migrate" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["migrate", "seed", "serve"])
def test_no_database_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:hunter2@127.0.0.1:1/none")
    monkeypatch.setenv("PORT", "0")
    assert main([command]) == 1
    said = capsys.readouterr().err
    assert said.startswith("No database: ")
    assert "hunter2" not in said


@pytest.mark.usefixtures("migrated")
def test_an_admins_password_is_made_and_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert create_admin() == 0
    password = capsys.readouterr().out.split()[-1]
    assert password_opens("root", password)


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_an_admins_password_is_read_from_a_pipe_and_not_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    typed(PASSWORD + ending, monkeypatch)
    assert create_admin("--password-stdin") == 0
    assert PASSWORD not in capsys.readouterr().out
    assert password_opens("root", PASSWORD)


@pytest.mark.usefixtures("migrated")
def test_an_admins_password_is_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    typed("", monkeypatch, on_a_terminal=True)
    monkeypatch.setattr(accounts, "getpass", lambda _: PASSWORD)
    assert create_admin("--password-stdin") == 0
    assert password_opens("root", PASSWORD)


@pytest.mark.usefixtures("migrated")
def test_an_admin_that_cannot_be_is_refused_by_field(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("password1234", monkeypatch)
    assert create_admin("--password-stdin") == 1
    assert capsys.readouterr().err.startswith("password: This password is among the commonest")
    assert create_admin(email="nonsense") == 1
    assert capsys.readouterr().err.startswith("email: ")
    assert create_admin() == 0
    assert create_admin(email="other@example.com") == 1
    assert capsys.readouterr().err == "This username is taken\n"


@pytest.mark.usefixtures("migrated")
def test_who_has_lost_everything_gets_in_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert create_admin() == 0
    with closing(sqlite3.connect("var/kingpost.db")) as connection:
        connection.execute(
            "INSERT INTO totp_factors (user_id, sealed_secret, created_at, confirmed_at)"
            " SELECT id, 'x', created_at, created_at FROM users"
        )
        connection.commit()
        assert main(["reset-second-factor", "ROOT@example.com"]) == 0
        assert connection.execute("SELECT * FROM totp_factors").fetchall() == []
    assert main(["reset-second-factor", "nobody"]) == 1
    assert "no such user" in capsys.readouterr().err


def test_seeding_a_production_has_to_be_meant(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("SECRET_KEY", "8f3kd02mvn47sla91xq5zbt6wjy0cuhe")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert main(["seed"]) == 2
    assert "--in-production" in capsys.readouterr().err
    assert main(["seed", "--in-production"]) == 1
    assert "No database" in capsys.readouterr().err


@pytest.mark.parametrize("amount", [("--users", "0"), ("--items", "-1"), ("--items", "many")])
def test_seeding_what_cannot_be_is_told(
    capsys: pytest.CaptureFixture[str], amount: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["seed", *amount])
    assert refused.value.code == 2
    assert amount[0] in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"set -o pipefail; {sys.executable} -m app.cli openapi | head -n 1"
    told = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=False)
    assert (told.stdout, told.stderr) == (b"{\n", b"")


def test_an_address_that_is_not_ours_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST", "192.0.2.1")  # RFC 5737: nobody's
    assert main(["serve"]) == 1
    assert "HOST=192.0.2.1" in capsys.readouterr().err


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_settings: Settings) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(migrate, "migrate", interrupted)
    assert main(["migrate"]) == 130


def test_the_settings_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    assert "| `SECRET_KEY` |" in capsys.readouterr().out
    assert main(["settings", "--env"]) == 0
    assert "#SECRET_KEY=" in capsys.readouterr().out
