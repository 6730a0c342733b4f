"""One structured log for everything: JSON, or pretty on a terminal.

Our own two formatters and not structlog: with `rich` installed, as by the development tools, that
takes 4 MB a worker more and shows the values of all variables, passwords too, beside a traceback.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from app.settings import Settings

_SECRETS = ("password", "secret", "token", "authorization", "cookie", "api_key", "ticket")
_QUIET = ("uvicorn.access", "gunicorn.access")  # our own line says more
_TALKATIVE = {
    "aiosqlite": "INFO",  # logs every statement with its parameters: hashes, addresses
    "arq": "WARNING",  # two lines a job, and ours says more
}
_COLOURS = {"debug": 34, "info": 32, "warning": 33, "error": 31, "critical": 31}

Context = Callable[[], Mapping[str, Any]]


def configure_logging(settings: Settings, *, context: Context) -> None:
    """Send every logger of the process through one handler.

    `context` is a function that returns the fields of the request being served.
    """
    is_terminal = sys.stderr.isatty()
    is_pretty = settings.log_format == "pretty" or (settings.log_format == "auto" and is_terminal)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        PrettyLines(context, in_colour=is_terminal) if is_pretty else JsonLines(context)
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "gunicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    for name in _QUIET:
        logging.getLogger(name).disabled = True
    for name, least in _TALKATIVE.items():
        logging.getLogger(name).setLevel(least)


class JsonLines(logging.Formatter):
    """Writes an entry as one JSON object on one line."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            **_fields(record, self._context),
            "timestamp": _timestamp(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack_info"] = record.stack_info
        try:
            return to_json(entry, fallback=repr).decode()
        except PydanticSerializationError:  # lone surrogates, which have no UTF-8
            return json.dumps(entry, default=repr)


class PrettyLines(logging.Formatter):
    """Writes an entry for a person; what is not printable in it is escaped."""

    def __init__(self, context: Context, *, in_colour: bool) -> None:
        super().__init__()
        self._context = context
        self._in_colour = in_colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and a traceback's own lines indented under it."""
        level = record.levelname.lower()
        fields = " ".join(
            f"{_printable(name)}={_value(value)}"
            for name, value in _fields(record, self._context).items()
        )
        parts = [
            self._coloured(_timestamp(record), 2),
            self._coloured(f"{level:8}", _COLOURS.get(level, 0)),
            f"{_printable(record.getMessage()):30}",
            self._coloured(f"[{record.name}] {fields}", 36),
        ]
        further = [
            self.formatException(record.exc_info) if record.exc_info else "",
            record.stack_info or "",
        ]
        lines = [f"    {_printable(line)}" for text in further for line in text.splitlines()]
        return "\n".join([" ".join(parts), *lines])

    def _coloured(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._in_colour else text


def _fields(record: logging.LogRecord, context: Context) -> dict[str, Any]:
    """Return what is known of the request and what the entry says of itself, without secrets."""
    own: Mapping[str, Any] = getattr(record, "fields", {})
    return {
        name: "[redacted]" if _is_secret(name) else value
        for name, value in (*context().items(), *own.items())
    }


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _value(value: object) -> str:
    if not isinstance(value, str):
        return _printable(repr(value))
    is_plain = bool(value) and value.isprintable() and not set(value) & set(" ='\"")
    return value if is_plain else ascii(value)


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()


@lru_cache(1024)
def _is_secret(key: str) -> bool:
    return any(secret in key.lower() for secret in _SECRETS)
