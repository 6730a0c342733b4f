"""The Gunicorn worker: Uvicorn's, told how we want it."""

import gc
import os
import sys
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from uvicorn_worker import UvicornWorker

from app import server

LINGER_SECONDS = 0.5  # for requests that are on their way when the socket closes
LIFESPAN_SECONDS = 5  # what is left of Gunicorn's graceful timeout for closing what we hold


class KingpostWorker(UvicornWorker):  # type: ignore[misc]
    """Runs the app on uvloop and httptools, and ends within Gunicorn's graceful timeout."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        **server.OPTIONS,
        "loop": "uvloop",
        "timeout_graceful_shutdown": 30,  # below graceful_timeout, or the lifespan is cut off
    }

    def load_wsgi(self) -> None:
        """Load the app; refused settings end the start, a sentence each."""
        # Here and not above: what the master imports would outlive an upgrade by SIGHUP.
        from app.settings import Settings, refusals

        os.environ["WEB_CONCURRENCY"] = str(self.cfg.workers)  # whichever way Gunicorn was told
        try:
            settings = Settings()
        except ValueError as error:
            for sentence in refusals(error):
                self.log.error("Refused: %s", sentence)  # noqa: TRY400 - a traceback helps nobody
            sys.exit(Arbiter.APP_LOAD_ERROR)
        self.config.ws_ping_interval = settings.websocket_ping_seconds
        left = self.cfg.graceful_timeout - settings.drain_seconds - LIFESPAN_SECONDS
        self.config.timeout_graceful_shutdown = min(30, int(left))
        gc.disable()  # almost nothing of what is loaded is garbage, and looking takes 150 ms
        try:
            super().load_wsgi()
        finally:
            gc.enable()

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        serving = server.LingeringServer(self.config, LINGER_SECONDS)
        self._install_sigquit_handler()
        await serving.serve(sockets=self.sockets)
        if not serving.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
