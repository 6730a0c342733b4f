"""One structured log for everything: JSON, or pretty on a terminal."""

import logging
import sys
from functools import lru_cache
from typing import Any

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict, Processor, WrappedLogger

from app.settings import Settings

_SECRETS = ("password", "secret", "token", "authorization", "cookie", "api_key", "ticket")
_QUIET = ("uvicorn.access", "gunicorn.access")  # our own line says more


def configure_logging(settings: Settings, *, context: Any) -> None:
    """Send every logger of the process through one handler.

    `context` is a function that returns the fields of the request being served.
    """

    def add_context(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
        record: logging.LogRecord = entry["_record"]
        return {**entry, **context(), **getattr(record, "fields", {})}

    processors: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        add_context,
        _redact,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    is_pretty = settings.log_format == "pretty" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    renderers: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if is_pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "gunicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    for name in _QUIET:
        logging.getLogger(name).disabled = True


def _redact(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    for key in entry:
        if _is_secret(key):
            entry[key] = "[redacted]"
    return entry


@lru_cache(1024)
def _is_secret(key: str) -> bool:
    return any(secret in key.lower() for secret in _SECRETS)


def _json(entry: EventDict, **_: Any) -> str:
    return to_json(entry, fallback=repr).decode()
