"""The Gunicorn worker: Uvicorn's, told how we want it."""

from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker

from app import server


class KingpostWorker(UvicornWorker):  # type: ignore[misc]
    """Runs the app on uvloop and httptools, and ends within Gunicorn's graceful timeout."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        **server.OPTIONS,
        "loop": "uvloop",
        "http": "httptools",
        "ws_ping_interval": 20.0,
        "timeout_graceful_shutdown": 30,  # below graceful_timeout, or the lifespan is cut off
    }
