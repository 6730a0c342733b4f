"""The service that the documents' examples are run against, and how they are run."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.patience import PATIENCE
from tests.system.browser import Service

SEPARATOR = "\x1e"
_ADDRESS = "localhost:8000"


@contextmanager
def as_make_run_starts_it(folder: Path) -> Iterator[Service]:
    """Run the service embedded, in a folder of its own, on a port of its own."""
    service = Service(folder)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def at(script: str, service: Service) -> str:
    """Return a script that calls this service; nothing else of it is another."""
    return script.replace(_ADDRESS, service.origin.removeprefix("http://"))


def between_paragraphs(script: str) -> str:
    """Return a script that tells apart what each of its paragraphs prints."""
    return re.sub(r"\n\n+", "\nprintf '\\\\036\\\\n'\n", script.strip("\n"))


def run(command: str, script: str, service: Service) -> str:
    """Run a script by `sh` or `python`, to its end; return what it printed.

    Raises:
        AssertionError: it failed.
    """
    programs = {"sh": ["sh", "-eu", "-c"], "python": [sys.executable, "-c"]}
    done = subprocess.run(
        [*programs[command], at(script, service)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout
