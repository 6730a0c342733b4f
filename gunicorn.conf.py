"""How Gunicorn serves Kingpost: `gunicorn -c gunicorn.conf.py app.main:app`."""

import contextlib
import ctypes
import faulthandler
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from app.cpus import usable_cpus


def _setting(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


def _number(name: str, default: int, *, least: int) -> int:
    text = _setting(name, str(default))
    if not text.isdecimal() or int(text) < least:
        sys.exit(f"{name} must be a number from {least} on")
    return int(text)


host = _setting("HOST", "0.0.0.0")  # a container is reached from outside
bind = f"{f'[{host}]' if ':' in host else host}:{_number('PORT', 8000, least=0)}"
# Without both of these one worker is all there may be: they are what workers share.
is_shared = all(
    _setting(name) or _setting(f"{name}_FILE") for name in ("DATABASE_URL", "REDIS_URL")
)
workers = _number("WEB_CONCURRENCY", usable_cpus() if is_shared else 1, least=1)
worker_class = "app.worker.KingpostWorker"
reuse_port = True  # each worker its own queue: a shared one can give all connections to one worker

# The timeout ladder: the worker's graceful end < Gunicorn's < the orchestrator's grace (60 s).
timeout = 30  # a worker whose loop stood still for this long is replaced
graceful_timeout = 40
keepalive = 75  # longer than the proxy in front keeps its connections (60 s)

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a heartbeat must not wait for a disk
worker_tmp_dir = _SHARED_MEMORY if Path(_SHARED_MEMORY).is_dir() else None
control_socket_disable = True
accesslog = None  # the service writes its own line
errorlog = "-"
backlog = 2048


def on_starting(_server: Any) -> None:
    """Give the workers an empty folder to share their metrics in, and memory back to the system.

    Left to itself, glibc learns from one large allocation at the start to keep all that is freed
    later: 20 MB a worker (mallopt(3), M_TRIM_THRESHOLD = -1; the value is glibc's own default).
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library has another way
        ctypes.CDLL(None).mallopt(-1, 128 * 1024)
    if workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="kingpost-metrics-")
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir(parents=True)


def post_worker_init(_worker: Any) -> None:
    """Let a worker whose loop stands still say where, when it is aborted for it."""
    faulthandler.enable()


def child_exit(_server: Any, worker: Any) -> None:
    """Count a dead worker's gauges no more."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)


def on_exit(_server: Any) -> None:
    """Remove the folder that `on_starting` made."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    if "kingpost-metrics-" in folder:
        shutil.rmtree(folder, ignore_errors=True)
