"""How Uvicorn serves the app, the same in one process, under Gunicorn and in the tests."""

import asyncio
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from app.concurrency.mailbox import Mailbox
from app.http_protocol import HttpProtocol

MAX_MESSAGE = 64 * 1024  # bytes of a WebSocket message
_ACCEPTED_A_TURN = 16  # each costs a tenth of a millisecond
_MOST_UNREAD = 2**20  # bytes; what the app sends waits long before that, so these are pongs


class PreparedText(str):
    """The text of a message to many, made into a frame once; a server's frames are not masked."""

    __slots__ = ("wire",)

    def __init__(self, text: str) -> None:
        self.wire = Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket, which also gets rid of a peer that has stopped reading.

    Uvicorn's own waits until the peer has read all before it writes a close frame, and after that
    until it has read the frame: one that never reads would be kept for good. It also leaves without
    an answer a handshake that it cannot read, and keeps that connection.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.queue: Any = Mailbox()  # it has all of a queue that is used

    def data_received(self, data: bytes) -> None:
        """Take in what came; a handshake that cannot be read is answered and over."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.handshake_initiated = self.handshake_complete = self.close_sent = True
            refusal = self.conn.reject(HTTPStatus.BAD_REQUEST, "The handshake cannot be read.\n")
            self.transport.write(refusal.serialize())
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake; another version is told which one there is (RFC 6455, 4.4)."""
        if event.headers.get_all("Sec-WebSocket-Version") in ([], ["13"]):
            super().handle_connect(event)
            return
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        refusal = self.conn.reject(HTTPStatus.UPGRADE_REQUIRED, "The version here is 13.\n")
        refusal.headers["Sec-WebSocket-Version"] = "13"
        self.transport.write(refusal.serialize())
        self.transport.close()

    def handle_cont(self, event: Frame) -> None:
        """Take in a fragment; empty ones would be kept without end, as they add to no size."""
        if event.data or event.fin:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping; one who does not read the pongs would be given them without end."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > _MOST_UNREAD:
            self.transport.abort()

    def handle_close(self, event: Frame) -> None:
        """Answer a close frame, or end with the answer to ours."""
        super().handle_close(event)
        self._abort_when_late()

    def handle_parser_exception(self) -> None:
        """Close on a peer that breaks the protocol."""
        super().handle_parser_exception()
        self._abort_when_late()

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of the app; a close frame is not held back by what is unread."""
        text = message.get("text")
        if type(text) is PreparedText:
            await self._send_prepared(text, message)
            return
        if message["type"] == "websocket.close":
            self.writable.set()
        await super().send(message)
        if message["type"] == "websocket.accept":
            del self.request, self.response  # the scope has all of it that is needed
        elif message["type"] == "websocket.close":
            self._abort_when_late()

    async def _send_prepared(self, text: PreparedText, message: ASGISendEvent) -> None:
        await self.writable.wait()
        if self.conn.state is State.OPEN and not (self.disconnected or self.close_sent):
            self.transport.write(text.wire)
        else:  # which knows what to raise
            await super().send(message)

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
    It also leaves them in that queue for seconds while the loop is busy.
    """

    def __init__(self, config: uvicorn.Config, linger_seconds: float) -> None:
        super().__init__(config)
        self._linger_seconds = linger_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and take in many connections in each turn of the loop."""
        # libuv takes in one for each listener and turn (libuv #3696), however many wait.
        listeners = [each.dup() for each in sockets or () for _ in range(_ACCEPTED_A_TURN)]
        await super().startup(listeners or None)

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
    "http": HttpProtocol,
    "ws": WebSocketProtocol,
    "ws_per_message_deflate": False,  # 32 KiB a connection; with deflate it would be 128
    "ws_max_size": MAX_MESSAGE,  # whoever has not signed in yet could make us hold as much
    "server_header": False,
    "proxy_headers": False,  # the app believes its own list of proxies
    "access_log": False,  # the app writes its own
    "log_config": None,
}
