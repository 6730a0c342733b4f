"""Signatures of webhooks, by the Standard Webhooks scheme (standardwebhooks.com, version 1)."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

_PREFIX = "whsec_"
_KEY_BYTES = 32  # the scheme asks for 24 to 64


def new_signing_secret() -> str:
    """Return a new secret, as it is shown to who verifies with it."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def signed_headers(
    message_id: str, timestamp: int, body: bytes, signing_secrets: Iterable[str]
) -> dict[str, str]:
    """Return the headers that prove a message; with several secrets, a signature by each."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(signed, each) for each in signing_secrets),
    }


def _signature(signed: bytes, signing_secret: str) -> str:
    key = base64.b64decode(signing_secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
