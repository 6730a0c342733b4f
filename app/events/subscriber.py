"""One socket or stream: who listens, and what waits to be sent to it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from app.concurrency.mailbox import Mailbox
from app.events.channels import may_receive
from app.models.events import Event
from app.security.principal import Principal

POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER = 1008, 1012, 1013  # RFC 6455, 7.4; IANA
_PAUSE = 0.01  # seconds between looks whether a doubt has ended

Render = Callable[[str, Event], str]


@dataclass(eq=False, slots=True)
class Subscriber:
    """One socket or stream.

    The queue is bounded: whoever cannot keep up is cut off, and nobody else waits for them. While
    it is in doubt what somebody may do, events are held back, so that none is shown to one who lost
    the right to it a moment before.
    """

    principal: Principal | None
    render: Render
    limit: int
    channels: set[str] = field(default_factory=set)
    waiting: Mailbox[str | None] = field(default_factory=Mailbox)
    closing: asyncio.Future[int] = field(init=False)  # the code to close with, once it is to end
    key_ends: asyncio.TimerHandle | None = None  # when the API key that it came with does
    held: list[tuple[str, Event]] | None = None  # events while in doubt
    doubts: int = 0  # so far

    def __post_init__(self) -> None:
        self.closing = asyncio.get_running_loop().create_future()

    def offer(self, frame: str) -> None:
        """Queue a frame; a full queue ends the connection."""
        if self.closing.done():
            return
        if len(self.waiting) < self.limit:
            self.waiting.put_nowait(frame)
        else:
            self.cut_off(TRY_AGAIN_LATER)

    def cut_off(self, code: int) -> None:
        """End the connection, ahead of all that waits; `None` wakes a reader of the queue."""
        if self.closing.done():
            return
        self.closing.set_result(code)
        self.waiting.clear()
        self.waiting.put_nowait(None)

    def hold(self) -> None:
        """Hold events back from now on: what this one may do has to be looked up."""
        self.doubts += 1
        if self.held is None:
            self.held = []

    def hold_back(self, channel: str, event: Event) -> None:
        """Keep an event until the doubt has ended; as many as the queue could take."""
        if self.held is None or len(self.held) >= self.limit:
            self.cut_off(TRY_AGAIN_LATER)
        else:
            self.held.append((channel, event))

    def release(self) -> None:
        """End the doubt, and offer what was held back and may be had."""
        held, self.held = self.held or (), None
        for channel, event in held:
            if may_receive(self.principal, channel, event):
                self.offer(self.render(channel, event))

    async def certain(self) -> None:
        """Wait until there is no doubt, or the connection is to end."""
        while self.held is not None and not self.closing.done():  # noqa: ASYNC110 - it is rare
            await asyncio.sleep(_PAUSE)
