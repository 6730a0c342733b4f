"""The service with one endpoint that does what must never be done: it holds the loop."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.main import create_app
from app.settings import Settings


async def hold_the_loop(_request: Request) -> Response:
    """Sleep, and let nobody else do anything."""
    time.sleep(60)  # noqa: ASYNC251 - that is the point
    return Response()


def __getattr__(name: str) -> Any:
    """Make the app when Gunicorn asks for it."""
    if name != "app":
        raise AttributeError(name)
    app = create_app(Settings())
    app.router.add_route("/hold", hold_the_loop)
    globals()["app"] = app
    return app
