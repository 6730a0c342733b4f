"""Second factors on the wire."""

from typing import Annotated

from pydantic import Field

from app.schemas.auth import GivenPassword
from app.schemas.base import Input, Output, Secret

Code = Annotated[
    Secret,
    Field(
        max_length=64,
        description="Six digits of the authenticator app, or a recovery code.",
        examples=["492039"],
    ),
]


class PasswordProof(Input):
    """The current password once more."""

    password: GivenPassword


class CodeIn(Input):
    """A first code, which shows that the app was set up."""

    code: Code


class FullProof(Input):
    """The current password once more, and a code."""

    password: GivenPassword
    code: Code


class ChallengeAnswer(Input):
    """The challenge that signing in gave, and a code."""

    challenge: Annotated[Secret, Field(max_length=1024, examples=["kpc_…"])]
    code: Code


class EnrolmentOut(Output):
    """What an authenticator app needs; it is shown this once."""

    secret: str = Field(description="For typing, base32.", examples=["JBSWY3DPEHPK3PXP…"])
    otpauth_uri: str = Field(examples=["otpauth://totp/Kingpost:ada?secret=…&issuer=Kingpost"])
    qr_code: str = Field(
        description="The same as a QR code: a data URI of an SVG, for the src of an img.",
        examples=["data:image/svg+xml;charset=utf-8,…"],
    )


class RecoveryCodes(Output):
    """Codes to keep on paper; each works once, and they are shown this once."""

    recovery_codes: list[str] = Field(examples=[["7KQM-3HTP-XW9D-RB2F"]])


class SecondFactorOut(Output):
    """Whether the account has a second factor."""

    is_enabled: bool
    recovery_codes_left: int = Field(examples=[10])
