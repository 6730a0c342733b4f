"""Secrets that must be readable again: encrypted under a key that the database does not hold."""

import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.security.signing import decode_base64url, derive_key, encode_base64url

_NONCE_BYTES = 12  # NIST SP 800-38D, 8.2


class Unsealable(Exception):
    """What was sealed cannot be opened: under a key that is not there any more, or changed."""


class SecretSealer:
    """Seals under the current secret key, opens what was sealed under the previous one too.

    What is sealed is `1.KEY.BASE64URL`; KEY tells which key it needs, and nothing of it.
    """

    def __init__(self, purpose: str, secret: bytes, previous_secret: bytes | None = None) -> None:
        self._keys: dict[str, AESGCM] = {}
        for each in (secret, previous_secret):
            if each is not None:
                key = derive_key(each, purpose)
                self._keys.setdefault(hashlib.sha256(key).hexdigest()[:8], AESGCM(key))
        self._current = next(iter(self._keys))

    @property
    def mark(self) -> str:
        """How everything begins that is sealed under the current key."""
        return f"1.{self._current}."

    def seal(self, text: str, context: str) -> str:
        """Return text as it may be kept; it opens in the same context only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        box = self._keys[self._current].encrypt(nonce, text.encode(), context.encode())
        return self.mark + encode_base64url(nonce + box)

    def open(self, sealed: str, context: str) -> str:
        """Return what was sealed.

        Raises:
            Unsealable: the key is gone, or it was sealed in another context or changed.
        """
        _, key_name, box = sealed.split(".")
        key = self._keys.get(key_name)
        if key is None:
            raise Unsealable
        raw = decode_base64url(box)
        try:
            return key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], context.encode()).decode()
        except InvalidTag as error:
            raise Unsealable from error
