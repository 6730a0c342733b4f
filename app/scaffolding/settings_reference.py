"""Every setting as text: `.env.example` and the table of docs/configuration.md."""

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from app.settings import Settings

_HEADING = re.compile(r"# ── (.+?) ─+$", re.MULTILINE)
_FIELD = re.compile(r"^    (\w+): ", re.MULTILINE)

_ENV_HEAD = """\
# Every setting of Kingpost with its default; `kingpost settings --env` prints this file.
# Copy it to .env for development, or set the variables. Any of them can come from a file
# instead, such as a mounted secret: SECRET_KEY_FILE=/run/secrets/secret_key
"""


def env_example() -> str:
    """Return `.env.example`: each setting commented out, with what it means above it."""
    lines = [_ENV_HEAD]
    for heading, fields in _groups():
        lines.append(f"# ── {heading} " + "─" * (74 - len(heading)))
        for name, field in fields:
            lines.append(f"# {field.description}")
            lines.append(f"#{name.upper()}={_default(field)}")
        lines.append("")
    return "\n".join(lines)


def markdown_table() -> str:
    """Return the settings as tables for people."""
    lines = []
    for heading, fields in _groups():
        lines += [f"### {heading}", "", "| variable | default | meaning |", "|---|---|---|"]
        for name, field in fields:
            default = _default(field)
            shown = f"`{default}`" if default else "–"
            lines.append(f"| `{name.upper()}` | {shown} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def _groups() -> Iterator[tuple[str, list[tuple[str, FieldInfo]]]]:
    """Yield the settings under the headings of the file that defines them."""
    source = inspect.getsource(Settings)
    headings = list(_HEADING.finditer(source))
    for index, heading in enumerate(headings):
        end = headings[index + 1].start() if index + 1 < len(headings) else len(source)
        names = _FIELD.findall(source, heading.end(), end)
        known = Settings.model_fields
        yield heading[1], [(name, known[name]) for name in names if name in known]


def _default(field: FieldInfo) -> str:
    return _text(field.default)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return value.as_posix() if isinstance(value, Path) else str(value)
