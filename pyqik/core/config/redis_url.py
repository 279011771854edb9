"""Redis URLs: what is wrong with one, and how to show it without its password.

Connecting is not done here; `redis_url_mistakes` only refuses what would fail later, or would silently mean
something else (redis-py ignores a database that is not a number).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qsl

SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
HIGHEST_PORT: Final = 65_535

# Not urllib's urlsplit: it raises for the host list of a Sentinel URL with IPv6 addresses.
_URL: Final = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?"
)
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[\w.%-]*)(?::(?P<port>[0-9]+))?")
_SCHEMELESS_HOST: Final = re.compile(r"[\w.-]+(?::[0-9]+)?(?:/[0-9]*)?")
_SECRET_OPTION: Final = re.compile(r"([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)
_UNQUOTED_HINT: Final = "in a user or password, write / as %2F, ? as %3F, # as %23 and @ as %40"


def redacted(url: str) -> str:
    """The URL without its password, for logs and errors. Hides too much rather than too little in a bad URL.

    Example: `redacted("redis://app:s3cret@host:6379/0")` is `"redis://app:***@host:6379/0"`.
    """
    scheme, separator, rest = _SECRET_OPTION.sub(r"\1***", url).partition("://")
    if not separator:
        return url if _SCHEMELESS_HOST.fullmatch(url) else "***"
    # The last @: a password that should have been percent-encoded may hold /, ?, # and @ itself.
    credentials, at, address = rest.rpartition("@")
    if at:
        return f"{scheme}://{_redacted_credentials(credentials)}@{address}"
    hosts = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # Without an @ the host was forgotten if this is no host: what stands there may be the password.
    return f"{scheme}://{rest}" if all(_HOST.fullmatch(host) for host in hosts.split(",")) else f"{scheme}://***"


def _redacted_credentials(credentials: str) -> str:
    user, colon, _ = credentials.partition(":")
    # A user without a colon is often a password whose colon was forgotten.
    return f"{user}:***" if colon and re.fullmatch(r"[\w.-]*", user) else "***"


def redis_url_mistakes(url: str) -> Iterator[str]:
    """Each mistake in a `redis://`, `rediss://`, `unix://` or `redis+sentinel://` URL, without its password."""
    parts = _URL.fullmatch(url)
    if parts is None:
        yield f"is {redacted(url)}, not a URL; write redis://HOST:6379/0 ({_UNQUOTED_HINT})"
    elif parts["scheme"] == "redis+cluster":
        yield f"is {redacted(url)}: Redis Cluster cannot serve Sidekiq's keys; name a single server or Sentinels"
    elif parts["scheme"] not in SCHEMES:
        yield f"is {redacted(url)}: the scheme must be one of {', '.join(SCHEMES)}"
    elif re.search(r"[\s\x00-\x1f\x7f]", url):
        yield f"is {redacted(url).split()[0]}…: it has white space or a control character; write it without"
    else:
        yield from (f"is {redacted(url)}: {mistake}" for mistake in _part_mistakes(parts))


def _part_mistakes(parts: re.Match[str]) -> Iterator[str]:
    if parts["scheme"] == "unix":
        yield from _socket_mistakes(parts)
    elif parts["scheme"].endswith("+sentinel"):
        yield from _sentinel_mistakes(parts)
    else:
        yield from _host_mistakes(parts["hosts"])
        yield from _database_mistakes(parts["path"].removeprefix("/"))
    for name, value in parse_qsl(parts["query"] or "", keep_blank_values=True):
        if name == "db" and not _is_database(value):
            yield "the option db must be a number, as in ?db=0"


def _socket_mistakes(parts: re.Match[str]) -> Iterator[str]:
    if parts["hosts"] or len(parts["path"]) < 2:
        yield "name the socket by its full path, with three slashes: unix:///run/redis.sock?db=0"


def _sentinel_mistakes(parts: re.Match[str]) -> Iterator[str]:
    for host in parts["hosts"].split(","):
        if not host or host.startswith(":"):
            yield "a Sentinel has no host; write redis+sentinel://HOST1:26379,HOST2:26379/MASTER/0"
        else:
            yield from _host_mistakes(host)
    master, _, database = parts["path"].removeprefix("/").partition("/")
    if not master:
        yield "name the master that the Sentinels watch: redis+sentinel://HOST1:26379/MASTER/0"
    yield from _database_mistakes(database)


def _host_mistakes(host: str) -> Iterator[str]:
    found = _HOST.fullmatch(host)
    if found is None:
        yield f"the host and port cannot be read; write HOST:6379 ({_UNQUOTED_HINT})"
    elif found["port"] is not None and not 1 <= int(found["port"]) <= HIGHEST_PORT:
        yield f"the port must be between 1 and {HIGHEST_PORT}"


def _database_mistakes(database: str) -> Iterator[str]:
    if database and not _is_database(database):
        yield f"the database at the end must be a number, as in /0 ({_UNQUOTED_HINT})"


def _is_database(text: str) -> bool:
    return text.isascii() and text.isdigit()
