"""Where webhooks may go: URLs without tricks, and addresses that are anybody's on the Internet.

An address is judged by its bits, never by how it is spelled: whoever sends resolves the name once,
asks `is_public` of every answer, and connects to that very address (DNS rebinding has no second
answer to give).
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

MAX_URL = 2000  # characters

# IANA's special-purpose registry (RFC 6890 and its successors) by its own words, so that what may
# be reached does not depend on the age of Python's copy. Multicast and class E end the list.
_PRIVATE_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # a public address that is Azure's own inside of Azure
            "169.254.0.0/16",  # link-local; everybody's metadata
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
# Everything outside is loopback, unspecified, local, multicast, IPv4-mapped, IPv4-compatible,
# NAT64 (64:ff9b::/96) or unassigned.
_GLOBAL_V6 = IPv6Network("2000::/3")
_PRIVATE_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",
            "2002::/16",  # 6to4: an IPv4 address in other clothes
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)  # interface ids that carry an IPv4 address (RFC 5214)

_URL = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")  # RFC 3986, and nothing else
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?")
_NUMBER = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)")
_PORTS = {"http": 80, "https": 443}


class UnsafeTarget(ValueError):
    """A URL or an address that nothing may be sent to; says why, in the user's words."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be sent to, as far as can be told without asking for its addresses."""

    scheme: str
    host: str  # a name, or an address without brackets
    port: int
    path: str  # with the query

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL in its one spelling."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_target(
    url: str, *, allow_http: bool = False, allowed_ports: frozenset[int] = frozenset()
) -> Target:
    """Return what a URL says; no allowed ports mean any.

    Raises:
        UnsafeTarget: it is no plain URL, or not one that may be sent to.
    """
    if len(url) > MAX_URL:
        raise UnsafeTarget(f"It must have at most {MAX_URL} characters")
    if not _URL.fullmatch(url):
        raise UnsafeTarget("It must be written in plain ASCII, percent-encoded where needed")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UnsafeTarget("It is no URL") from error
    if parts.scheme not in (("https", "http") if allow_http else ("https",)):
        raise UnsafeTarget("It must begin with https://")
    if "@" in parts.netloc:
        raise UnsafeTarget("It must not carry a username or password")
    if "#" in url:
        raise UnsafeTarget("It must not have a fragment")
    if parts.netloc.endswith(":") or port == 0:
        raise UnsafeTarget("Its port is not one that can be connected to")
    port = port or _PORTS[parts.scheme]
    if allowed_ports and port not in allowed_ports:
        raise UnsafeTarget("Its port is not one that webhooks may be sent to")
    query = f"?{parts.query}" if parts.query else ""
    return Target(parts.scheme, _host(parts.netloc), port, f"{parts.path or '/'}{query}")


def is_public(address: str) -> bool:
    """Tell whether an IP address is anybody's on the Internet, and so may be sent to."""
    try:
        v4 = IPv4Address(address)
    except AddressValueError:
        return _is_public_v6(address)
    return not any(v4 in network for network in _PRIVATE_V4)


def _is_public_v6(address: str) -> bool:
    try:
        v6 = IPv6Address(address)
    except AddressValueError:
        return False
    if v6.scope_id is not None or v6 not in _GLOBAL_V6:
        return False
    if (int(v6) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return not any(v6 in network for network in _PRIVATE_V6)


def _host(netloc: str) -> str:
    """Return the host, an address in its canonical spelling."""
    if netloc.startswith("["):
        text, _, rest = netloc[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise UnsafeTarget("Its host is no name and no address")
        try:
            v6 = IPv6Address(text)
        except AddressValueError as error:
            raise UnsafeTarget("Its host is no IPv6 address") from error
        if v6.scope_id is not None:
            raise UnsafeTarget("Its host must not have a zone")
        return str(v6)
    host = netloc.partition(":")[0].lower()
    if not _NAME.fullmatch(host) or len(host) > 253:
        raise UnsafeTarget("Its host is no name and no address")
    # A resolver takes 0x7f.1, 017700000001 and 2130706433 for 127.0.0.1.
    if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        try:
            return str(IPv4Address(host))
        except AddressValueError as error:
            raise UnsafeTarget("Its address must be written as four decimal numbers") from error
    return host
