"""`kingpost new-resource`: what it writes is in house style and works, untouched."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.scaffolding.fields import Refused
from app.scaffolding.new_resource import new_resource
from tests.backends import Foundation

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("app", "migrations", "tests", "pyproject.toml", "alembic.ini", ".mypy_cache")
FIELDS = (
    "number:str",
    "notes:text",
    "quantity:int",
    "amount:money",
    "is_open:bool",
    "due_on:date",
    "sent_at:datetime",
)
# What holds the new resources alone, or all operations in one go; the rest knows nothing of them.
JUDGES = (
    "migrations or openapi or purchase or boxes"
    " or its_rule or turns_red or declared or kept_by_nobody or head_works"
)
BESIDE_IT = "assets or pages_take or schemathesis and (production or boxes)"


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


def run(checkout: Path, *command: str, **variables: str) -> None:
    """Run a tool of the same environment in a checkout; fail with what it said."""
    # The checkout is ours: what one tool has compiled serves the next.
    ours = ("PYTEST_", "PYTHONDONTWRITEBYTECODE")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(ours)} | variables
    done = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:]],
        cwd=checkout,
        env={**plain, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.long
def test_what_is_written_passes_every_check_and_its_own_tests(
    checkout: Path, foundation: Foundation
) -> None:
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
        *("-p", "no:cacheprovider"),
        "tests/unit/test_migrations.py",
        "tests/api/test_purchase_orders.py",
        "tests/api/test_boxes.py",
        "tests/api/test_openapi.py",
        "tests/api/test_authorization.py",
        "tests/api/test_headers.py",
        "tests/api/test_schemathesis.py",
        *("-k", f"({JUDGES}) and not ({BESIDE_IT})"),
        TEST_DATABASE_URL=foundation.postgres_url,
    )


@pytest.fixture
def sketch(tmp_path: Path) -> Path:
    """What the generator needs of a tree, where nothing is run."""
    for name in ("app/main.py", "app/routers/items.py", "migrations/versions/0001_first.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        source = ROOT / name
        (tmp_path / name).write_text(source.read_text() if source.exists() else "")
    for name in ("models", "schemas", "repositories", "services"):
        (tmp_path / "app" / name).mkdir()
    (tmp_path / "tests/api/rules").mkdir(parents=True)
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("Invoice", (), "snake_case"),
        ("in-voice", (), "snake_case"),
        ("../invoice", (), "snake_case"),
        ("invoice_", (), "snake_case"),
        ("class", (), "word of Python"),
        ("match", (), "word of Python"),
        ("item", (), "already"),
        ("session", (), "already"),
        ("response", (), "means something else"),
        ("resource", (), "means something else"),
        ("cursor", (), "means something else"),
        ("property", (), "means something else"),
        ("invoice", ("id",), "taken"),
        ("invoice", ("count:int",), "taken"),
        ("invoice", ("date:date",), "taken"),
        ("invoice", ("page",), "taken"),
        ("invoice", ("model_dump",), "taken"),
        ("invoice", ("title", "title"), "taken"),
        ("invoice", ("title:colour",), "no kind of field"),
        ("invoice", ("lambda:str",), "word of Python"),
        ("invoice", (":str",), "snake_case"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    sketch: Path, name: str, fields: tuple[str, ...], why: str
) -> None:
    before = contents(sketch)
    with pytest.raises(Refused, match=why):
        new_resource(sketch, name, fields)
    assert contents(sketch) == before


@pytest.mark.parametrize("plural", ["sheep", "items", "Sheeps", "events"])
def test_a_plural_that_cannot_be_is_refused(sketch: Path, plural: str) -> None:
    before = contents(sketch)
    with pytest.raises(Refused):
        new_resource(sketch, "sheep", plural=plural)
    assert contents(sketch) == before


def test_a_name_that_is_taken_by_a_file_is_refused(sketch: Path) -> None:
    (sketch / "app/schemas/invoices.py").touch()
    before = contents(sketch)
    with pytest.raises(Refused, match=r"app/schemas/invoices\.py is there already"):
        new_resource(sketch, "invoice")
    assert contents(sketch) == before


def test_a_main_that_lists_its_resources_in_another_way_is_refused(sketch: Path) -> None:
    (sketch / "app/main.py").write_text("RESOURCES = []\n")
    before = contents(sketch)
    with pytest.raises(Refused, match="main"):
        new_resource(sketch, "invoice")
    assert contents(sketch) == before


def test_what_fails_half_way_leaves_nothing(sketch: Path) -> None:
    shutil.rmtree(sketch / "tests")  # the last files' folder
    before = contents(sketch)
    with pytest.raises(FileNotFoundError):
        new_resource(sketch, "invoice")
    assert contents(sketch) == before


@pytest.mark.parametrize(
    ("name", "plural", "path"),
    [
        ("invoice", "invoices", "/invoices"),
        ("box", "boxes", "/boxes"),
        ("category", "categories", "/categories"),
        ("day", "days", "/days"),
        ("purchase_order", "purchase_orders", "/purchase-orders"),
    ],
)
def test_names_have_their_plural_and_path(sketch: Path, name: str, plural: str, path: str) -> None:
    new_resource(sketch, name)
    router = (sketch / f"app/routers/{plural}.py").read_text()
    assert f'APIRouter(prefix="{path}"' in router
    assert f"    {plural}.resource,\n" in (sketch / "app/main.py").read_text()
    assert list((sketch / "migrations/versions").glob(f"0002_{plural}.py"))


def test_a_plural_of_ones_own_is_taken(sketch: Path) -> None:
    new_resource(sketch, "person", plural="people")
    assert "class Person(" in (sketch / "app/models/people.py").read_text()


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not a checkout"):
        new_resource(tmp_path, "invoice")
