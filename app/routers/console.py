"""The page at `/` and its assets."""

from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).resolve().parents[1] / "console"


def mount_console(app: FastAPI) -> None:
    """Serve the console."""
    app.mount("/console", StaticFiles(directory=_FOLDER), name="console")
