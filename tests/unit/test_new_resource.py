"""`kingpost new-resource`: what it writes is in house style and works, untouched."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.scaffolding.fields import Refused
from app.scaffolding.new_resource import new_resource

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("app", "migrations", "tests", "pyproject.toml", "alembic.ini", ".mypy_cache")
FIELDS = (
    "number:str",
    "notes:text",
    "quantity:int",
    "is_open:bool",
    "due_on:date",
    "sent_at:datetime",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the tree to write into."""
    for part in PARTS:
        source, target = ROOT / part, tmp_path / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target)
    return tmp_path


def run(checkout: Path, *command: str) -> None:
    """Run a tool of the same environment in a checkout; fail with what it said."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:]],
        cwd=checkout,
        env={**plain, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_what_is_written_passes_every_check_and_its_own_tests(checkout: Path) -> None:
    run(checkout, "python", "-m", "app.cli", "new-resource", "purchase_order", *FIELDS)
    run(checkout, "python", "-m", "app.cli", "new-resource", "box")
    run(checkout, "ruff", "format", "--check")
    run(checkout, "ruff", "check")
    run(checkout, "mypy")
    run(checkout, "lint-imports")
    run(
        checkout,
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/unit/test_migrations.py",
        "tests/api/test_purchase_orders.py",
        "tests/api/test_boxes.py",
    )


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Invoice", ()),
        ("in-voice", ()),
        ("class", ()),
        ("item", ()),
        ("invoice", ("id",)),
        ("invoice", ("count:int",)),
        ("invoice", ("title", "title")),
        ("invoice", ("title:money",)),
        ("invoice", ("lambda:str",)),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    checkout: Path, name: str, fields: tuple[str, ...]
) -> None:
    before = {path: path.read_bytes() for path in checkout.rglob("*.py")}
    with pytest.raises(Refused):
        new_resource(checkout, name, fields)
    assert {path: path.read_bytes() for path in checkout.rglob("*.py")} == before


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not a checkout"):
        new_resource(tmp_path, "invoice")
