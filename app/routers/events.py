"""`GET /events`: the same events as a stream of server-sent events (WHATWG HTML, 9.2)."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse

from app.dependencies.auth import OptionalUser
from app.dependencies.resources import CurrentResources
from app.errors import Unauthenticated, Unprocessable
from app.events.channels import is_channel, is_room, item_id_of, wire_form
from app.events.hub import Subscriber
from app.models.events import Event
from app.resources import Resources
from app.schemas.problems import problems
from app.security.principal import Principal
from app.services import items

router = APIRouter(prefix="/events", tags=["events"])

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
    ticket: Annotated[
        str | None, Query(description="Of `POST /auth/ws-ticket`.", max_length=100)
    ] = None,
) -> StreamingResponse:
    """Stream what the caller may read, from now on or from after the last event seen."""
    if viewer is None and ticket is not None:
        session_id, user_id = await resources.sessions.spend_ticket(ticket)
        viewer = await resources.authenticator.principal_of(session_id, user_id)
    await _check_channels(channel, viewer, resources)
    since = _parsed_id(last_event_id)
    subscriber = resources.hub.connect(viewer, _sse)
    try:
        for name in dict.fromkeys(channel):
            await resources.hub.subscribe(subscriber, name, since)
    except BaseException:
        await resources.hub.disconnect(subscriber)
        raise
    return StreamingResponse(
        _stream(subscriber, resources), media_type="text/event-stream", headers=_HEADERS
    )


async def _stream(subscriber: Subscriber, resources: Resources) -> AsyncIterator[str]:
    resources.metrics.streams.inc()
    try:
        yield "retry: 1000\n\n"
        while True:
            try:
                frame = await asyncio.wait_for(subscriber.waiting.get(), HEARTBEAT_SECONDS)
            except TimeoutError:
                yield ": alive\n\n"
                continue
            if frame is None:  # told to come back, cut off, or signed out
                return
            yield frame
    finally:
        resources.metrics.streams.dec()
        await resources.hub.disconnect(subscriber)


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


def _parsed_id(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Unprocessable.field("Last-Event-ID", "It is the id of an event")
    return int(text)


def _sse(_channel: str, event: Event) -> str:
    form = json.dumps(wire_form(event), separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.kind}\ndata: {form}\n\n"
