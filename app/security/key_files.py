"""Signing keys as files: a folder of PEM files, each named for the moment from which it signs.

`20261121T081500Z.pem` is all that there is to say of a key: no list has to be kept beside it, and a
Kubernetes secret can hold the folder as it is.
"""

import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.security.keys import SigningKey, key_of_pem

ALGORITHMS = ("ES256", "RS256")
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"\d{8}T\d{6}Z\.pem")
_RSA_BITS = 2048  # as RFC 7518 asks; 3072 would cost the event loop 2 ms for each token

State = tuple[tuple[str, int, int, int, int], ...]


def read_keys(folder: Path) -> list[SigningKey]:
    """Return the keys of a folder, in the order in which they sign.

    Raises:
        ValueError: there is none, or one cannot be used; the message names its file.
        OSError: the folder or a file cannot be read.
    """
    paths = _paths(folder)
    if not paths:
        raise ValueError(f"{folder} holds no key; make one: kingpost keys generate")
    keys = []
    for path in paths:
        try:
            keys.append(key_of_pem(path.read_bytes(), signs_from(path)))
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    return keys


def state_of(folder: Path) -> State:
    """Return what changes whenever a file of the folder does; cheap enough for every few seconds.

    Raises:
        OSError: the folder or a file cannot be read.
    """
    stats = [(path.name, path.stat()) for path in _paths(folder)]
    return tuple(
        (name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        for name, stat in stats
    )


def signs_from(path: Path) -> datetime:
    """Return the moment that a file is named for.

    Raises:
        ValueError: it is not named for one.
    """
    if not _NAME.fullmatch(path.name):
        raise ValueError("name it for the moment from which it signs: 20261121T081500Z.pem")
    return datetime.strptime(path.stem, _TIME).replace(tzinfo=UTC)


def write_key(folder: Path, algorithm: str, moment: datetime) -> Path:
    """Make a new key that signs from a moment on, readable by its owner alone; return its file.

    It appears whole or not at all: a process that looks meanwhile sees no half of it.

    Raises:
        FileExistsError: a key that signs from that very second is there.
    """
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if algorithm == "ES256":
        private = ec.generate_private_key(ec.SECP256R1())
    else:
        private = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{moment.strftime(_TIME)}.pem"
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".")  # mode 600 from the start
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        os.link(temporary, path)
    finally:
        Path(temporary).unlink()
    return path


def _paths(folder: Path) -> list[Path]:
    # Kubernetes keeps folders of its own here, whose names begin with a dot.
    return sorted(
        path for path in folder.iterdir() if path.suffix == ".pem" and path.name[0] != "."
    )
