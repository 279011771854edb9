"""Redis URLs: which are accepted, what is wrong with the others, and that no password is ever shown."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqik.core.config.redis_url import redacted, redis_url_mistakes


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379",
        "redis://localhost:6379/",
        "redis://localhost:6379/15",
        "redis:///1",
        "redis://:s3cret@localhost:6379/0",
        "redis://app:s3cret@redis.internal:6379/0",
        "redis://app:p%2Fss%40@redis.internal/0",
        "redis://[::1]:6379/0",
        "redis://redis_1/0?db=3&socket_timeout=5",
        "rediss://cache.example.com:6380/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=2",
        "unix://app:s3cret@/run/redis.sock",
        "redis+sentinel://one:26379,two:26379/mymaster",
        "redis+sentinel://app:s3cret@one,two:26380/mymaster/0?sentinel_password=x",
        "rediss+sentinel://[::1]:26379,[::2]:26379/mymaster/1",
    ],
)
def test_a_url_that_works_has_no_mistake(url: str) -> None:
    assert list(redis_url_mistakes(url)) == []


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("", "not a URL"),
        ("localhost:6379", "is localhost:6379, not a URL; write redis://HOST:6379/0"),
        ("http://localhost", "the scheme must be one of redis, rediss"),
        ("redis+cluster://localhost", "Redis Cluster cannot serve"),
        ("redis://localhost:port", "the host and port cannot be read"),
        ("redis://localhost:0", "the port must be between 1 and 65535"),
        ("redis://localhost:65536/0", "the port must be between 1 and 65535"),
        ("redis://localhost/cache", "the database at the end must be a number"),
        ("redis://localhost/0/1", "the database at the end must be a number"),
        ("redis://localhost/²", "the database at the end must be a number"),
        ("redis://localhost?db=x", "the option db must be a number"),
        ("redis://local host/0", "white space"),
        ("redis://localhost/0\n", "white space"),
        ("redis://:p#ss@localhost", "not a URL"),
        ("redis://:p/ss@localhost/0", "write / as %2F"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("redis+sentinel://one:26379", "name the master"),
        ("redis+sentinel:///mymaster", "a Sentinel has no host"),
        ("redis+sentinel://one,:26379/mymaster", "a Sentinel has no host"),
        ("redis+sentinel://one:99999/mymaster", "the port must be between"),
        ("redis+sentinel://one/mymaster/x", "the database at the end must be a number"),
    ],
)
def test_a_url_that_does_not_work_is_refused_with_the_reason(url: str, part: str) -> None:
    mistakes = list(redis_url_mistakes(url))

    assert any(part in mistake for mistake in mistakes), mistakes


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:s3cret@localhost/0", "redis://:***@localhost/0"),
        ("redis://app:s3cret@localhost/0", "redis://app:***@localhost/0"),
        ("redis://s3cret@localhost/0", "redis://***@localhost/0"),
        ("rediss://app:s3/cr@et#@localhost/0", "rediss://app:***@localhost/0"),
        ("redis://localhost/0?password=s3cret&db=1", "redis://localhost/0?password=***&db=1"),
        ("redis://localhost/0?password=s3@cret", "redis://localhost/0?password=***"),
        ("redis+sentinel://a,b/m?sentinel_password=s3cret", "redis+sentinel://a,b/m?sentinel_password=***"),
        ("redis+sentinel://app:s3cret@a:1,b:2/m", "redis+sentinel://app:***@a:1,b:2/m"),
        ("redis://app:s3cret", "redis://***"),
        ("app:s3cret@localhost", "***"),
        ("localhost:6379/0", "localhost:6379/0"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redacted(url) == shown


# Upper case: no such letters stand in what surrounds the password.
passwords = st.text(st.sampled_from("ABCXYZ/?#@:%&=+ .,;![]"), min_size=1).map(lambda text: f"SECRET{text}SECRET")


@given(passwords)
def test_no_password_is_shown_even_if_it_was_not_percent_encoded(password: str) -> None:
    url = f"redis://app:{password}@localhost:6379/0"

    assert "SECRET" not in redacted(url)
    assert "SECRET" not in " ".join(redis_url_mistakes(url))


@given(passwords)
def test_every_percent_encoded_password_is_accepted(password: str) -> None:
    assert list(redis_url_mistakes(f"redis://app:{quote(password, safe='')}@localhost:6379/0")) == []
