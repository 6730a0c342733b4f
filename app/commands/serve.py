"""`kingpost serve` and `kingpost worker`: what runs until it is stopped."""

import asyncio
import errno
import socket
import sys

from app.commands.migrate import is_migrated, upgrade
from app.settings import Settings
from app.version import VERSION


def serve(settings: Settings) -> int:
    """Migrate and serve until stopped; return the exit code."""
    problem = _cannot_listen(settings)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    upgrade(settings)
    import uvicorn

    from app import server
    from app.commands.accounts import first_admin

    # The output of a production is kept, and no password belongs there.
    password = None if settings.is_production else asyncio.run(first_admin(settings))
    _greet(settings, password)
    uvicorn.run(
        "app.main:app",
        host=settings.host,
        port=settings.port,
        workers=1,  # else Uvicorn would read WEB_CONCURRENCY, which is Gunicorn's
        ws_ping_interval=settings.websocket_ping_seconds,
        timeout_graceful_shutdown=10,
        **server.OPTIONS,
    )
    return 0


def work(settings: Settings) -> int:
    """Run jobs until stopped; return the exit code."""
    if not is_migrated(settings):
        return 1
    import uvicorn

    from app.main import create_worker_app

    uvicorn.run(
        create_worker_app(settings),
        host=settings.host,
        port=settings.worker_port,
        workers=1,
        access_log=False,
        log_config=None,
    )
    return 0


def _cannot_listen(settings: Settings) -> str | None:
    """Return why nothing can listen on the port, before anything else is begun."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"Port {settings.port} is taken; choose another: PORT={settings.port + 1}"
            where = f"HOST={settings.host} PORT={settings.port}"
            return f"Nothing can listen on {where}: {error.strerror}"
    return None


def _greet(settings: Settings, password: str | None) -> None:
    database = "SQLite in " + str(settings.data_dir) if not settings.database_url else "PostgreSQL"
    redis = "Redis by URL" if settings.redis_url else "in-process parts instead of Redis"
    address = f"http://localhost:{settings.port}"
    print(f"Kingpost {VERSION}: {database}, {redis}.")
    print(f"Console: {address}/   API: {address}/docs   Health: {address}/health")
    if password:
        print("First admin: admin@example.com (username admin)")
        print(f"Its password, shown this once: {password}", flush=True)
