"""`WS /ws`: events, rooms and direct messages over a WebSocket."""

import asyncio
import contextlib
import json
import time
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from app.dependencies.auth import API_KEY_HEADER, authenticate, bearer_token
from app.errors import DomainError, InvalidToken, NotFound, UpgradeRequired
from app.events.channels import is_channel, is_room, item_id_of
from app.events.subscriber import POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER
from app.resources import Resources
from app.security.principal import Principal
from app.server import MAX_MESSAGE
from app.services import items

router = APIRouter()

MAX_CHANNELS = 100
_AUTHENTICATE_WITHIN = 5.0  # seconds
_LOOK_AGAIN = 3600.0  # seconds
_STRIKES = 20  # more refused messages than good ones, and a client that is too fast is closed
UNSUPPORTED_DATA, MESSAGE_TOO_BIG = 1003, 1009
# What a close frame says where nothing more exact is known.
_REASONS = {
    UNSUPPORTED_DATA: "UNSUPPORTED_DATA",
    POLICY_VIOLATION: "UNAUTHENTICATED",
    MESSAGE_TOO_BIG: "MESSAGE_TOO_BIG",
    SERVICE_RESTART: "SERVICE_RESTART",
    TRY_AGAIN_LATER: "TRY_AGAIN_LATER",
}


class Refused(Exception):
    """A message that is answered by an `error`; the connection stays."""

    def __init__(self, error_code: str, detail: str) -> None:
        super().__init__(detail)
        self.error_code = error_code
        self.detail = detail


class Closed(Exception):
    """The connection is to be closed with this code."""

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


