"""Names and addresses are bounded by how they compare, which is longer for some letters."""

from collections.abc import Callable

import pytest

from app.security.names import email_fault, folded, username_fault

LETTER = "\ufdfa"  # compares as eighteen


@pytest.mark.parametrize(
    ("fault", "name", "width"),
    [
        (username_fault, LETTER * 11 + "xx", 200),
        (email_fault, f"a@{LETTER * 35}.example", 640),
    ],
    ids=["username", "address"],
)
def test_what_compares_as_more_than_its_column_holds_is_refused(
    fault: Callable[[str], str | None], name: str, width: int
) -> None:
    assert len(folded(name)) == width
    assert fault(name) is None
    assert fault(f"{name}x") == "It has letters that stand for too many others"
