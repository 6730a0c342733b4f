"""Secrets that must be read again: encrypted at rest with a key that the database does not hold.

AES-256-GCM under a key derived from SECRET_KEY. Each seal names its key, so that what an older one
sealed can be found and sealed anew, and is bound to its place: moved elsewhere, it does not open.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.security.opaque import digest
from app.security.signing import decode_base64url, derive_key, encode_base64url

_NONCE_BYTES = 12  # NIST SP 800-38D, 5.2.1.1; random, as each secret is sealed a few times at most


class Unsealable(ValueError):
    """It was sealed with a key that is gone, for another place, or was tampered with."""


class Sealer:
    """Seals with the current key and opens with it or the one before."""

    def __init__(self, purpose: str, secret: bytes, previous: bytes | None = None) -> None:
        keys = [derive_key(each, f"sealed:{purpose}") for each in (secret, previous) if each]
        self._keys = {digest(key.hex())[:8]: AESGCM(key) for key in keys}
        self._current = next(iter(self._keys))

    @property
    def prefix(self) -> str:
        """What everything begins with that the current key sealed."""
        return f"{self._current}."

    def seal(self, secret: str, place: str) -> str:
        """Return a secret as it may be stored, in this place alone."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self._current].encrypt(nonce, secret.encode(), place.encode())
        return self.prefix + encode_base64url(nonce + sealed)

    def open(self, sealed: str, place: str) -> str:
        """Return what was sealed for this place.

        Raises:
            Unsealable: no key of ours opens it here.
        """
        key_id, _, body = sealed.partition(".")
        key = self._keys.get(key_id)
        if key is None:
            raise Unsealable("sealed with another key")
        try:
            raw = decode_base64url(body)
            return key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise Unsealable("not what was sealed here") from error
