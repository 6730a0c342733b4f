"""What one process holds, opened and closed by the lifespan; never a module global."""

import time
from dataclasses import dataclass, field

from app.adapters.cache import Cache
from app.adapters.database import Database
from app.adapters.limits import RateLimiter
from app.adapters.pubsub import PubSub
from app.adapters.redis import RedisLink
from app.events.hub import Hub
from app.events.tail import EventTail
from app.observability.metrics import Metrics
from app.security.passwords import PasswordHasher
from app.security.signing import CursorSigner
from app.security.tokens import TokenIssuer
from app.services.authentication import Authenticator
from app.settings import Settings
from app.version import VERSION


@dataclass(slots=True)
class Resources:
    """The parts of one process, each made once."""

    settings: Settings
    secret: bytes
    previous_secret: bytes | None
    metrics: Metrics
    db: Database
    redis: RedisLink | None
    pubsub: PubSub
    limiter: RateLimiter
    cache: Cache
    passwords: PasswordHasher
    tokens: TokenIssuer
    authenticator: Authenticator
    cursors: CursorSigner
    tail: EventTail
    hub: Hub
    version: str = VERSION
    is_draining: bool = False
    started_at: float = field(default_factory=time.monotonic)

    def uptime(self) -> float:
        """Return the seconds since the process was ready."""
        return time.monotonic() - self.started_at
