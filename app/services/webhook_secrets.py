"""What webhooks are signed with: sealed at rest, opened to sign, sealed anew in time."""

import contextlib
from typing import Any

from app.adapters.database import Database
from app.clock import now
from app.models.webhooks import WebhookEndpoint
from app.repositories.webhooks import WebhookRepository
from app.security.sealing import Sealer, Unsealable


class WebhookSecrets:
    """Seals and opens the secrets of endpoints."""

    def __init__(self, db: Database, sealer: Sealer) -> None:
        self._db = db
        self._sealer = sealer

    def seal(self, owner_id: int, secret: str) -> str:
        """Return a secret as it is kept; moved to another account's endpoint it does not open."""
        return self._sealer.seal(secret, _place(owner_id))

    def signing(self, endpoint: WebhookEndpoint) -> list[str]:
        """Return what an endpoint's messages are signed with: two secrets while it rotates.

        Raises:
            Unsealable: the current one cannot be read any more.
        """
        place = _place(endpoint.owner_id)
        opened = [self._sealer.open(endpoint.secret, place)]
        if endpoint.previous_secret and (endpoint.previous_expires_at or now()) > now():
            with contextlib.suppress(Unsealable):  # perhaps that is why it was rotated
                opened.append(self._sealer.open(endpoint.previous_secret, place))
        return opened

    async def reseal(self) -> int:
        """Seal anew what is sealed under the previous SECRET_KEY; return how many endpoints."""
        async with self._db.read() as connection:
            found = await WebhookRepository(connection).sealed_otherwise(self._sealer.prefix)
        resealed = 0
        for endpoint in found:
            values = self._resealed(endpoint)
            if values is not None:
                async with self._db.transaction() as connection:
                    await WebhookRepository(connection).reseal(endpoint, values)
                resealed += 1
        return resealed

    def _resealed(self, endpoint: WebhookEndpoint) -> dict[str, Any] | None:
        secret = self._anew(endpoint, endpoint.secret)
        if secret is None:
            return None  # the key is gone; its owner sees it in the log, and rotates
        previous = endpoint.previous_secret
        return {
            "secret": secret,
            "previous_secret": self._anew(endpoint, previous) if previous else None,
        }

    def _anew(self, endpoint: WebhookEndpoint, sealed: str) -> str | None:
        place = _place(endpoint.owner_id)
        try:
            return self._sealer.seal(self._sealer.open(sealed, place), place)
        except Unsealable:
            return None


def _place(owner_id: int) -> str:
    return f"webhook of user {owner_id}"
