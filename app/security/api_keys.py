"""API keys: 256 random bits in letters that scanners recognise and a double click selects whole.

`kp_live_`, 43 letters of base 62 and 6 of a checksum over them (as GitHub's tokens have): a
scanner tells a key from a look-alike without asking us, and we refuse a typing error without
asking the database.
"""

import re
import secrets
import zlib

PREFIX = "kp_live_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BYTES = 32
_RANDOM, _CHECK = 43, 6  # letters of base 62 that hold 256 bits, and 32
_VISIBLE = len(PREFIX) + 6  # 36 bits of 256 tell keys apart and open nothing
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}")


def new_api_key() -> str:
    """Return a new key's secret."""
    text = _base62(int.from_bytes(secrets.token_bytes(_BYTES)), _RANDOM)
    return f"{PREFIX}{text}{_checksum(text)}"


def is_well_formed(secret: str) -> bool:
    """Tell whether a text can be a key at all."""
    if not _FORM.fullmatch(secret):
        return False
    return _checksum(secret[len(PREFIX) : -_CHECK]) == secret[-_CHECK:]


def visible_part(secret: str) -> str:
    """Return the beginning of a key, by which its owner recognises it later."""
    return secret[:_VISIBLE]


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECK)


def _base62(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        letters.append(_ALPHABET[rest])
    return "".join(reversed(letters))
