"""What can be subscribed to, which events that brings, and who may have them."""

import json
import re
from collections.abc import Mapping

from app.models.events import Audience, Event
from app.security.principal import Principal

_ITEM = re.compile(r"item:([1-9][0-9]{0,18})")
_ROOM = re.compile(r"room:[A-Za-z0-9_.-]{1,64}")
_PLAIN = frozenset({"items", "jobs", "me"})


def is_channel(name: object) -> bool:
    """Tell whether there can be a channel of this name."""
    return isinstance(name, str) and (
        name in _PLAIN or bool(_ITEM.fullmatch(name)) or is_room(name)
    )


def is_room(name: str) -> bool:
    """Tell whether a channel is a room, where people speak to each other."""
    return bool(_ROOM.fullmatch(name))


def item_id_of(channel: str) -> int | None:
    """Return the item that a channel is about, if it is about one."""
    found = _ITEM.fullmatch(channel)
    return int(found[1]) if found else None


def channels_of(event: Event) -> tuple[str, ...]:
    """Return the channels that an event belongs to."""
    if event.subject in ("item", "file"):
        item_id = event.data.get("item_id", event.subject_id)
        return ("items", f"item:{item_id}")
    if event.subject == "job":
        return ("jobs",)
    return ("me",)  # of whoever the account or the thing belongs to


def may_receive(principal: Principal | None, channel: str, event: Event) -> bool:
    """Tell whether somebody may have an event by a channel."""
    if event.audience == Audience.INTERNAL:
        return False
    if channel == "me":
        return principal is not None and event.owner_id == principal.user_id
    if event.audience == Audience.PUBLIC:
        return True
    return principal is not None and (principal.is_admin or event.owner_id == principal.user_id)


def wire_form(event: Event) -> dict[str, object]:
    """Return an event as clients see it."""
    return {
        "id": str(event.id),
        "type": event.kind,
        "time": event.created_at.isoformat().replace("+00:00", "Z"),
        "subject": f"{event.subject}:{event.subject_id}",
        "data": {"id": event.subject_id, **event.data},
    }


def event_frame(channel: str, event: Event) -> str:
    """Return the WebSocket message that brings an event; made once, sent to all."""
    return compact({"type": "event", "channel": channel, "event": wire_form(event)})


def compact(message: Mapping[str, object]) -> str:
    """Return a message as JSON without blanks."""
    return json.dumps(message, separators=(",", ":"))
