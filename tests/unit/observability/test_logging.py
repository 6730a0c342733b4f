"""What the log writes: one line an entry, nothing secret, nothing forged."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest

from app.clock import now
from app.observability.logging import configure_logging
from app.settings import Settings

Written = Callable[..., io.StringIO]

logger = logging.getLogger("kingpost.test")


@pytest.fixture
def written(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Written]:
    """Return a function that starts the log in a format and returns what it then writes to."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level

    def start(log_format: Literal["json", "pretty"], log_level: str = "info") -> io.StringIO:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging(
            make_settings(log_format=log_format, log_level=log_level),
            context=lambda: {"request_id": "r-1", "user_id": 7},
        )
        return stream

    yield start
    root.handlers, root.level = handlers, level


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines, each of which must be JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_entry_says_what_when_who_and_for_which_request(written: Written) -> None:
    stream = written("json")
    logger.info("request", extra={"fields": {"method": "GET", "status": 200, "route": None}})
    (entry,) = entries(stream)
    written_at = datetime.fromisoformat(entry.pop("timestamp"))
    assert abs(written_at - now()) < timedelta(minutes=1)
    assert entry == {
        "event": "request",
        "level": "info",
        "logger": "kingpost.test",
        "request_id": "r-1",
        "user_id": 7,
        "method": "GET",
        "status": 200,
        "route": None,
    }


def test_arguments_stand_in_their_places(written: Written) -> None:
    stream = written("json")
    logger.warning("redis is away: %s", "TimeoutError")
    assert entries(stream)[0]["event"] == "redis is away: TimeoutError"


@pytest.mark.parametrize("field", ["password", "new_password", "Authorization", "api_key"])
@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_a_secret_field_is_never_written(
    written: Written, field: str, log_format: Literal["json", "pretty"]
) -> None:
    stream = written(log_format)
    logger.info("request", extra={"fields": {field: "CANARY"}})
    assert "CANARY" not in stream.getvalue()
    assert "[redacted]" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_an_error_comes_with_its_traceback_and_without_the_values_of_variables(
    written: Written, log_format: Literal["json", "pretty"]
) -> None:
    stream = written(log_format)
    password = "".join(["CAN", "ARY"])  # as a handler holds one while something fails
    try:
        json.loads("{")
    except ValueError:
        logger.exception("unexpected error")
    assert "JSONDecodeError: Expecting" in stream.getvalue()
    assert "test_logging.py" in stream.getvalue()
    assert password not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_what_a_client_sends_can_not_forge_a_line(
    written: Written, log_format: Literal["json", "pretty"]
) -> None:
    stream = written(log_format)
    forged = "/\n2026-11-21 admin signed in\x1b[2J"
    logger.info("for %s", forged, extra={"fields": {"path": forged}})
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b[2J" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_text_that_is_no_unicode_is_written_all_the_same(
    written: Written, log_format: Literal["json", "pretty"]
) -> None:
    stream = written(log_format)
    logger.info("request", extra={"fields": {"path": "/caf\udce9", "client": object}})
    assert "Logging error" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 1
    stream.getvalue().encode()


def test_below_the_level_nothing_is_written(written: Written) -> None:
    stream = written("json")
    logger.debug("too fine")
    assert stream.getvalue() == ""


def test_a_driver_never_writes_what_its_statements_carry(written: Written) -> None:
    stream = written("json", log_level="debug")
    logging.getLogger("aiosqlite").debug("executing %s", ("$argon2id$v=19$CANARY",))
    logger.debug("fine")
    assert [entry["event"] for entry in entries(stream)] == ["fine"]


def test_a_pretty_line_has_the_message_and_its_fields(written: Written) -> None:
    stream = written("pretty")
    logger.info("request", extra={"fields": {"status": 200, "path": "/a b"}})
    line = stream.getvalue()
    assert "info" in line
    assert "request" in line
    assert "status=200" in line
    assert "path='/a b'" in line
    assert "\x1b[" not in line  # colours are for terminals
