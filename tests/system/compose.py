"""The shipped Compose file, brought up unmodified from a copy of what is shipped."""

import json
import shutil
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.services import free_port
from tests.system.docker_engine import BASE, ROOT, docker, run

SHIPPED = (
    ".dockerignore",
    "Dockerfile",
    "LICENSE",
    "alembic.ini",
    "app",
    "docker",
    "docker-compose.yml",
    "gunicorn.conf.py",
    "migrations",
    "pyproject.toml",
    "requirements.lock",
)
PROJECT = "kingpost-test"
DRAINED_WITHIN = 60.0  # seconds: `stop_grace_period`
_UP_SECONDS = 240.0


@dataclass
class Stack:
    """The services of the file, as containers."""

    folder: Path
    http_port: int
    https_port: int
    grafana_port: int
    development_port: int

    def compose(self, *arguments: str, timeout: float = _UP_SECONDS) -> str:
        """Run a command of Compose on the shipped file."""
        ports = {
            "HTTP_PORT": str(self.http_port),
            "HTTPS_PORT": str(self.https_port),
            "GRAFANA_PORT": str(self.grafana_port),
            "PORT": str(self.development_port),
        }
        command = ["docker", "compose", "--project-name", PROJECT, "--profile", "monitoring"]
        return run([*command, *arguments], folder=self.folder, timeout=timeout, **ports)

    def build(self) -> None:
        """Build the shipped Dockerfile on a base made here."""
        self.compose("build", "--quiet", "--build-arg", f"BASE={BASE}", "api", timeout=900)

    def up(self, *services: str) -> None:
        """Start services with all that they need, and wait until they are healthy."""
        self.compose("up", "--wait", "--no-build", *services)

    def containers(self, service: str) -> list[str]:
        """Return the names of a service's containers."""
        listed = self.compose("ps", "--all", "--format", "{{.Name}}", service)
        return sorted(listed.split())

    def container(self, service: str) -> str:
        """Return the name of a service's first container."""
        return self.containers(service)[0]

    def execute(self, service: str, *command: str) -> str:
        """Run a command inside a service's first container."""
        return docker("exec", self.container(service), *command)

    def address(self, container: str) -> str:
        """Return a container's address on the inner network."""
        networks = inspect(container)["NetworkSettings"]["Networks"]
        return str(networks[f"{PROJECT}_inside"]["IPAddress"])

    def client(self) -> httpx.AsyncClient:
        """Return a client of nginx that trusts only the certificate that was made."""
        trust = ssl.create_default_context(cafile=self.folder / "docker/secrets/tls.crt")
        url = f"https://localhost:{self.https_port}"
        return httpx.AsyncClient(base_url=url, verify=trust, timeout=60)


def inspect(name: str) -> Any:
    """Return what the engine knows of a container, an image or a network."""
    return json.loads(docker("inspect", name))[0]


def until(met: Callable[[], bool], *, within: float, what: str) -> None:
    """Wait until a condition is met."""
    deadline = time.monotonic() + within
    while not met():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.2)


def is_healthy(container: str) -> bool:
    """Tell whether the engine has found a container healthy."""
    return bool(inspect(container)["State"].get("Health", {}).get("Status") == "healthy")


@contextmanager
def compose_stack(folder: Path, services: Sequence[str]) -> Iterator[Stack]:
    """Build the image and bring up services until the end of the block."""
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "secrets")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    run(["sh", "docker/make-secrets.sh"], folder=folder)
    stack = Stack(folder, *(free_port() for _ in range(4)))
    try:
        stack.build()
        stack.up(*services)
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")
