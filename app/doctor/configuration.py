"""What can be told of the settings alone, beyond what they refuse by themselves."""

import ipaddress
from collections.abc import Iterator

from app.doctor.finding import Finding, ok, warning, wrong
from app.settings import Settings

_HALF_A_YEAR = 15_768_000  # seconds; below it browsers' lists and scanners count HSTS as unset
_GRACEFUL_SECONDS = 30  # what a worker gives the requests in flight when it ends
_LONGEST_RETENTION_HOURS = 24 * 31
_LONGEST_ACCESS_MINUTES = 60
_LONGEST_REDIS_WAIT = 1.0  # seconds
_WIDEST_PREFIX = {4: 8, 6: 16}  # a network wider than this is no set of proxies


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield what is sound and what is not, in the order of the settings' reference."""
    yield ok("settings", f"accepted, for {settings.environment}")
    yield from _secrets(settings)
    yield from _limits(settings)
    if settings.is_production:
        yield from _production(settings)


def _secrets(settings: Settings) -> Iterator[Finding]:
    if settings.secret_key is None:
        where = settings.data_dir / "secrets"
        yield ok("SECRET_KEY", f"not set: made on the first start, in {where}")
    elif settings.secret_key == settings.secret_key_previous:
        yield warning(
            "SECRET_KEY_PREVIOUS",
            "the same as SECRET_KEY: nothing was rotated",
            "put the key from before the rotation there, or unset it",
        )
    else:
        yield ok("SECRET_KEY", "set and long enough")


def _limits(settings: Settings) -> Iterator[Finding]:
    if settings.database_statement_timeout >= _GRACEFUL_SECONDS:
        yield warning(
            "DATABASE_STATEMENT_TIMEOUT",
            f"a statement may take longer than the {_GRACEFUL_SECONDS} s that the end of a worker "
            "leaves to a request",
            f"set it below {_GRACEFUL_SECONDS}; what takes longer is a job",
        )
    if settings.redis_timeout > _LONGEST_REDIS_WAIT:
        yield warning(
            "REDIS_TIMEOUT",
            f"a frozen Redis costs a request {settings.redis_timeout:g} s",
            "leave it at 0.05: without Redis the service goes on",
        )
    if settings.event_retention_hours > _LONGEST_RETENTION_HOURS:
        yield warning(
            "EVENT_RETENTION_HOURS",
            f"events are kept for {settings.event_retention_hours // 24} days; the table only "
            "serves clients that come back",
            f"set it to {_LONGEST_RETENTION_HOURS} at most; 24 is the default",
        )
    if "*" in settings.cors_origins:
        yield warning(
            "CORS_ORIGINS",
            "every site may call the API from its visitors' browsers and open WebSockets",
            "name the origins of your own pages",
        )


def _production(settings: Settings) -> Iterator[Finding]:
    yield _public_url(settings.public_url)
    if not settings.rate_limits_enabled:
        yield wrong(
            "RATE_LIMITS_ENABLED",
            "rate limits are off: passwords may be guessed without end",
            "set it to true, and raise the limit that was in the way",
        )
    if settings.webhooks_allow_private:
        yield wrong(
            "WEBHOOKS_ALLOW_PRIVATE",
            "every user may have requests sent to your own network and its metadata service",
            "set it to false",
        )
    if settings.log_level == "debug":
        yield warning("LOG_LEVEL", "debug fills the log in production", "set it to info")
    if settings.operators_password is None:
        yield warning(
            "OPERATORS_PASSWORD",
            "/metrics, /docs and /redoc are open to whoever reaches them",
            "set OPERATORS_USERNAME and OPERATORS_PASSWORD",
        )
    if settings.redis_url is None:
        yield warning(
            "REDIS_URL",
            "not set: limits, cache and rooms are each process's own, so there may be only one",
            "set REDIS_URL before there is a second worker or instance",
        )
    if settings.access_token_minutes > _LONGEST_ACCESS_MINUTES:
        yield warning(
            "ACCESS_TOKEN_MINUTES",
            f"a stolen access token is good for {settings.access_token_minutes} minutes",
            "15 is the default; clients refresh by themselves",
        )
    yield from _edge(settings)
    if not settings.smtp_host:
        yield warning("SMTP_HOST", "not set: mails become files in DATA_DIR/mail", "set SMTP_HOST")


def _public_url(url: str | None) -> Finding:
    if not url:
        return warning(
            "PUBLIC_URL",
            "not set: addresses are made of what each request says",
            "set it to where people reach the service, such as https://api.example.com",
        )
    if not url.startswith("https://"):
        return wrong("PUBLIC_URL", "is no https address", "serve by TLS, and begin it with https:")
    return ok("PUBLIC_URL", url)


def _edge(settings: Settings) -> Iterator[Finding]:
    """Look at what is believed of proxies, and told to browsers."""
    proxies = settings.trusted_proxies
    too_wide = [each for each in proxies if _is_too_wide(each)]
    if too_wide:
        yield wrong(
            "TRUSTED_PROXIES",
            f"{', '.join(too_wide)} lets strangers choose their own address",
            "name the addresses or the network of your proxies only",
        )
    elif all(_is_loopback(each) for each in proxies):
        yield warning(
            "TRUSTED_PROXIES",
            "no proxy but this machine is believed: behind another one all clients share its "
            "address, and its limits",
            "name the addresses or the network of your proxies",
        )
    else:
        yield ok("TRUSTED_PROXIES", ", ".join(proxies))
    if settings.hsts_seconds < _HALF_A_YEAR:
        yield warning(
            "HSTS_SECONDS",
            "browsers are not told to stay with TLS for half a year",
            "leave it at 63072000 once all of the name is served by TLS",
        )


def _is_too_wide(proxy: str) -> bool:
    network = ipaddress.ip_network(proxy, strict=False)
    return network.prefixlen < _WIDEST_PREFIX[network.version]


def _is_loopback(proxy: str) -> bool:
    return ipaddress.ip_network(proxy, strict=False).is_loopback
