"""Text that only this service can read, for where secrets must wait in the database."""

import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.security.opaque import digest
from app.security.signing import decode_base64url, derive_key, encode_base64url

_NONCE_BYTES = 12  # NIST SP 800-38D, section 8.2.2: random ones serve for 2^32 texts a key


class Unsealable(ValueError):
    """It was sealed by a secret that is gone, for another purpose or place, or was changed."""


class Sealer:
    """Seals text for one purpose (AES-256-GCM); opens what an earlier secret sealed as well.

    Each seal names its key, so that what an earlier secret sealed can be found and sealed anew. A
    `place`, such as whose row it is in, binds it there: moved elsewhere, it does not open.
    """

    def __init__(self, secrets: Sequence[bytes], purpose: str) -> None:
        keys = [derive_key(secret, f"seal:{purpose}") for secret in secrets]
        self._ciphers = {digest(key.hex())[:8]: AESGCM(key) for key in keys}
        self._current = next(iter(self._ciphers))

    @property
    def prefix(self) -> str:
        """What everything begins with that the current secret sealed."""
        return f"{self._current}."

    def seal(self, text: str, place: str = "") -> str:
        """Return the text, sealed by the current secret."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, text.encode(), place.encode())
        return self.prefix + encode_base64url(nonce + sealed)

    def open(self, sealed: str, place: str = "") -> str:
        """Return the text that was sealed.

        Raises:
            Unsealable: not for this purpose and place, by a secret that is still known.
        """
        key_id, _, body = sealed.partition(".")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise Unsealable("not sealed by a secret that is known")
        try:
            raw = decode_base64url(body)
            text = cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise Unsealable("not what was sealed here") from error
        return text.decode()
