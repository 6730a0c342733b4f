"""One event to many: made once, whoever and however many listen."""

from fastapi import FastAPI

from app.clock import now
from app.events.channels import event_frame
from app.models.events import Audience, Event, EventKind


async def test_an_event_is_made_into_a_frame_once_for_all_who_have_it(app: FastAPI) -> None:
    hub = app.state.resources.hub
    made: list[str] = []

    def counted(channel: str, event: Event) -> str:
        made.append(event_frame(channel, event))
        return made[-1]

    everyone = [hub.connect(None, counted) for _ in range(200)]
    for subscriber in everyone:
        await hub.subscribe(subscriber, "items")
    told = Event(2**40, EventKind.ITEM_CREATED, "item", 1, 1, Audience.PUBLIC, {}, now())
    hub.deliver([told])
    frames = [await subscriber.waiting.get() for subscriber in everyone]
    for subscriber in everyone:
        await hub.disconnect(subscriber)
    assert len(made) == 1
    assert frames[0] == made[0]
    assert all(frame is frames[0] for frame in frames)  # and so are the bytes on the wire
    assert frames[0].wire.endswith(made[0].encode())
