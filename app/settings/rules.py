"""What settings must hold, each by itself, together and in production, and what is said if not."""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import SecretStr, ValidationError

from app.settings.identity_providers import faults
from app.settings.redis_url import SCHEMES, sentinel_url

if TYPE_CHECKING:
    from app.settings.settings import Settings

# A random secret of 48 letters has one of these by chance in fewer than one of 10 million cases.
WELL_KNOWN_WORDS = ("secret", "changeme", "password", "kingpost", "development", "example")
MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2: an HS256 key has at least 256 bits
_ORIGIN = re.compile(r"\*|https?://[^/\s,?#]+")
_SENDER = re.compile(r"[^<>@,;:\"\r\n]*<[^<>@\s]+@[^<>@\s]+>|[^<>@\s]+@[^<>@\s]+")
_PUBLIC_URL = re.compile(r"https?://[^/\s,?#@]+")
_HTTP_URL = re.compile(r"https?://[^\s,?#@]+")
_LIMIT = r"\s*\d+\s*(/|\s+per\s+)\s*(\d+\s*)?(second|minute|hour|day|month|year)s?\s*"
_LIMITS = re.compile(rf"{_LIMIT}([;,|]{_LIMIT})*", re.IGNORECASE)
_POSTGRES = ("postgres://", "postgresql://", "postgresql+asyncpg://")
_SQLITE = ("sqlite://", "sqlite+aiosqlite://")
_REDIS = ("redis://", "rediss://", "unix://", *SCHEMES)


class Unsafe(ValueError):
    """Settings that do not go together, or not here; each problem names its setting."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def problems(settings: "Settings") -> list[str]:
    """Return what is wrong with settings, a sentence each that begins with the variable's name."""
    found = [*_wrong_values(settings), *_unsafe_together(settings)]
    if settings.is_production:
        found += _unsafe_in_production(settings)
    return found


def refusals(error: ValueError) -> list[str]:
    """Return what is wrong with refused settings, a sentence each that names the variable."""
    if not isinstance(error, ValidationError):
        return [str(error)]
    said: list[str] = []
    for each in error.errors(include_url=False, include_input=False):
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, Unsafe):
            said += cause.problems
        else:
            said.append(f"{str(each['loc'][0]).upper()}: {each['msg']}")
    return said


def _wrong_values(settings: "Settings") -> Iterator[str]:
    if not _is_url(settings.database_url, *_POSTGRES, *_SQLITE):
        yield "DATABASE_URL must begin with postgresql:// or sqlite://"
    if not _is_url(settings.redis_url, *_REDIS):
        yield "REDIS_URL must begin with redis://, rediss://, unix:// or redis+sentinel://"
    elif settings.redis_url is not None:
        try:
            sentinel_url(settings.redis_url.get_secret_value())
        except ValueError as error:
            yield f"REDIS_URL {error}"
    for name in ("secret_key", "secret_key_previous"):
        secret: SecretStr | None = getattr(settings, name)
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            yield f"{name.upper()} must have at least {MIN_SECRET_BYTES} bytes"
    for name in type(settings).model_fields:
        if name.startswith("rate_limit_") and not _LIMITS.fullmatch(getattr(settings, name)):
            yield f"{name.upper()} must be written as 100/minute or 5/second;100/minute"
    for port in settings.webhooks_ports:
        if not (port.isdecimal() and 0 < int(port) < 65536):
            yield f"WEBHOOKS_PORTS: {port} is no port"
    for origin in settings.cors_origins:
        if not _ORIGIN.fullmatch(origin):
            yield f"CORS_ORIGINS: {origin} is no origin, such as https://app.example.com"
    if not _SENDER.fullmatch(settings.mail_from):
        yield "MAIL_FROM must be written as Name <name@example.com> or name@example.com"
    if settings.public_url is not None and not _PUBLIC_URL.fullmatch(settings.public_url):
        yield "PUBLIC_URL must be an origin, such as https://api.example.com"
    for fault in faults(settings.oidc_providers, https_only=settings.is_production):
        yield f"OIDC_PROVIDERS: {fault}"
    if settings.otlp_endpoint is not None and not _HTTP_URL.fullmatch(settings.otlp_endpoint):
        yield "OTLP_ENDPOINT must begin with http:// or https://"
    for proxy in settings.trusted_proxies:
        if proxy != "*" and not _is_network(proxy):
            yield f"TRUSTED_PROXIES: {proxy} is no address or network, such as 10.0.0.0/8"


def _unsafe_together(settings: "Settings") -> Iterator[str]:
    if settings.cors_credentials and "*" in settings.cors_origins:
        yield "CORS_ORIGINS must not be * together with CORS_CREDENTIALS"
    if bool(settings.operators_username) != bool(settings.operators_password):
        yield "OPERATORS_USERNAME and OPERATORS_PASSWORD go together"
    if bool(settings.s3_access_key_id) != bool(settings.s3_secret_access_key):
        yield "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY go together"
    if bool(settings.smtp_username) != bool(settings.smtp_password):
        yield "SMTP_USERNAME and SMTP_PASSWORD go together"
    if settings.smtp_password and settings.smtp_tls == "none":
        yield "SMTP_TLS must not be none where SMTP_PASSWORD is sent"
    if (settings.web_concurrency or 1) > 1 and not (settings.is_postgres and settings.redis_url):
        yield "WEB_CONCURRENCY above 1 needs DATABASE_URL (PostgreSQL) and REDIS_URL"


def _unsafe_in_production(settings: "Settings") -> Iterator[str]:
    if settings.secret_key is None:
        yield "SECRET_KEY must be set in production"
    for name in ("secret_key", "secret_key_previous"):
        secret: SecretStr | None = getattr(settings, name)
        if secret is not None and _is_guessable(secret.get_secret_value()):
            yield f"{name.upper()} is a well-known or trivial value"
    if not settings.is_postgres:
        yield "DATABASE_URL must name a PostgreSQL database in production"
    if settings.smtp_host and not (settings.public_url or "").startswith("https://"):
        yield "PUBLIC_URL must begin with https:// in production where SMTP_HOST is set"
    if settings.oidc_providers and settings.public_url is None:
        yield "OIDC_PROVIDERS needs PUBLIC_URL in production"
    if "*" in settings.trusted_proxies:
        yield "TRUSTED_PROXIES must not be * in production"


def _is_url(url: SecretStr | None, *schemes: str) -> bool:
    return url is None or url.get_secret_value().startswith(schemes)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _is_guessable(secret: str) -> bool:
    letters = re.sub(r"[^a-z]", "", secret.lower())
    return len(set(secret)) < 8 or any(word in letters for word in WELL_KNOWN_WORDS)
