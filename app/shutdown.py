"""Hears of the end before the server does: streams must be told to come back while it still waits.

A server waits for its open connections before the lifespan ends, and an event stream never ends by
itself. So the handlers that the server has set for SIGTERM and SIGINT are wrapped.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def drain_on_signal(drain: Callable[[], None], delay_seconds: float) -> Iterator[None]:
    """Call `drain` on the loop when the process is told to end, then go on to the server's handler.

    With a delay the server goes on to accept for that long, so that load balancers can notice that
    it is not ready any more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # a test's server: nobody sends it signals
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        handler: Any = before[signal.Signals(number)]

        def go_on() -> None:
            if callable(handler):
                handler(number, frame)

        loop.call_soon_threadsafe(drain)
        if delay_seconds:
            loop.call_soon_threadsafe(loop.call_later, delay_seconds, go_on)
        else:
            go_on()

    wrapped = [number for number, handler in before.items() if callable(handler)]
    for number in wrapped:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in wrapped:
            if signal.getsignal(number) is handle:
                signal.signal(number, before[number])
