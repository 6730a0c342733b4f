"""What settings say of the providers that people sign in by, and what is known of two of them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, SecretStr

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_URL = re.compile(r"https?://[^\s?#]+")


class ProviderSettings(BaseModel):
    """One provider: what it told us of ourselves, and who it is unless that is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = None
    issuer: str | None = None
    label: str | None = Field(None, min_length=1, max_length=50)


@dataclass(frozen=True, slots=True)
class OAuthEndpoints:
    """Where a provider that speaks OAuth 2 without OpenID Connect is asked."""

    authorization: str
    token: str
    userinfo: str
    scope: str
    subject: str  # the field of the user info that names the person


@dataclass(frozen=True, slots=True)
class Preset:
    """What is known of a provider by its name."""

    label: str
    issuer: str | None = None
    oauth: OAuthEndpoints | None = None


PRESETS: dict[str, Preset] = {
    "google": Preset("Google", issuer="https://accounts.google.com"),
    "facebook": Preset(
        "Facebook",
        oauth=OAuthEndpoints(
            # Without a version each is of the oldest one that still lives: none of them runs out.
            authorization="https://www.facebook.com/dialog/oauth",
            token="https://graph.facebook.com/oauth/access_token",  # noqa: S106 - an address
            userinfo="https://graph.facebook.com/me?fields=id,name,email",
            scope="public_profile email",
            subject="id",
        ),
    ),
}


def read_json(value: object) -> object:
    """Read an object from a variable's or file's text.

    Raises:
        ValueError: it is not JSON; nothing of it is told, as it may hold a secret.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None


def faults(providers: Mapping[str, ProviderSettings], *, https_only: bool) -> Iterator[str]:
    """Yield what is wrong with the providers, a sentence each."""
    for name, provider in providers.items():
        preset = PRESETS.get(name)
        if not _NAME.fullmatch(name):
            yield f"{name!a} must have lower-case letters, digits and - only, 32 at most"
        elif preset is None and provider.issuer is None:
            yield f"{name} needs an issuer"
        elif preset is not None and provider.issuer is not None:
            yield f"{name} is known and must not have an issuer; choose another name"
        elif provider.issuer is not None and not _URL.fullmatch(provider.issuer):
            yield f"{name}: the issuer is no address, such as https://login.example.com"
        elif https_only and (provider.issuer or "https://").startswith("http://"):
            yield f"{name}: the issuer must begin with https:// in production"
