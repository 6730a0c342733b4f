"""Signing up and in on the wire."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    ValidationInfo,
    field_validator,
)

from app.schemas.base import Input, Output, Secret
from app.schemas.users import FullName, Username
from app.security.names import email_fault
from app.security.password_rules import MAX_PASSWORD, MIN_PASSWORD, weakness

NewPassword = Annotated[
    Secret,
    Field(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD, examples=["correct horse battery"]),
]
GivenPassword = Annotated[Secret, Field(max_length=1024)]


def _bare(email: object) -> object:
    """Refuse `Ada <ada@example.com>`, of which pydantic takes the address alone."""
    if isinstance(email, str) and email.rstrip().endswith(">"):
        raise ValueError("Send the address alone, without a name or brackets")
    return email


def _comparable(email: str) -> str:
    fault = email_fault(email)
    if fault:
        raise ValueError(fault)
    return email


# Whatever somebody types where they might have an account: looked for, never kept.
GivenEmail = Annotated[
    EmailStr, Field(max_length=254, examples=["ada@example.com"]), BeforeValidator(_bare)
]
NewEmail = Annotated[GivenEmail, AfterValidator(_comparable)]
MailedToken = Annotated[
    Secret,
    Field(
        min_length=1,
        max_length=512,
        description="From the link in the mail, behind the `=`.",
        examples=["kpm_NoTokenOfAnybodyJustAnExample0123456789"],
    ),
]


def _same_as(field: str) -> AfterValidator:
    def check(confirmation: str, known: ValidationInfo) -> str:
        if confirmation != known.data.get(field, confirmation):
            raise ValueError("The passwords differ")
        return confirmation

    return AfterValidator(check)


class RegisterIn(Input):
    """A new account."""

    email: NewEmail
    username: Username
    password: NewPassword
    confirm_password: Annotated[GivenPassword, _same_as("password")]
    full_name: FullName | None = None

    @field_validator("password")
    @classmethod
    def _is_strong(cls, password: str, known: ValidationInfo) -> str:
        found = weakness(password, known.data.get("username", ""), known.data.get("email", ""))
        if found:
            raise ValueError(found)
        return password


class PasswordForm(BaseModel):
    """The password grant (RFC 6749, section 4.3.2); what else OAuth 2 clients send is ignored."""

    model_config = ConfigDict(hide_input_in_errors=True)

    grant_type: Literal["password"] | None = None
    username: Annotated[
        Secret, Field(max_length=320, description="Username or e-mail.", examples=["ada"])
    ]
    password: GivenPassword
    otp: Annotated[
        Secret | None,
        Field(max_length=64, description="A code of the second factor, where there is one."),
    ] = None


class TokenPair(Output):
    """An access token and the refresh token that follows it (RFC 6749, section 5.1)."""

    access_token: str
    refresh_token: str | None = Field(None, description="Absent where it is in a cookie.")
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the name of a scheme
    expires_in: int = Field(description="Seconds.", examples=[900])
    refresh_expires_in: int = Field(description="Seconds.", examples=[2592000])


class RefreshIn(Input):
    """The refresh token to spend."""

    refresh_token: Annotated[Secret, Field(max_length=512)]


class PasswordChangeIn(Input):
    """A new password, with the one it replaces."""

    current_password: GivenPassword
    new_password: NewPassword
    confirm_password: Annotated[GivenPassword, _same_as("new_password")]


class ForgottenPasswordIn(Input):
    """Whoever has forgotten the password."""

    email: GivenEmail


class PasswordResetIn(Input):
    """A new password, by the token of a mail."""

    token: MailedToken
    password: NewPassword
    confirm_password: Annotated[GivenPassword, _same_as("password")]


class MailedTokenIn(Input):
    """The token of a mail."""

    token: MailedToken


class ResendIn(Input):
    """Where the link is to go, if there is such an account."""

    email: GivenEmail


class EmailChangeIn(Input):
    """A new e-mail address, with the password."""

    email: NewEmail
    password: GivenPassword


class AcceptedOut(Output):
    """What is done after the answer."""

    detail: str


class EmailChangeOut(Output):
    """How far the change is."""

    is_changed: bool = Field(description="True once both addresses have confirmed.")


class SessionOut(Output):
    """A sign-in on one device."""

    id: int
    user_agent: str | None = Field(description="Of the sign-in.")
    address: str | None = Field(description="Of the sign-in.", examples=["203.0.113.7"])
    created_at: datetime
    last_used_at: datetime = Field(description="True to a minute and a half.")
    expires_at: datetime = Field(description="If it is not used again.")
    is_current: bool


class SessionList(Output):
    """Open sessions, the last used first."""

    items: list[SessionOut]


class TicketOut(Output):
    """A ticket that opens one WebSocket or event stream."""

    ticket: str
    expires_in: int = Field(description="Seconds.", examples=[30])


SUCCESSORS: dict[type, type] = {TokenPair: TokenPair, PasswordForm: PasswordForm}
"""OAuth 2 fixes the spelling of its form and its answer, in every version."""
