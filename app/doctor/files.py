"""What can be told of folders and files: who may read and write them, and how much fits in."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.doctor.finding import Finding, ok, warning, wrong
from app.settings import Settings

_MB = 1024 * 1024
_LEAST_FREE = 100 * _MB
_LITTLE_FREE = 1024 * _MB
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ALL = stat.S_IRWXG | stat.S_IRWXO
# Inside a container nobody else is there, and both Docker and Podman mount secrets readable.
_MOUNTED = Path("/run/secrets")


def examine_secret_files(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at each file that a setting is read from, and at `.env`."""
    named = [
        (name, Path(value))
        for name, value in sorted(environment.items())
        if name.endswith("_FILE") and name.removesuffix("_FILE").lower() in Settings.model_fields
    ]
    for name, path in [*named, (".env", Path(".env"))]:
        if path.is_file():
            yield _secret_file(name, path)


def _secret_file(name: str, path: Path) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS_WRITE:
        return wrong(name, f"{path} may be written by others ({mode:o})", f"chmod 600 {path}")
    if mode & stat.S_IROTH and _MOUNTED not in path.resolve().parents:
        return warning(name, f"{path} may be read by everybody ({mode:o})", f"chmod 600 {path}")
    return ok(name, f"{path}, mode {mode:o}")


def examine_folders(settings: Settings) -> Iterator[Finding]:
    """Look at DATA_DIR, the secrets in it, and the folder of uploaded files."""
    folder = settings.data_dir
    yield from _folder("DATA_DIR", folder)
    yield from _kept_secrets("DATA_DIR/secrets", folder / "secrets", _OTHERS_ALL)
    if settings.signing_keys_dir is not None:  # a mounted one may be its group's
        others = stat.S_IRWXO | stat.S_IWGRP
        yield from _kept_secrets("SIGNING_KEYS_DIR", settings.signing_keys_dir, others)
    if settings.files_dir is not None and settings.s3_bucket is None:
        yield from _folder("FILES_DIR", settings.files_dir)


def _folder(name: str, folder: Path) -> Iterator[Finding]:
    if folder.exists() and not folder.is_dir():
        yield wrong(name, f"{folder} is no folder", f"choose another {name}, or remove the file")
        return
    there = _nearest(folder)
    problem = _cannot_write(there)
    if problem:
        yield wrong(name, f"nothing can be written in {there}: {problem}", _give(folder))
        return
    mode = stat.S_IMODE(folder.stat().st_mode) if folder.exists() else 0o700
    if mode & _OTHERS_WRITE:
        yield wrong(name, f"{folder} may be written by others ({mode:o})", f"chmod 700 {folder}")
    else:
        yield ok(name, f"{folder}, {f'mode {mode:o}' if folder.exists() else 'not made yet'}")
    yield _free_space(name, there)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the one that it would be made in."""
    absolute = folder.absolute()
    return next(each for each in (absolute, *absolute.parents) if each.is_dir())


def _cannot_write(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _give(folder: Path) -> str:
    return f"give it to the service's user: chown {os.geteuid()} {folder}, or mount it writable"


def _free_space(name: str, folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    check, said = f"{name} space", f"{free // _MB} MB are free in {folder}"
    if free < _LEAST_FREE:
        return wrong(check, said, "make room, or mount something larger there")
    if free < _LITTLE_FREE:
        return warning(check, said, "make room, or mount something larger there")
    return ok(check, said)


def _kept_secrets(name: str, folder: Path, others: int) -> Iterator[Finding]:
    if not folder.is_dir():
        return
    for path in (folder, *sorted(folder.iterdir())):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & others:
            least = "700" if path.is_dir() else "600"
            yield wrong(name, f"{path} is open to others ({mode:o})", f"chmod {least} {path}")
