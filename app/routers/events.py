"""`GET /events`: the same events as a stream of server-sent events (WHATWG HTML, 9.2)."""

import asyncio
from collections.abc import AsyncIterator, Set
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from app.dependencies.auth import OptionalUser
from app.dependencies.resources import CurrentResources
from app.errors import DatabaseUnavailable, Unauthenticated, Unprocessable
from app.events.channels import compact, is_channel, is_room, item_id_of, wire_form
from app.events.hub import Hub
from app.events.subscriber import Subscriber
from app.models.events import Event
from app.resources import Resources
from app.routers.versioning import Resource
from app.schemas.problems import problems
from app.security.principal import Principal
from app.services import items

router = APIRouter(prefix="/events", tags=["events"])

resource = Resource(shared=(router,))

HEARTBEAT_SECONDS = 15.0
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@router.get(
    "",
    response_class=StreamingResponse,
    response_model=None,
    summary="Stream events",
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **problems(400, 401, 404, 410, 422, 429, 503),
    },
)
async def stream_events(
    request: Request,
    viewer: OptionalUser,
    resources: CurrentResources,
    channel: Annotated[
        list[str],
        Query(min_length=1, max_length=20, description="`items`, `item:42`, `me` or `jobs`."),
    ],
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="Go on after this event.", max_length=20),
    ] = None,
    since: Annotated[
        str | None,
        Query(description="The same, for a page that opens a new stream.", max_length=20),
    ] = None,
    ticket: Annotated[
        str | None, Query(description="Of `POST /auth/ws-ticket`.", max_length=100)
    ] = None,
) -> Response:
    """Stream what the caller may read, from now on or from after the last event seen.

    The header wins over `since`: a browser that reconnects sends it beside the first address.
    """
    if viewer is None and ticket is not None:
        session_id, user_id = await resources.sessions.spend_ticket(ticket)
        viewer = await resources.authenticator.principal_of(session_id, user_id)
    await _check_channels(channel, viewer, resources)
    if not resources.hub.is_ready:
        raise DatabaseUnavailable
    after = _parsed_id("Last-Event-ID", last_event_id) if last_event_id else None
    if after is None and since:
        after = _parsed_id("since", since)
    if after is not None:
        await resources.hub.check_since(after)
    if request.scope["state"].get("is_head"):
        head = Response(media_type="text/event-stream", headers=_HEADERS)
        del head.headers["content-length"]  # a stream has none
        return head
    # An event has one id here, however many channels it is on: `items` has all of each item's.
    names = {name for name in channel if item_id_of(name) is None or "items" not in channel}
    return StreamingResponse(
        _stream(viewer, names, after, resources), media_type="text/event-stream", headers=_HEADERS
    )


async def _stream(
    viewer: Principal | None, channels: Set[str], since: int | None, resources: Resources
) -> AsyncIterator[str]:
    hub = resources.hub
    subscriber = hub.connect(viewer, _sse)
    resources.metrics.streams.inc()
    try:
        if since is None:
            for name in channels:
                await hub.subscribe(subscriber, name)
        yield "retry: 1000\n"  # no empty line: some clients would take that for an event
        if since is not None:
            async for frame in hub.resume(subscriber, channels, since):
                yield frame
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    waiting = await subscriber.waiting.get()
            except TimeoutError:
                yield _heartbeat(subscriber, hub)
                continue
            if waiting is None:  # told to come back, cut off, or signed out
                return
            yield waiting
    finally:
        resources.metrics.streams.dec()
        await hub.disconnect(subscriber)


def _heartbeat(subscriber: Subscriber, hub: Hub) -> str:
    """Return a comment, with the id up to which there was nothing for this one.

    By that a browser resumes that has seen no event yet, or its last one longer ago than is kept.
    """
    has_all = subscriber.waiting.empty() and subscriber.held is None
    return f": alive\nid: {hub.position}\n\n" if has_all else ": alive\n"


async def _check_channels(
    channels: list[str], viewer: Principal | None, resources: Resources
) -> None:
    for name in channels:
        if not is_channel(name) or is_room(name):
            raise Unprocessable.field("channel", "There is no such channel to stream")
        if viewer is None and name in ("me", "jobs"):
            raise Unauthenticated
        item_id = item_id_of(name)
        if item_id is not None:
            await items.read(resources.db, min(item_id, 2**63 - 1), viewer)


def _parsed_id(field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Unprocessable.field(field, "It is the id of an event")
    return int(text)


def _sse(_channel: str, event: Event) -> str:
    return f"id: {event.id}\nevent: {event.kind}\ndata: {compact(wire_form(event))}\n\n"
