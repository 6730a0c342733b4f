"""Text that only this service can read, for where secrets must wait in the database."""

import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.security.signing import decode_base64url, derive_key, encode_base64url

_NONCE_BYTES = 12  # NIST SP 800-38D, section 8.2.2: random ones serve for 2^32 texts a key


class Sealer:
    """Seals text for one purpose (AES-256-GCM); opens what an earlier secret sealed as well."""

    def __init__(self, secrets: Sequence[bytes], purpose: str) -> None:
        self._purpose = purpose.encode()
        self._ciphers = [AESGCM(derive_key(secret, f"seal:{purpose}")) for secret in secrets]

    def seal(self, text: str) -> str:
        """Return the text, sealed by the current secret."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[0].encrypt(nonce, text.encode(), self._purpose)
        return encode_base64url(nonce + sealed)

    def open(self, sealed: str) -> str:
        """Return the text that was sealed.

        Raises:
            ValueError: it was not sealed for this purpose, by a secret that is still known.
        """
        raw = decode_base64url(sealed)
        for cipher in self._ciphers:
            try:
                text = cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], self._purpose)
            except InvalidTag:
                continue
            return text.decode()
        raise ValueError("not sealed by a secret that is known")
