"""What REDIS_URL says where it names sentinels instead of the Redis itself.

    redis+sentinel://[user:password@]host[:26379][,host2…]/service[/db][?option=value…]

The form is the one of `limits`, Prefect and others: the credentials, the number and the options
are those of the Redis behind. `sentinel_username` and `sentinel_password` are for the sentinels,
and `rediss+sentinel://` speaks TLS with both.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode

FORM = "redis+sentinel://host:26379,host2:26379/service/0"
SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
_DEFAULT_PORT = 26379
_URL = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<credentials>[^@/?#\s]*@)?(?P<hosts>[^@/?#\s]+)"
    r"/(?P<service>[^/?#\s]+)(/(?P<db>\d*))?(\?(?P<query>[^#\s]*))?"
)
_HOST = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(:(?P<port>\d{1,5}))?")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """Whom to ask for which service, and how to speak to the Redis that they name."""

    sentinels: tuple[Address, ...]
    service: str
    sentinel_credentials: tuple[str | None, str | None]
    redis: str  # a URL as if there were no sentinels; its host means nothing

    @property
    def is_tls(self) -> bool:
        """True if both are spoken to by TLS."""
        return self.redis.startswith("rediss://")


def sentinel_url(url: str) -> SentinelUrl | None:
    """Return what a URL says of sentinels, or None of another kind.

    Raises:
        ValueError: it names sentinels, but not as it should. The URL is not in the message.
    """
    if not url.startswith(SCHEMES):
        return None
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"must be written as {FORM}")
    options = dict(parse_qsl(found["query"] or ""))
    user, password = options.pop("sentinel_username", None), options.pop("sentinel_password", None)
    return SentinelUrl(
        sentinels=tuple(_address(host) for host in found["hosts"].split(",")),
        service=unquote(found["service"]),
        sentinel_credentials=(user, password),
        redis=f"{found['scheme']}://{found['credentials'] or ''}sentinel/{found['db'] or 0}"
        + (f"?{urlencode(options)}" if options else ""),
    )


def _address(text: str) -> Address:
    found = _HOST.fullmatch(text)
    port = int(found["port"] or _DEFAULT_PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError(f"must be written as {FORM}")
    return found["v6"] or found["name"], port
