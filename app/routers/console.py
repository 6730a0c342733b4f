"""The page at `/` and its assets."""

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_FOLDER = Path(__file__).resolve().parents[1] / "console"


class ConsoleFiles(StaticFiles):
    """Files that a browser may keep, if it asks each time whether they are still the same."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, or 304 where the browser has it."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def mount_console(app: FastAPI) -> None:
    """Serve the console."""
    console = ConsoleFiles(directory=_FOLDER)

    async def page(request: Request) -> Response:
        return await console.get_response("index.html", request.scope)

    app.router.add_route("/", page, include_in_schema=False)
    app.mount("/console", console, name="console")
