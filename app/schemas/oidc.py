"""Signing in by others, on the wire."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.base import Input, Line, Output, Secret

RedirectTo = Annotated[
    Line,
    Field(
        max_length=1000,
        description="Where the browser ends: a path here, or an address of an allowed origin.",
        examples=["/"],
    ),
]


class SignInQuery(BaseModel):
    """How a sign-in by a provider begins."""

    model_config = ConfigDict(hide_input_in_errors=True)

    redirect_to: RedirectTo = "/"


class LinkIn(Input):
    """How linking an identity begins."""

    redirect_to: RedirectTo = "/"


class LinkOut(Output):
    """Where the browser goes to prove an identity."""

    authorization_url: str = Field(examples=["https://accounts.google.com/o/oauth2/v2/auth?…"])


class ProviderOut(Output):
    """Somebody whom people may sign in by."""

    name: str = Field(examples=["google"])
    label: str = Field(description="For people.", examples=["Google"])
    login_path: str = Field(examples=["/api/v1/auth/oidc/google/login"])


class ProviderList(Output):
    """The providers, in the order of the settings."""

    items: list[ProviderOut]


class SignInCodeIn(Input):
    """The code that came with the browser's redirect."""

    code: Annotated[Secret, Field(max_length=200, examples=["kps_9mJ0…"])]


class IdentityOut(Output):
    """An account elsewhere that signs in to this one."""

    id: int = Field(examples=[3])
    provider: str = Field(examples=["google"])
    email: str | None = Field(description="As the provider told it last.")
    created_at: datetime
    last_used_at: datetime


class IdentityList(Output):
    """Own identities, the oldest first."""

    items: list[IdentityOut]
