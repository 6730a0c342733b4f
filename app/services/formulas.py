"""Keeps text in a CSV file from being run as a formula by a spreadsheet (OWASP: CSV injection).

A cell that begins like a formula gets an apostrophe in front, which spreadsheets take for "this is
text". So does one that already begins with apostrophes and then a formula, and one of nothing but
apostrophes, or of nothing: an empty cell would be null. Taking one apostrophe away again gives back
exactly what there was.
"""

import re

# What Excel, LibreOffice and Google Sheets start a formula at, full-width forms included.
_FORMULA = re.compile(r"'*(?:[=+\-@\t\r\n＝＋－＠]|\Z)")  # noqa: RUF001
_GUARDED = re.compile(r"'+(?:[=+\-@\t\r\n＝＋－＠]|\Z)")  # noqa: RUF001


def guard(text: str) -> str:
    """Return text as a cell that no spreadsheet runs."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguard(cell: str) -> str:
    """Return the text that `guard` made this cell of."""
    return cell[1:] if _GUARDED.match(cell) else cell
