"""A Docker engine, started by hand where none runs, with the images that Compose asks for."""

import ast
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = ROOT / "tests/system/docker"
DEBIAN = "debian:bookworm-slim"
BASE = "kingpost-test/python"  # the shipped Dockerfile's base: Debian's Python, this machine's pip
IMAGES = {
    "postgres": "postgres:15-bookworm",
    "redis": "redis:7-bookworm",
    "nginx": "nginx:1.26-bookworm",
    "prometheus": "prom/prometheus:v2.53.5",
    "alertmanager": "prom/alertmanager:v0.27.0",
}
GRAFANA = "grafana/grafana:11.2.0"  # Debian has none
_START_SECONDS = 30


class EngineMissing(RuntimeError):
    """There is no Docker engine; says what to install."""


class CommandFailed(RuntimeError):
    """A command of Docker failed; with its output."""


def run(command: Sequence[str], *, folder: Path = ROOT, timeout: float = 120, **env: str) -> str:
    """Run a command and return what it says on standard output.

    Raises:
        CommandFailed: it ended with another code than 0, or took longer than `timeout` seconds.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | env,
            capture_output=True,
            text=True,
            check=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError as error:
        raise CommandFailed(f"{command}: {error.stdout[-2000:]}{error.stderr[-4000:]}") from None
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{command}: took longer than {error.timeout} s") from None
    return done.stdout.strip()


def docker(*arguments: str, timeout: float = 120) -> str:
    """Run a command of Docker and return what it says."""
    return run(["docker", *arguments], timeout=timeout)


@contextmanager
def engine() -> Iterator[None]:
    """Use the engine that runs, or start one until the end of the block.

    Raises:
        EngineMissing: neither can be done here.
    """
    if shutil.which("docker") is None or not _succeeds("docker", "compose", "version"):
        raise EngineMissing(
            "these tests need Docker with its Compose 2 plugin "
            "(Debian: apt-get install docker.io, and docker-compose 2 of Debian 13)"
        )
    with contextlib.ExitStack() as stack:
        if not _succeeds("docker", "info"):
            stack.enter_context(_started_by_hand())
        yield


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


@contextmanager
def _started_by_hand() -> Iterator[None]:
    if shutil.which("dockerd") is None or os.geteuid():
        raise EngineMissing("no Docker engine answers; start one, or run this as root with dockerd")
    with tempfile.NamedTemporaryFile(prefix="kingpost-dockerd-") as log:
        process = subprocess.Popen(["dockerd"], stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _succeeds("docker", "info"):
                if process.poll() is not None or time.monotonic() > deadline:
                    end = Path(log.name).read_text(errors="replace")[-500:]
                    raise EngineMissing(f"dockerd does not start on this machine: {end}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(60)


def has_image(name: str) -> bool:
    """Tell whether an image is here, or can be had from its registry."""
    return _succeeds("docker", "image", "inspect", name) or _pulled(name)


def _pulled(name: str) -> bool:
    with contextlib.suppress(CommandFailed):
        docker("pull", "--quiet", name, timeout=600)
        return True
    return False


def make_images() -> None:
    """Have every image that the shipped files name; what no registry gives is made of Debian."""
    if not has_image(DEBIAN):
        _make_debian()
    with tempfile.TemporaryDirectory(prefix="kingpost-images-") as name:
        context = Path(name)
        shutil.copytree(STAND_INS, context, dirs_exist_ok=True)
        _write_pip_settings(context / "pip")
        _build(context, "python", BASE)
        for target, image in IMAGES.items():
            if not has_image(image):
                _build(context, target, image)


def _make_debian() -> None:
    if shutil.which("debootstrap") is None:
        raise EngineMissing("no registry answers, and debootstrap is missing: apt-get install it")
    with tempfile.TemporaryDirectory(prefix="kingpost-debian-") as name:
        system, archive = Path(name) / "system", Path(name) / "system.tar"
        run(["debootstrap", "--variant=minbase", "bookworm", str(system)], timeout=600)
        run(["tar", "--create", f"--file={archive}", f"--directory={system}", "."])
        docker("import", str(archive), DEBIAN)


def _write_pip_settings(folder: Path) -> None:
    """Give the build the index and the certificates that pip uses on this machine."""
    folder.mkdir()
    listed = run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    pairs = (line.split("=", 1) for line in listed)
    known = {name.rsplit(".", 1)[1]: ast.literal_eval(value) for name, value in pairs}
    lines = ["[global]"]
    if "index-url" in known:
        lines.append(f"index-url = {known['index-url']}")
    if "cert" in known:
        shutil.copy(known["cert"], folder / "cert.pem")
        lines.append("cert = /etc/pip/cert.pem")
    (folder / "pip.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _build(context: Path, target: str, image: str) -> None:
    docker("build", "--target", target, "--tag", image, str(context), timeout=900)
