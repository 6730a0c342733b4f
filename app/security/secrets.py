"""The secret of a development machine: made on the first start, kept out of git, mode 600."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path


def development_secret(folder: Path) -> str:
    """Return the secret kept in a folder, making it if there is none yet.

    Two processes that start together get the same one: it is written whole under another name and
    linked into place, which only one of them can do.
    """
    path = folder / "secret_key"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder)  # mode 600 from the start
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(48))
            with contextlib.suppress(FileExistsError):  # another process was faster: use its secret
                os.link(temporary, path)
        finally:
            Path(temporary).unlink()
    path.chmod(0o600)
    return path.read_text().strip()
