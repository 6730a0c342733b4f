"""API keys on the wire."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from app.clock import now
from app.schemas.base import Input, Line, Moment, Output
from app.security.scopes import Scope

WEEK = 7 * 24 * 3600  # seconds


def _in_the_future(moment: datetime) -> datetime:
    if moment <= now():
        raise ValueError("It must be in the future")
    return moment


def _each_once(scopes: list[Scope]) -> list[Scope]:
    return sorted(set(scopes))


KeyName = Annotated[Line, Field(min_length=1, max_length=100, examples=["Nightly import"])]
Scopes = Annotated[
    list[Scope],
    Field(
        min_length=1,
        max_length=len(Scope),
        description="What the key may be used for; never more than its owner may do.",
        examples=[["items:read", "items:write"]],
    ),
    AfterValidator(_each_once),
]


class ApiKeyIn(Input):
    """A new API key."""

    name: KeyName
    scopes: Scopes
    expires_at: Annotated[Moment, AfterValidator(_in_the_future)] | None = Field(
        None,
        description="When it stops working (RFC 3339, with an offset). Without: never.",
        examples=["2031-01-01T00:00:00Z"],
    )


class ApiKeyPatch(Input):
    """What can be changed of an API key."""

    name: KeyName


class RotateIn(Input):
    """How long the old secret goes on working beside the new one."""

    overlap_seconds: int = Field(
        3600,
        ge=0,
        le=WEEK,
        description="0 ends the old secret at once: right after a leak.",
        examples=[3600],
    )


class ApiKeyOut(Output):
    """An API key, without its secret."""

    id: int = Field(examples=[3])
    name: str = Field(examples=["Nightly import"])
    prefix: str = Field(description="How its secret begins.", examples=["kp_live_4fQz7b"])
    scopes: list[Scope] = Field(examples=[["items:read", "items:write"]])
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    created_at: datetime
    rotated_at: datetime | None
    previous_ends_at: datetime | None = Field(
        description="Until when the secret before the last rotation works, or worked."
    )


class ApiKeySecret(ApiKeyOut):
    """An API key with its secret, which is shown this once."""

    secret: str | None = Field(
        description="Send it as `X-API-Key`. Null where `Idempotency-Key` brought an earlier "
        "answer back: it is kept nowhere.",
        examples=["kp_live_4fQz7bA0sK1mX9cV2nB8lT6wR3yU5eHgJdPiOqZtLkS0a1B2c3D4e5F6"],
    )


class ApiKeyList(Output):
    """A user's keys, the newest first; at most 50, so there are no pages."""

    items: list[ApiKeyOut]
