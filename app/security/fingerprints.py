"""What tells whether two requests are the same, and nothing of what is in them."""

import hmac
from collections.abc import Sequence

from app.security.opaque import keyed_digest
from app.security.signing import derive_key


class Fingerprints:
    """Keyed digests of requests: without the key nobody can try what a request had in it.

    A registration has a password, which a fast digest at rest would give away.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._keys = [derive_key(each, "fingerprint") for each in secrets]

    def of(self, content: str) -> str:
        """Return what may be kept of a request's content."""
        return keyed_digest(self._keys[0], content)

    def matches(self, kept: str, content: str) -> bool:
        """Return whether this content is what was kept."""
        return any(hmac.compare_digest(kept, keyed_digest(key, content)) for key in self._keys)
