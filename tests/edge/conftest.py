"""nginx with the shipped configuration, before two instances of the service."""

import asyncio
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.api.test_production_start import environment
from tests.conftest import MakeSettings
from tests.processes import Service, gunicorn
from tests.services import free_port

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Edge:
    """nginx, and the two instances of the service behind it."""

    port: int
    plain_port: int
    services: list[Service]
    log: Path
    variables: dict[str, str]  # of the services

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    def client(self) -> httpx.AsyncClient:
        """Return a client to use in `async with`."""
        return httpx.AsyncClient(base_url=self.url, verify=False, timeout=20)


def trusting() -> ssl.SSLContext:
    """Return a context that believes the certificate made here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def configured(folder: Path, services: list[Service], port: int, plain_port: int) -> Path:
    """Return the shipped configuration with this machine's places and ports."""
    folder.chmod(0o755)
    certificate = [
        "-subj",
        "/CN=localhost",
        "-keyout",
        str(folder / "tls.key"),
        "-out",
        str(folder / "tls.crt"),
    ]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *certificate],
        check=True,
        capture_output=True,
    )
    upstream = (ROOT / "docker/nginx/upstream.conf").read_text()
    (folder / "upstream.conf").write_text(
        # A name with two addresses, as Compose has it, is as good as two lines.
        re.sub(
            r"    server api:8000 (.*)\n",
            "".join(rf"    server 127.0.0.1:{each.port} \1\n" for each in services),
            upstream,
        )
    )
    text = (ROOT / "docker/nginx/nginx.conf").read_text()
    for shipped, here in {
        "/tmp/": f"{folder}/",  # first: the others' places may be below it
        "/etc/nginx/upstream.conf": str(folder / "upstream.conf"),
        "/run/secrets/tls_certificate": str(folder / "tls.crt"),
        "/run/secrets/tls_key": str(folder / "tls.key"),
        "/dev/stdout": str(folder / "access.log"),
        "/dev/stderr": str(folder / "error.log"),
        "listen 8443": f"listen 127.0.0.1:{port}",
        "listen 8080": f"listen 127.0.0.1:{plain_port}",
        "listen 127.0.0.1:8081": f"listen 127.0.0.1:{free_port()}",
    }.items():
        text = text.replace(shipped, here)
    (folder / "nginx.conf").write_text(text)
    return folder / "nginx.conf"


def start(program: str, config: Path) -> subprocess.Popen[bytes]:
    """Check the configuration and serve it."""
    checked = subprocess.run(
        [program, "-t", "-c", config], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    return subprocess.Popen([program, "-c", config, "-g", "daemon off;"])


@pytest.fixture
async def edge(make_settings: MakeSettings, tmp_path: Path) -> AsyncIterator[Edge]:
    """Start it all."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "these tests need nginx (Debian: apt-get install nginx-light)"
    port, plain_port = free_port(), free_port()
    # As the shipped Compose file has it, only shorter.
    variables = environment(make_settings()) | {"DRAIN_SECONDS": "2"}
    async with AsyncExitStack() as stack:
        services = [
            stack.enter_context(gunicorn(name, "app.main:app", variables)) for name in ("a", "b")
        ]
        config = configured(tmp_path, services, port, plain_port)
        process = start(program, config)
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        edge = Edge(port, plain_port, services, tmp_path / "access.log", variables)
        async with edge.client() as client, asyncio.timeout(10):
            while True:
                try:
                    await client.get("/health/live")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield edge
