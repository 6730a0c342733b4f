"""How Uvicorn serves the app, the same in one process, under Gunicorn and in the tests."""

from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket, which also gets rid of a peer that has stopped reading.

    Uvicorn's own waits until the peer has read all before it writes a close frame, and after that
    until it has read the frame: one that never reads would be kept for good.
    """

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of the app; a close frame is not held back by what is unread."""
        if message["type"] != "websocket.close":
            await super().send(message)
            return
        self.writable.set()
        await super().send(message)
        self._abort_when_late()

    def keepalive_timeout(self) -> None:
        """End a connection whose pong did not come."""
        super().keepalive_timeout()
        self._abort_when_late()

    def _abort_when_late(self) -> None:
        if self.close_timer is not None:
            self.close_timer.cancel()
        if not self.disconnected:
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)


OPTIONS: dict[str, Any] = {
    "ws": WebSocketProtocol,
    "ws_per_message_deflate": False,  # 32 KiB a connection; with deflate it would be 128
    "ws_max_size": 2**20,  # the service answers 1009 from 64 KiB on; this is the net under it
    "server_header": False,
    "proxy_headers": False,  # the app believes its own list of proxies
    "access_log": False,  # the app writes its own
    "log_config": None,
}
