"""Links that stand for a right of their own until they expire, and that only we can have made."""

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from app.clock import now
from app.errors import InvalidSignature
from app.security.opaque import keyed_digest
from app.security.signing import derive_key


class Right(StrEnum):
    """What a link lets its bearer do; never good for anything else."""

    DOWNLOAD = "download"
    UPLOAD = "upload"


class LinkSigner:
    """Signs what a link is for: a right, a thing, and the second at which it ends."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._keys = [derive_key(each, "link") for each in secrets]

    def sign(
        self, right: Right, thing: str, lifetime: timedelta
    ) -> tuple[dict[str, str], datetime]:
        """Return the query of a link, and when it expires."""
        expires_at = (now() + lifetime).replace(microsecond=0)
        expires = str(int(expires_at.timestamp()))
        signature = keyed_digest(self._keys[0], right, thing, expires)
        return {"expires": expires, "signature": signature}, expires_at

    def check(self, right: Right, thing: str, expires: int, signature: str) -> None:
        """Let a link pass that we made for this and that has not expired.

        Raises:
            InvalidSignature: it is not one.
        """
        wanted = (keyed_digest(key, right, thing, str(expires)) for key in self._keys)
        given = signature.encode("utf-8", "replace")
        is_ours = any(hmac.compare_digest(each.encode(), given) for each in wanted)
        if not is_ours or expires <= now().timestamp():
            raise InvalidSignature
