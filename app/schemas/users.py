"""Accounts on the wire."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from app.schemas.base import Input, Line, Output
from app.schemas.items import ItemOut
from app.security.names import MIN_USERNAME, username_fault
from app.security.principal import Role


def _comparable(username: str) -> str:
    fault = username_fault(username)
    if fault:
        raise ValueError(fault)
    return username


Username = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^[\w.-]+$"),
    Field(min_length=MIN_USERNAME, max_length=50, examples=["ada"]),
    AfterValidator(_comparable),
]
FullName = Annotated[Line, Field(max_length=100, examples=["Ada Lovelace"])]


class UserPublic(Output):
    """An account as anyone who signed in may see it."""

    id: int = Field(examples=[7])
    username: str = Field(examples=["ada"])
    full_name: str | None
    created_at: datetime


class UserOut(Output):
    """An account as its owner and admins see it."""

    id: int = Field(examples=[7])
    email: str = Field(examples=["ada@example.com"])
    username: str = Field(examples=["ada"])
    full_name: str | None
    roles: list[Role]
    is_active: bool
    is_verified: bool = Field(description="True once the e-mail address was confirmed.")
    suspended_for: str | None = Field(description="Why an admin has suspended the account.")
    version: int
    created_at: datetime
    updated_at: datetime


class UserWithItems(UserOut):
    """An account with the first of its items that the caller may read."""

    items: list[ItemOut] | None = Field(None, description="With `include=items`: at most 20.")


class UserPage(Output):
    """A page by offset."""

    items: list[UserWithItems]
    total: int
    skip: int
    limit: int


class UserCursorPage(Output):
    """A page by cursor."""

    items: list[UserWithItems]
    next_cursor: str | None
    has_more: bool


class ProfilePatch(Input):
    """What an account may change of itself."""

    username: Username | None = None
    full_name: FullName | None = None


class UserPatch(ProfilePatch):
    """What an admin may change of an account."""

    roles: Annotated[list[Role], Field(min_length=1, max_length=3)] | None = None
    is_active: bool | None = None


class SuspensionIn(Input):
    """Why an account is to be kept out; admins and the audit log keep it."""

    reason: Annotated[Line, Field(min_length=1, max_length=300, examples=["Spam in its items"])]


Include = Literal["items"]
