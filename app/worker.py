"""The Gunicorn worker: Uvicorn's, told how we want it."""

from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker


class KingpostWorker(UvicornWorker):  # type: ignore[misc]
    """Runs the app on uvloop and httptools, and ends within Gunicorn's graceful timeout."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": "httptools",
        "ws": "websockets-sansio",  # 32 KiB a connection; with deflate it would be 128
        "ws_per_message_deflate": False,
        "ws_max_size": 2**20,  # the service answers 1009 from 64 KiB on; this is the net under it
        "ws_ping_interval": 20.0,
        "server_header": False,
        "proxy_headers": False,  # the app believes its own list of proxies
        "access_log": False,
        "timeout_graceful_shutdown": 30,  # below graceful_timeout, or the lifespan is cut off
    }
