"""Turns events into deliveries, exactly one for each endpoint that wants and may have an event.

Any number of processes may do so: whoever has locked the position reads on from there, and moves
it in the transaction that writes the deliveries. Nothing is lost or doubled wherever it is killed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any

from app.adapters.database import Database
from app.clock import now
from app.events.channels import compact, wire_form
from app.events.gaps import SettledReader
from app.models.events import Audience, Event
from app.models.webhooks import DeliveryStatus, Grounds
from app.observability.tracing import TRACEPARENT
from app.repositories.events import EventRepository
from app.repositories.webhook_deliveries import WebhookDeliveryRepository
from app.repositories.webhooks import Recipient, WebhookRepository

_BATCH = 500  # events
_MOST_ROWS = 2000  # written at once; then the transaction ends at that event


class Progress(Enum):
    """What a dispatch came to."""

    DONE = auto()  # nothing is left to do
    MORE = auto()  # there is more to read
    WAITING = auto()  # somebody else is at it, or a gap may still be filled


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent, and what it is about."""

    kind: str
    message_id: str
    subject: str
    payload: str


def message(
    *,
    kind: str,
    timestamp: datetime | str,
    message_id: str,
    subject: str,
    data: object,
) -> Message:
    """Return a message in the form of the Standard Webhooks scheme."""
    if isinstance(timestamp, datetime):
        timestamp = timestamp.isoformat().replace("+00:00", "Z")
    payload = {
        "type": kind,
        "timestamp": timestamp,
        "id": message_id,
        "subject": subject,
        "data": data,
    }
    return Message(kind, message_id, subject, compact(payload))


def delivery_row(
    endpoint_id: int,
    body: Message,
    grounds: Grounds,
    moment: datetime,
    *,
    traceparent: str | None,
    event_id: int | None = None,
    public_item_id: int | None = None,
) -> dict[str, Any]:
    """Return the columns of a delivery that is due now."""
    return {
        "endpoint_id": endpoint_id,
        "event_id": event_id,
        "message_id": body.message_id,
        "kind": body.kind,
        "subject": body.subject,
        "grounds": grounds.value,
        "public_item_id": public_item_id,
        "payload": body.payload,
        "status": DeliveryStatus.PENDING.value,
        "next_attempt_at": moment,
        "created_at": moment,
        TRACEPARENT: traceparent,
    }


def grounds_for(event: Event, owner_id: int, *, is_admin: bool) -> Grounds | None:
    """Return why an account may have an event; None where it may not."""
    if event.audience == Audience.INTERNAL:
        return None
    if event.owner_id == owner_id:
        return Grounds.OWN
    if event.audience == Audience.PUBLIC:
        return Grounds.PUBLIC
    return Grounds.ADMIN if is_admin else None


def rows_for(event: Event, recipients: Iterable[Recipient]) -> Iterator[dict[str, Any]]:
    """Yield a delivery for each recipient that wants an event and may have it."""
    body: Message | None = None
    moment = now()
    for recipient in recipients:
        if event.id <= recipient.after_event_id:
            continue
        if recipient.events and event.kind not in recipient.events:
            continue
        grounds = grounds_for(event, recipient.owner_id, is_admin=recipient.is_admin)
        if grounds is None:
            continue
        if body is None:
            body = _message_of(event)
        yield delivery_row(
            recipient.id,
            body,
            grounds,
            moment,
            traceparent=event.traceparent,
            event_id=event.id,
            public_item_id=_item_id(event) if grounds is Grounds.PUBLIC else None,
        )


class WebhookDispatcher:
    """Reads the outbox from the durable position on."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._settled = SettledReader(is_postgres=db.is_postgres)

    async def dispatch(self) -> Progress:
        """Write the deliveries of the next events."""
        async with self._db.transaction() as connection:
            webhooks, events = WebhookRepository(connection), EventRepository(connection)
            position = await webhooks.lock_position()
            if position is None:
                return Progress.WAITING
            wanted_after = (await webhooks.standing()).wanted_after
            if wanted_after is None:
                return Progress.DONE
            start = max(position, wanted_after)
            visible, settled = await self._settled.read(events, start, _BATCH)
            # After the events: an endpoint that was there before one of them is seen.
            recipients = await webhooks.recipients()
            until, rows = _deliveries(settled, recipients)
            there = await webhooks.hold({row["endpoint_id"] for row in rows}) if rows else set()
            await WebhookDeliveryRepository(connection).add(
                [row for row in rows if row["endpoint_id"] in there]
            )
            if max(start, until) > position:
                await webhooks.set_position(max(start, until))
        if settled and (until < settled[-1].id or len(visible) == _BATCH):
            return Progress.MORE
        return Progress.WAITING if len(settled) < len(visible) else Progress.DONE


def _deliveries(
    events: Sequence[Event], recipients: Sequence[Recipient]
) -> tuple[int, list[dict[str, Any]]]:
    """Return the last event that was turned into deliveries, and these."""
    known = _Recipients(recipients)
    rows: list[dict[str, Any]] = []
    until = 0
    for event in events:
        rows += rows_for(event, known.of(event))
        until = event.id
        if len(rows) >= _MOST_ROWS:
            break
    return until, rows


class _Recipients:
    """Recipients by what they may have, so that an event is not held against all of them."""

    def __init__(self, recipients: Sequence[Recipient]) -> None:
        self._all = recipients
        self._admins = [each for each in recipients if each.is_admin]
        self._by_owner: Mapping[int | None, list[Recipient]] = defaultdict(list)
        for each in recipients:
            if not each.is_admin:
                self._by_owner[each.owner_id].append(each)

    def of(self, event: Event) -> Sequence[Recipient]:
        if event.audience == Audience.PUBLIC:
            return self._all
        return [*self._admins, *self._by_owner.get(event.owner_id, ())]


def _message_of(event: Event) -> Message:
    form = wire_form(event)
    return message(
        kind=event.kind,
        timestamp=str(form["time"]),
        message_id=str(form["id"]),
        subject=str(form["subject"]),
        data=form["data"],
    )


def _item_id(event: Event) -> int | None:
    """Return the item by whose being public an event is."""
    if event.subject == "item":
        return event.subject_id
    item_id = event.data.get("item_id")
    return item_id if isinstance(item_id, int) else None
