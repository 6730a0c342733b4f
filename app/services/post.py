"""Mails on their way: queued in the transaction of what they tell of, sent by a job after it.

What a mail says waits sealed in the table of jobs, its tokens and addresses included: who reads
that table, or a copy of it, or sees a job as an admin, can do nothing with it.
"""

import json
from dataclasses import dataclass, field

from app.adapters.database import Connection
from app.adapters.limits import Limits, RateLimiter
from app.clock import now
from app.mail.letters import Letter
from app.repositories.jobs import JobRepository
from app.security.names import folded
from app.security.opaque import digest
from app.security.sealing import Sealer

SEND = "mail.send"
ANSWER = "mail.answer"


@dataclass(frozen=True, slots=True)
class Order:
    """A letter that is to be sent, with what it says."""

    letter: Letter
    to: str
    facts: dict[str, str] = field(default_factory=dict)


class Post:
    """Queues mails, and bounds how many of them one address gets."""

    def __init__(self, sealer: Sealer, limiter: RateLimiter, limits: Limits | None) -> None:
        self._sealer = sealer
        self._limiter = limiter
        self._limits = limits  # of one kind to one address; None is no limit

    async def has_room(self, occasion: str, address: str) -> bool:
        """Count a mail that somebody wants sent; tell whether the address may have it.

        Each occasion is counted by itself, so that none keeps another's mails away.
        """
        if self._limits is None:
            return True
        key = f"{occasion}:{digest(folded(address))}"
        return (await self._limiter.hit("mail_to", self._limits, key)).allowed

    async def put(self, connection: Connection, letter: Letter, to: str, **facts: str) -> None:
        """Have a letter sent once the transaction is committed."""
        sealed = self.seal(Order(letter, to, facts))
        await JobRepository(connection).enqueue(SEND, {"sealed": sealed})

    async def put_aside(self, connection: Connection, letter: Letter, to: str) -> None:
        """Leave it to a job to find out whether anybody there should get this letter.

        So whoever asks for it waits for the same few statements, account or none.
        """
        sealed = self.seal(Order(letter, to))
        await JobRepository(connection).enqueue(ANSWER, {"sealed": sealed})

    def seal(self, order: Order) -> str:
        """Return an order as nobody else can read it."""
        return self._sealer.seal(json.dumps([order.letter, order.to, order.facts]))

    def open(self, sealed: str) -> Order:
        """Return the order that was sealed.

        Raises:
            ValueError: the secret that it was sealed by is gone.
        """
        letter, to, facts = json.loads(self._sealer.open(sealed))
        return Order(Letter(letter), to, facts)


def said_time() -> str:
    """Return the present as letters write it."""
    moment = now()
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"
