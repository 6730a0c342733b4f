"""Webhooks on the wire: endpoints, their delivery log, and the messages that are sent."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from app.models.events import INTERNAL_KINDS, EventKind
from app.models.webhooks import DeliveryStatus, DisabledReason
from app.schemas.base import Input, Line, Moment, Output

MAX_KINDS = 50
KINDS = tuple(kind for kind in EventKind if kind not in INTERNAL_KINDS)
"""What can be asked for, besides the kinds of resources that were added by `new-resource`."""
_SUBJECTS = frozenset(kind.partition(".")[0] for kind in EventKind)
_KINDS = frozenset(map(str, KINDS))


def _known(kinds: list[str]) -> list[str]:
    for kind in kinds:
        if kind.partition(".")[0] in _SUBJECTS and kind not in _KINDS:
            raise ValueError(f"there is no event {kind}")
    return list(dict.fromkeys(kinds))


_Kind = Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.[a-z_]+$", max_length=40)]
Kinds = Annotated[
    list[_Kind],
    Field(
        max_length=MAX_KINDS,
        description="Which events to send; none mean every kind.",
        examples=[["item.created", "item.updated"]],
    ),
    AfterValidator(_known),
]
Url = Annotated[
    Line,
    Field(
        min_length=1,
        max_length=2000,
        description="Where to send them; an https:// address on the public Internet.",
        examples=["https://hooks.example.com/kingpost"],
    ),
]


class WebhookIn(Input):
    """An endpoint to send events to."""

    url: Url
    events: Kinds = []
    is_active: bool = True


class WebhookPatch(Input):
    """A JSON merge patch (RFC 7396) of an endpoint."""

    url: Url | None = None
    events: Kinds | None = None
    is_active: bool | None = None


class ReplayIn(Input):
    """Of which time to send all events again."""

    since: Moment = Field(examples=["2026-11-21T08:00:00Z"])
    until: Moment | None = Field(
        None, description="Exclusive; now by default.", examples=["2026-11-21T09:00:00Z"]
    )


class WebhookOut(Output):
    """An endpoint. Its secret is shown when it is made and when it is rotated, never again."""

    id: int = Field(examples=[42])
    url: str = Field(examples=["https://hooks.example.com/kingpost"])
    events: list[str] = Field(examples=[["item.created"]])
    is_active: bool
    disabled_at: datetime | None
    disabled_reason: DisabledReason | None = Field(
        description="`owner`: switched off; `gone`: it answered 410; `failing`: no 2xx for 5 days."
    )
    failing_since: datetime | None = Field(description="Since when no attempt has succeeded.")
    previous_expires_at: datetime | None = Field(
        description="Until when the secret before the last rotation signs too."
    )
    created_at: datetime
    updated_at: datetime


class WebhookCreated(WebhookOut):
    """A new endpoint, with the secret that its messages are signed with."""

    secret: str | None = Field(
        description="Null in the answer to a repeated request.",
        examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD5fNM1g0uW1A="],
    )


class SecretOut(Output):
    """A new secret; the one before signs too for a day."""

    secret: str = Field(examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD5fNM1g0uW1A="])
    previous_expires_at: datetime


class WebhookPage(Output):
    """A page of an account's endpoints by offset."""

    items: list[WebhookOut]
    total: int = Field(description="How many the account has.", examples=[1])
    skip: int = Field(examples=[0])
    limit: int = Field(examples=[20])


class WebhookCursorPage(Output):
    """A page of an account's endpoints by cursor."""

    items: list[WebhookOut]
    next_cursor: str | None = Field(description="Send as `cursor` for the next page.")
    has_more: bool


class DeliveryOut(Output):
    """One message for one endpoint, and what came of its last attempt."""

    id: int = Field(examples=[7])
    endpoint_id: int = Field(examples=[42])
    event_id: str | None = Field(description="None for a test.", examples=["1042"])
    message_id: str = Field(
        description="The header `webhook-id`: the same at each attempt.", examples=["1042"]
    )
    kind: str = Field(examples=["item.created"])
    subject: str = Field(examples=["item:42"])
    status: DeliveryStatus
    attempt: int = Field(description="How often it was tried.", examples=[1])
    next_attempt_at: datetime | None
    attempted_at: datetime | None
    response_status: int | None = Field(examples=[200])
    duration_ms: int | None = Field(examples=[87])
    error: str | None = Field(examples=["Could not connect"])
    created_at: datetime


class DeliveryDetail(DeliveryOut):
    """A delivery with what was sent, and the first KB of what was answered."""

    payload: str = Field(description="The body, byte for byte as it is signed.")
    request_headers: dict[str, Any] | None
    response_body: str | None


class DeliveryPage(Output):
    """A page by offset, the newest first."""

    items: list[DeliveryOut]
    total: int = Field(description="How many the whole list has.", examples=[1])
    skip: int = Field(examples=[0])
    limit: int = Field(examples=[20])


class DeliveryCursorPage(Output):
    """A page by cursor, the newest first."""

    items: list[DeliveryOut]
    next_cursor: str | None = Field(description="Send as `cursor` for the next page.")
    has_more: bool


class ReplayOut(Output):
    """How many deliveries will be made."""

    queued: int = Field(examples=[12])


class WebhookMessage(Output):
    """What an endpoint is sent, signed by the Standard Webhooks scheme."""

    type: str = Field(examples=["item.created"])
    timestamp: datetime = Field(description="When it happened.")
    id: str = Field(
        description="Ordered, and the same at each attempt: do nothing twice for one id.",
        examples=["1042"],
    )
    subject: str = Field(description="What it happened to.", examples=["item:42"])
    data: dict[str, Any] = Field(description="The subject as it was then.")


TEST_KIND: Literal["webhook.test"] = "webhook.test"
