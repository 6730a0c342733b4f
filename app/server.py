"""How Uvicorn serves the app, the same in one process, under Gunicorn and in the tests."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
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


class LingeringServer(uvicorn.Server):
    """Uvicorn's server, which at its end loses no request that is on its way already.

    Uvicorn's own closes the socket with whoever stands in its queue, and kept connections with
    what their clients have just sent: both see a reset, and a proxy may not repeat a POST for it.
    """

    def __init__(self, config: uvicorn.Config, linger_seconds: float) -> None:
        super().__init__(config)
        self._linger_seconds = linger_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take in the socket's queue, close it, serve on for a moment, then end as Uvicorn does."""
        if sockets:
            queued = [client for each in sockets for client in _queue_of(each)]
            for server in self.servers:
                server.close()
            for each in sockets:
                each.close()
            loop = asyncio.get_running_loop()
            for client in queued:
                await loop.connect_accepted_socket(self._protocol, client)
            await asyncio.sleep(self._linger_seconds)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def _queue_of(listener: socket.socket) -> Iterator[socket.socket]:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # nobody is left
            return
        client.setblocking(False)
        yield client


OPTIONS: dict[str, Any] = {
    "ws": WebSocketProtocol,
    "ws_per_message_deflate": False,  # 32 KiB a connection; with deflate it would be 128
    "ws_max_size": 2**20,  # the service answers 1009 from 64 KiB on; this is the net under it
    "server_header": False,
    "proxy_headers": False,  # the app believes its own list of proxies
    "access_log": False,  # the app writes its own
    "log_config": None,
}
