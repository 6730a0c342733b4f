"""`kingpost keys`: makes, rotates and lists the keys that sign access tokens."""

import argparse
import sys
from datetime import datetime, timedelta
from pathlib import Path

from app.clock import now
from app.resources import open_keys
from app.security.key_files import ALGORITHMS, read_keys, signs_from, write_key
from app.security.keys import KeyRing, SigningKey, keys_of_secrets
from app.settings import Settings

_DEFAULT_ALGORITHM = ALGORITHMS[0]
_MAX_WAIT_MINUTES = 24 * 60


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Run one of them; return its exit code: 0 done, 1 failed, 2 refused."""
    folder = settings.signing_keys_dir
    if folder is None:
        return _refuse("SIGNING_KEYS_DIR is not set: name the folder of the keys there")
    if not 0 <= options.after <= _MAX_WAIT_MINUTES:
        return _refuse(f"--after takes 0 to {_MAX_WAIT_MINUTES} minutes")
    moment = now()
    from_then = moment + timedelta(minutes=options.after)
    try:
        if options.act == "generate":
            algorithm = options.algorithm or _DEFAULT_ALGORITHM
            return _generate(folder, algorithm, from_then)
        # Which secret stands before the files makes no difference here, and none is needed.
        ring, keys = open_keys(settings, keys_of_secrets(b"")), read_keys(folder)
        if options.act == "list":
            return _list(folder, ring, keys, moment)
        return _rotate(folder, ring, keys, options.algorithm, moment, from_then)
    except (OSError, ValueError) as error:
        print(f"The keys cannot be used: {error}", file=sys.stderr)
        return 1


def _generate(folder: Path, algorithm: str, from_then: datetime) -> int:
    if folder.is_dir() and any(folder.glob("*.pem")):
        return _refuse(f"{folder} holds keys already; a new one: kingpost keys rotate")
    _announce(write_key(folder, algorithm, from_then))
    return 0


def _rotate(
    folder: Path,
    ring: KeyRing,
    keys: list[SigningKey],
    algorithm: str | None,
    moment: datetime,
    from_then: datetime,
) -> int:
    if keys[-1].signs_from > moment:
        return _refuse(f"a successor waits already, until {_written(keys[-1].signs_from)}")
    run_out = [key for key in keys if ring.has_run_out(key, moment)]
    _announce(write_key(folder, algorithm or keys[-1].algorithm, from_then))
    for path in sorted(folder.glob("[!.]*.pem")):
        if any(key.signs_from == signs_from(path) for key in run_out):
            path.unlink()
            print(f"Removed {path.name}: its last token has run out.")
    return 0


def _list(folder: Path, ring: KeyRing, keys: list[SigningKey], moment: datetime) -> int:
    print(f"Keys in {folder}:")
    signing = ring.signing_key(moment)
    for key in keys:
        until = ring.verifies_until(key)
        if key.signs_from > moment:
            state = f"published; signs from {_written(key.signs_from)}"
        elif key.kid == signing.kid:
            state = "signs"
        elif ring.has_run_out(key, moment):
            state = "has run out; the next rotation removes it"
        else:
            state = f"verifies until {_written(until)}" if until else "verifies"
        print(f"  {key.kid}  {key.algorithm}  {state}")
    if signing.jwk is None:
        print(f"Until then SECRET_KEY signs ({signing.algorithm}).")
    return 0


def _announce(path: Path) -> None:
    print(f"Made {path}: it signs from {_written(signs_from(path))} on.")
    print("Hand the folder to every process before that time; they look for it by themselves.")


def _written(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _refuse(sentence: str) -> int:
    print(f"Refused: {sentence}.", file=sys.stderr)
    return 2
