"""Files on the wire: what a client announces, and what it is told of them."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from app.schemas.base import Input, Line, Output, ResourceId

MAX_NAME = 255
MAX_LINK_MINUTES = 24 * 60

Sha256 = Annotated[
    str,
    Field(
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the content, in hexadecimal.",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    ),
]


class FileOut(Output):
    """A file of an item. Its content is at `GET /files/{id}`."""

    id: int = Field(examples=[5])
    item_id: int = Field(examples=[42])
    name: str = Field(examples=["desk.jpg"])
    content_type: str = Field(examples=["image/jpeg"], description="Told from the content.")
    size: int = Field(examples=[48213], description="In bytes.")
    sha256: Sha256
    created_at: datetime
    thumbnail_url: str | None = Field(
        examples=["/api/files/5/thumbnail"], description="Where a small picture of it is."
    )


class FileList(Output):
    """The files of an item, or of one upload, the oldest first."""

    items: list[FileOut]


class PresignIn(Input):
    """A file that is to be uploaded past the service, straight into the storage."""

    name: Annotated[Line, Field(min_length=1, max_length=MAX_NAME, examples=["desk.jpg"])]
    content_type: Annotated[str, Field(pattern=r"^[a-z]+/[a-z0-9.+-]+$", max_length=100)] = Field(
        examples=["image/jpeg"]
    )
    size: int = Field(ge=0, le=2**53, description="In bytes.", examples=[48213])
    sha256: Sha256


class PresignOut(Output):
    """Where and how to send an announced file; confirm it afterwards."""

    id: int = Field(description="Of the file that it becomes; confirm it by this.", examples=[5])
    method: Literal["PUT"]
    url: str = Field(description="Send the bare content there.")
    headers: dict[str, str] = Field(
        description="Send exactly these with it.", examples=[{"Content-Type": "image/jpeg"}]
    )
    expires_at: datetime


class ConfirmIn(Input):
    """Names an announced file that has been uploaded."""

    id: ResourceId = Field(examples=[5])


class LinkIn(Input):
    """How long a link is to be good."""

    minutes: int = Field(15, ge=1, le=MAX_LINK_MINUTES, examples=[15])

    @property
    def lifetime(self) -> timedelta:
        """How long that is."""
        return timedelta(minutes=self.minutes)


class LinkOut(Output):
    """A link to a file's content that needs no token until it expires."""

    url: str = Field(examples=["https://api.example.com/api/v1/files/5?expires=…&signature=…"])
    expires_at: datetime