@router.get("/ws", include_in_schema=False)
async def refuse_plain_http() -> None:
    """Say that only a WebSocket is spoken here (RFC 9110, section 15.5.22)."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    raise UpgradeRequired("This address speaks WebSocket; was `Upgrade` lost?", headers=headers)


@router.websocket("/ws")
async def live(websocket: WebSocket) -> None:
    """Speak the protocol of `docs/events.md` until either side has enough."""
    resources: Resources = websocket.app.state.resources
    if not _is_allowed_origin(websocket, resources.settings.cors_origins):
        await websocket.close(POLICY_VIOLATION)
        return
    await websocket.accept()
    address = websocket.client.host if websocket.client else "unknown"
    resources.metrics.sockets.inc()
    opened = resources.hub.arrive(address)
    try:
        if opened > resources.settings.websocket_connections_per_address:
            await _close(websocket, TRY_AGAIN_LATER)
        else:
            await Connection(websocket, resources).run()
    except Closed as closed:
        await _close(websocket, closed.code, closed.reason)
    except (WebSocketDisconnect, RuntimeError):
        pass  # gone: there is nobody left to tell
    finally:
        resources.hub.leave(address)
        resources.metrics.sockets.dec()


class Connection:
    """One accepted socket: reads messages here, while a writer sends what waits."""

    def __init__(self, websocket: WebSocket, resources: Resources) -> None:
        self._websocket = websocket
        self._resources = resources
        self._hub = resources.hub
        self._expires_at = float("inf")  # seconds since the epoch
        self._expiry: asyncio.TimerHandle | None = None
        self._bucket = TokenBucket(resources.settings.websocket_messages_per_second)
        self._strikes = 0

    async def run(self) -> None:
        """Authenticate, then serve until the end.

        Raises:
            Closed: with the code to close with.
        """
        principal = await self._authenticate()
        most = self._resources.settings.websocket_connections_per_user
        if not self._hub.is_ready or self._hub.connections_of(principal.user_id) >= most:
            raise Closed(TRY_AGAIN_LATER)
        self._subscriber = self._hub.connect(principal)
        self._end_with_token()
        self._welcome(principal)
        writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read())
        try:
            # The writer may be held for good by a peer that does not read.
            closing = self._subscriber.closing
            ends: set[asyncio.Future[Any]] = {writer, reader, closing}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if closing.done():
                raise Closed(closing.result())
            for task in (writer, reader):
                if task.done():
                    task.result()
        finally:
            for task in (writer, reader):
                task.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)
            if self._expiry is not None:
                self._expiry.cancel()
            await self._hub.disconnect(self._subscriber)

    def _welcome(self, principal: Principal) -> None:
        self._send(
            type="welcome",
            user_id=principal.user_id,
            event_id=str(self._hub.position),
            heartbeat_seconds=self._resources.settings.websocket_ping_seconds,
        )

    async def _authenticate(self) -> Principal:
        try:
            if API_KEY_HEADER in self._websocket.headers:
                return await self._accept_key()
            token = bearer_token(self._websocket)
            if token is not None:
                return await self._accept_token(token)
            ticket = self._websocket.query_params.get("ticket")
            if ticket is not None:
                session_id, user_id = await self._resources.sessions.spend_ticket(ticket)
                return await self._resources.authenticator.principal_of(session_id, user_id)
            async with asyncio.timeout(_AUTHENTICATE_WITHIN):
                message = self._parsed(await self._receive())
            is_attempt = message.get("action") == "authenticate"
            return await self._accept_token(_text(message, "token") if is_attempt else "")
        except (DomainError, Refused, TimeoutError) as error:
            raise Closed(POLICY_VIOLATION, getattr(error, "error_code", None)) from error

    async def _accept_key(self) -> Principal:
        principal = await authenticate(self._websocket, fresh=True)
        if principal is None:
            raise InvalidToken
        return principal

    async def _accept_token(self, token: str) -> Principal:
        authenticator = self._resources.authenticator
        principal = await authenticator.authenticate(token, fresh=True)
        self._expires_at = authenticator.expires_at(token) or 0
        return principal

    def _end_with_token(self) -> None:
        """Cut the connection off when the token runs out, and until then look again now and then.

        The loop's clock and that of the token may go apart, while the machine sleeps for one.
        """
        if self._expiry is not None:
            self._expiry.cancel()
        remaining = min(self._expires_at - time.time(), _LOOK_AGAIN)
        if remaining <= 0:
            self._subscriber.cut_off(POLICY_VIOLATION)
        else:
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(remaining, self._end_with_token)

    async def _write(self) -> None:
        waiting, sent = self._subscriber.waiting, self._resources.metrics.socket_messages_out
        while (frame := await waiting.get()) is not None:
            await self._websocket.send_text(frame)
            sent.inc()

    async def _read(self) -> None:
        while True:
            text = await self._receive()
            self._resources.metrics.socket_messages.labels("in").inc()
            try:
                self._slow_down()
                await self._act(self._parsed(text))
            except Refused as refused:
                self._send(type="error", error_code=refused.error_code, detail=refused.detail)
            except DomainError as error:
                self._send(type="error", error_code=error.error_code, detail=error.detail)

    async def _receive(self) -> str:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text = message.get("text")
        if text is None:
            raise Closed(UNSUPPORTED_DATA)
        if len(text) > MAX_MESSAGE or len(text.encode("utf-8", "surrogatepass")) > MAX_MESSAGE:
            raise Closed(MESSAGE_TOO_BIG)
        return str(text)

    def _slow_down(self) -> None:
        if self._bucket.take():
            self._strikes = max(0, self._strikes - 1)
            return
        self._strikes += 1
        if self._strikes > _STRIKES:
            raise Closed(POLICY_VIOLATION, "RATE_LIMITED")
        raise Refused("RATE_LIMITED", "Too many messages a second")

    def _parsed(self, text: str) -> dict[str, Any]:
        try:
            message = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise Refused("INVALID_MESSAGE", "A message is a JSON object") from error
        if not isinstance(message, dict):
            raise Refused("INVALID_MESSAGE", "A message is a JSON object")
        return message

    async def _act(self, message: dict[str, Any]) -> None:
        match message.get("action"):
            case "ping":
                self._send(type="pong")
            case "subscribe":
                await self._subscribe(message)
            case "unsubscribe":
                channel = _channel(message)
                await self._hub.unsubscribe(self._subscriber, channel)
                self._send(type="unsubscribed", channel=channel)
            case "publish":
                await self._publish(message)
            case "direct":
                await self._direct(message)
            case "authenticate":
                await self._renew(message)
            case _:
                raise Refused("UNKNOWN_ACTION", "There is no such action")

    async def _subscribe(self, message: dict[str, Any]) -> None:
        channel, since = _channel(message), _since(message)
        channels = self._subscriber.channels
        if len(channels) >= MAX_CHANNELS and channel not in channels:
            raise Refused("TOO_MANY_CHANNELS", f"At most {MAX_CHANNELS} channels at once")
        item_id = item_id_of(channel)
        if item_id is not None:
            await self._require_readable(item_id)
        if since is None:
            count = await self._hub.subscribe(self._subscriber, channel)
            self._subscriber.offer(_subscribed(channel, self._hub.position))
            if count is not None:
                await self._hub.greet(self._subscriber, channel, count)
        elif is_room(channel) or channel in channels:
            raise Refused("CANNOT_RESUME", "Rooms keep nothing; others are to be left first")
        else:
            await self._hub.check_since(since)
            # By the way of the events that follow: what waits in the queue could come after them.
            await self._websocket.send_text(_subscribed(channel, since))
            async for frame in self._hub.resume(self._subscriber, {channel}, since):
                await self._websocket.send_text(frame)

    async def _require_readable(self, item_id: int) -> None:
        if item_id >= 2**63:
            raise NotFound("There is no such item")
        await items.read(self._resources.db, item_id, self._principal)

    async def _publish(self, message: dict[str, Any]) -> None:
        channel = _channel(message)
        if not is_room(channel):
            raise Refused("NOT_A_ROOM", "Only rooms can be published to")
        if channel not in self._subscriber.channels:
            raise Refused("NOT_SUBSCRIBED", "Subscribe to the room first")
        await self._hub.publish(channel, self._principal, _data(message))

    async def _direct(self, message: dict[str, Any]) -> None:
        to = message.get("to")
        if type(to) is not int or not 1 <= to < 2**63:
            raise Refused("INVALID_MESSAGE", "`to` is the id of a user")
        await self._hub.direct(to, self._principal, _data(message))

    async def _renew(self, message: dict[str, Any]) -> None:
        before, expires_at = self._principal, self._expires_at
        principal = await self._accept_token(_text(message, "token"))
        if principal.user_id != before.user_id:
            self._expires_at = expires_at
            raise InvalidToken("The token is another user's")
        self._hub.become(self._subscriber, principal)
        self._end_with_token()
        self._send(type="authenticated", user_id=principal.user_id)

    @property
    def _principal(self) -> Principal:
        if self._subscriber.principal is None:
            raise Closed(POLICY_VIOLATION)
        return self._subscriber.principal

    def _send(self, **message: Any) -> None:
        self._subscriber.offer(json.dumps(message, separators=(",", ":")))


class TokenBucket:
    """Lets a number of messages a second pass on average, and twice as many at once."""

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._tokens = self._most = per_second * 2
        self._at = time.monotonic()

    def take(self) -> bool:
        """Tell whether one more message may pass now."""
        moment = time.monotonic()
        self._tokens = min(self._most, self._tokens + (moment - self._at) * self._rate)
        self._at = moment
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _is_allowed_origin(websocket: WebSocket, allowed: tuple[str, ...]) -> bool:
    """Browsers always say where a page comes from; other programs need not."""
    origin = websocket.headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return urlsplit(origin).netloc.lower() == websocket.headers.get("host", "").lower()


def _channel(message: dict[str, Any]) -> str:
    channel = message.get("channel")
    if not is_channel(channel):
        raise Refused("UNKNOWN_CHANNEL", "There is no such channel")
    return str(channel)


def _since(message: dict[str, Any]) -> int | None:
    since = message.get("since")
    if since is None:
        return None
    text = str(since) if isinstance(since, str | int) and not isinstance(since, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused("INVALID_EVENT_ID", "`since` is the id of an event")
    return int(text)


def _data(message: dict[str, Any]) -> Any:
    if "data" not in message:
        raise Refused("INVALID_MESSAGE", "`data` is what to send, any JSON")
    return message["data"]


def _subscribed(channel: str, position: int) -> str:
    message = {"type": "subscribed", "channel": channel, "event_id": str(position)}
    return json.dumps(message, separators=(",", ":"))


def _text(message: dict[str, Any], field: str) -> str:
    value = message.get(field)
    if not isinstance(value, str):
        raise Refused("INVALID_MESSAGE", f"`{field}` is text")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


async def _close(websocket: WebSocket, code: int, reason: str | None = None) -> None:
    if websocket.application_state is WebSocketState.CONNECTED:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close(code, reason or _REASONS[code])
