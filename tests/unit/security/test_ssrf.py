"""Where webhooks may go: every trick that a URL or an address can play."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.security.ssrf import Target, UnsafeTarget, is_public, parse_target

ADDRESSES = st.ip_addresses()
PUBLIC_V4 = "93.184.215.14"


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:93.184.215.14",
        "::ffff:0:93.184.215.14",
        "64:ff9b::5db8:d70e",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:53aa:64c:0:0:a247:28f1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2606:2800:21f:cb07::5efe:7f00:1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:2800:21f:cb07:6820:80da:af6b:8b2c%1",
        "fec0::1",
        "ff02::1",
        "no address",
        "",
        "127.1",
        "0177.0.0.1",
    ],
)
def test_what_is_not_anybodys_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", [PUBLIC_V4, "1.1.1.1", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
)
def test_what_is_on_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@given(ADDRESSES)
def test_nothing_is_public_that_python_knows_to_be_special(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    special = (
        not address.is_global
        or address.is_multicast
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or (isinstance(address, ipaddress.IPv4Address) and address.is_reserved)
    )
    assert not (special and is_public(str(address)))


@given(st.ip_addresses(v=4))
def test_no_ipv6_address_carries_an_ipv4_address_past_the_guard(
    inner: ipaddress.IPv4Address,
) -> None:
    number = int(inner)
    for prefix, shift in (
        ("::", 0),
        ("::ffff:0:0", 0),
        ("::ffff:0:0:0", 0),
        ("64:ff9b::", 0),
        ("2002::", 80),
        ("2001::", 0),
        ("2a00:1450::5efe:0:0", 0),
        ("2a00:1450::200:5efe:0:0", 0),
    ):
        outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | number << shift)
        assert not is_public(str(outer))


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("https://example.com", Target("https", "example.com", 443, "/")),
        ("https://Example.COM:443/a?b=c", Target("https", "example.com", 443, "/a?b=c")),
        ("https://example.com:8443/a%20b", Target("https", "example.com", 8443, "/a%20b")),
        (f"https://{PUBLIC_V4}/", Target("https", PUBLIC_V4, 443, "/")),
        ("https://[2606:2800:0:0::1]:9/x", Target("https", "2606:2800::1", 9, "/x")),
        ("https://xn--bcher-kva.example/", Target("https", "xn--bcher-kva.example", 443, "/")),
        ("https://a_b.example./", Target("https", "a_b.example.", 443, "/")),
    ],
)
def test_a_plain_url_is_read_in_one_way(url: str, parsed: Target) -> None:
    assert parse_target(url) == parsed
    assert parse_target(parsed.url) == parsed


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "http://example.com",
        "HTTP://example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "gopher://example.com",
        "https://",
        "https:///path",
        "https://user@example.com",
        "https://user:pass@example.com",
        "https://@example.com",
        "https://example.com#@evil.example",
        "https://example.com\\@127.0.0.1",
        "https://example.com:0",
        "https://example.com:",
        "https://example.com:65536",
        "https://example.com:x",
        "https://example.com:-1",
        "https://exa mple.com",
        "https://example.com/\r\nX-Evil: 1",
        "https://example.com/\x00",
        " https://example.com",
        "https://ex\tample.com",
        "https://bücher.example",
        "https://127。0。0。1",
        "https://\uff11\uff12\uff17.0.0.1",
        "https://%31%32%37.0.0.1",
        "https://127.1",
        "https://127.0.1",
        "https://2130706433",
        "https://017700000001",
        "https://0177.0.0.1",
        "https://0x7f.0.0.1",
        "https://0x7f000001",
        "https://0x",
        "https://127.0.0.1.",
        "https://example.0x1",
        "https://1.2.3.4.5",
        "https://256.1.1.1",
        "https://-example.com",
        "https://example..com",
        "https://.example.com",
        "https://[::1%25eth0]",
        "https://[fe80::1%eth0]/",
        "https://[v1.abc]/",
        "https://[::1",
        "https://[127.0.0.1]/",
        "https://[::1]x/",
        "https://" + "a" * 64 + ".example",
        "https://" + "a." * 127 + "example",
        "https://example.com/" + "a" * 2000,
    ],
)
def test_a_url_with_a_trick_is_refused(url: str) -> None:
    with pytest.raises(UnsafeTarget):
        parse_target(url)


def test_http_and_ports_are_allowed_only_by_setting() -> None:
    assert parse_target("http://example.com", allow_http=True).port == 80
    assert parse_target("https://example.com:8443", allowed_ports=frozenset({8443}))
    with pytest.raises(UnsafeTarget):
        parse_target("https://example.com", allowed_ports=frozenset({8443}))


@given(st.text(max_size=60))
def test_whatever_is_accepted_names_one_host_and_nothing_odd(rest: str) -> None:
    try:
        target = parse_target("https://" + rest)
    except UnsafeTarget:
        return
    assert target.host
    assert not set(target.host) & set("@/\\#?%[] ")
    assert parse_target(target.url) == target
