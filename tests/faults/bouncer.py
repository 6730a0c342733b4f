"""A PgBouncer in transaction mode before the tests' PostgreSQL."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest

from tests.services import (
    accepts_connections,
    free_port,
    make_folder,
    readable,
    start_guarded,
    unprivileged_user,
    wait_until,
    write_private,
)

_PLACES = "/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"  # where it lies when it is not on the PATH


@contextmanager
def pgbouncer(postgres_url: str, *, connections: int, **options: str) -> Iterator[str]:
    """Lend the URL of the same database behind a PgBouncer with so many server connections."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path=_PLACES)
    if program is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    server = urlsplit(postgres_url)
    user, port = unprivileged_user(), free_port()
    folder = make_folder("kingpost-pgbouncer-", user)
    accounts, settings = folder / "users.txt", folder / "pgbouncer.ini"
    name, password = unquote(server.username or ""), unquote(server.password or "")
    write_private(accounts, f'"{name}" "{password}"\n', user)
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": str(accounts),
        "admin_users": name,
        "pool_mode": "transaction",
        "default_pool_size": str(connections),
        "max_client_conn": "500",
        **options,
    }
    text = "\n".join(f"{key} = {value}" for key, value in lines.items())
    databases = f"[databases]\n* = host={server.hostname} port={server.port or 5432}\n"
    write_private(settings, f"{databases}[pgbouncer]\n{text}\n", user)
    command = [str(readable(Path(program), folder / "programs", user)), str(settings)]
    process = start_guarded(command, folder, user=user, stop_signal="TERM")
    try:
        wait_until(lambda: accepts_connections(port), process, folder)
        host = server.netloc.rpartition("@")[0]
        yield urlunsplit(server._replace(netloc=f"{host}@127.0.0.1:{port}"))
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait(10)
