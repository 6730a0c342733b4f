"""What REDIS_URL says of sentinels, and what is refused of it."""

import pytest

from app.settings.redis_url import sentinel_url


def test_all_of_it_is_read() -> None:
    found = sentinel_url(
        "rediss+sentinel://ada:p%40ss@one:26380,two,[::1]:26381/my%20redis/3"
        "?ssl_cert_reqs=none&sentinel_username=watch&sentinel_password=w%2Fd"
    )
    assert found
    assert found.sentinels == (("one", 26380), ("two", 26379), ("::1", 26381))
    assert found.service == "my redis"
    assert found.sentinel_credentials == ("watch", "w/d")
    assert found.redis == "rediss://ada:p%40ss@sentinel/3?ssl_cert_reqs=none"
    assert found.is_tls


def test_what_is_left_out_is_usual() -> None:
    found = sentinel_url("redis+sentinel://one/main")
    assert found
    assert (found.sentinels, found.service) == ((("one", 26379),), "main")
    assert (found.sentinel_credentials, found.redis) == ((None, None), "redis://sentinel/0")
    assert not found.is_tls


@pytest.mark.parametrize("url", ["redis://one:26379/0", "rediss://one/0", "unix:///run/redis"])
def test_another_kind_is_none(url: str) -> None:
    assert sentinel_url(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://",
        "redis+sentinel://one:26379",
        "redis+sentinel://one:26379/",
        "redis+sentinel://one,/main",
        "redis+sentinel://one:0/main",
        "redis+sentinel://one:99999/main",
        "redis+sentinel://one:port/main",
        "redis+sentinel://::1/main",
        "redis+sentinel://one/main/first",
        "redis+sentinel://one/main/0/0",
        "redis+sentinel://a:b@c:s3cret@one/main",
    ],
)
def test_a_malformed_one_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(ValueError, match="must be written as") as refused:
        sentinel_url(url)
    assert "s3cret" not in str(refused.value)
