"""Keys with one purpose each, and cursors that only we can have made."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.errors import InvalidCursor

KEY_BYTES = 32
_TAG_BYTES = 16  # 128 bits: forging one takes 2^127 guesses
_VERSION = b"\x01"
MAX_CURSOR = 2048  # characters


def derive_key(secret: bytes, purpose: str) -> bytes:
    """Return the key for one purpose, so that no secret signs two kinds of thing (RFC 5869)."""
    derivation = HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=f"kingpost:{purpose}".encode())
    return derivation.derive(secret)


def encode_base64url(value: bytes) -> str:
    """Return base64url without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """Return the bytes of unpadded base64url; each value has one spelling only.

    Raises:
        ValueError: it is not base64url, or not the canonical spelling.
    """
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if encode_base64url(value) != text:
        raise ValueError("not canonical base64url")
    return value


class CursorSigner:
    """Makes and reads opaque cursors, each tied to a scope: the list's filter and sort."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._keys = [derive_key(each, "cursor") for each in secrets]

    def encode(self, payload: dict[str, Any], scope: str) -> str:
        """Return the cursor of a JSON payload for a scope."""
        body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
        return encode_base64url(_tag(self._keys[0], body, scope) + body)

    def decode(self, cursor: str, scope: str) -> dict[str, Any]:
        """Return the payload of a cursor.

        Raises:
            InvalidCursor: it was not made by us for this scope.
        """
        if len(cursor) > MAX_CURSOR:
            raise InvalidCursor
        try:
            raw = decode_base64url(cursor)
        except ValueError as error:
            raise InvalidCursor from error
        tag, body = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not any(hmac.compare_digest(tag, _tag(key, body, scope)) for key in self._keys):
            raise InvalidCursor
        payload: dict[str, Any] = json.loads(body)
        return payload


def _tag(key: bytes, body: bytes, scope: str) -> bytes:
    message = _VERSION + len(scope.encode()).to_bytes(4) + scope.encode() + body
    return hmac.digest(key, message, hashlib.sha256)[:_TAG_BYTES]
