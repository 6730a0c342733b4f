"""The page of promises names tests that exist, and says rightly which `make` runs them."""

import ast
import re

import pytest

from tests.docs.pages import ROOT, text_of

NAMED = re.findall(r"(\*?)`(tests/[\w/]+\.py)::(\w+)`", text_of(ROOT / "docs" / "quality.md"))


def is_system(module: ast.Module, function: ast.AST) -> bool:
    """Tell whether a test is left to `make test-system`, by its own mark or by its module's."""
    of_module = [each for each in module.body if isinstance(each, ast.Assign)]
    marks = [each for each in of_module if ast.unparse(each).startswith("pytestmark")]
    decorators = getattr(function, "decorator_list", [])
    return any(
        re.search(r"pytest\.mark\.system(?!\))", ast.unparse(each)) for each in marks
    ) or any(ast.unparse(each) == "pytest.mark.system" for each in decorators)


def test_every_promise_names_a_test() -> None:
    rows = re.findall(
        r"^\| (?!promise|---)(.*)$", text_of(ROOT / "docs" / "quality.md"), re.MULTILINE
    )
    assert len(rows) == 28
    assert all("`tests/" in row for row in rows)


@pytest.mark.parametrize(("star", "path", "name"), NAMED, ids=lambda value: value or "-")
def test_each_named_test_exists_and_runs_where_it_says(star: str, path: str, name: str) -> None:
    module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {each.name: each for each in module.body if hasattr(each, "name")}
    assert name in functions
    assert is_system(module, functions[name]) == bool(star)
