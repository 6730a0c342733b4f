"""Opaque secrets: made here, shown once, kept only as a digest."""

import hashlib
import hmac
import secrets


def new_secret(prefix: str) -> str:
    """Return a new secret of 256 random bits behind a prefix that scanners can recognise."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> str:
    """Return what is kept of a secret. It has 256 random bits, so that no salt is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def keyed_digest(key: bytes, *parts: str) -> str:
    """Return a digest that only the key's owner can compute; parts cannot run into each other."""
    message = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
    return hmac.digest(key, message, hashlib.sha256).hex()
