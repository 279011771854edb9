"""Connections to Redis or Valkey: one server, TLS, a unix socket, or whatever master Sentinel names.

No connection opened here repeats a command by itself. redis-py's default does, and a command whose reply was lost has
then run twice: seen to lose a job at a take and to push one twice. Who calls decides what may be repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError
from redis.retry import Retry

CONNECT_TIMEOUT: Final = 3.0
#: Seconds that a reply may take. Sidekiq's own default since 7.3 is 3; a script over a 50 MB payload may need longer.
REPLY_TIMEOUT: Final = 10.0

Command = Sequence[bytes | str | int | float]


@dataclass(frozen=True, slots=True)
class Call:
    """A command, and what is sent in its place if it names a script that the server does not know yet."""

    command: Command
    in_full: Command = ()


class Script:
    """A Lua file of `pyqik/wire/lua`, called by its digest and sent in full when the server does not know it yet.

    Scripts share nothing in Redis, so what it has in common with others (`using`) is put before it here.
    """

    def __init__(self, name: str, *, using: str = "") -> None:
        lua = resources.files("pyqik.wire").joinpath("lua")
        self.text: Final = "".join(lua.joinpath(f"{each}.lua").read_text("utf-8") for each in (using, name) if each)
        self.sha: Final = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], arguments: Command) -> Call:
        """What runs it."""
        rest = (len(keys), *keys, *arguments)
        return Call(("EVALSHA", self.sha, *rest), ("EVAL", self.text, *rest))

    def run(self, client: redis.Redis, keys: Sequence[str], arguments: Command) -> Any:
        """Run it on `client`. Raises: redis.RedisError."""
        call = self.call(keys, arguments)
        try:
            return client.execute_command(*call.command)
        except NoScriptError:
            return client.execute_command(*call.in_full)

    async def run_async(self, client: redis.asyncio.Redis, keys: Sequence[str], arguments: Command) -> Any:
        """Run it on an asyncio `client`. Raises: redis.RedisError."""
        call = self.call(keys, arguments)
        try:
            return await client.execute_command(*call.command)
        except NoScriptError:
            return await client.execute_command(*call.in_full)


def open_redis(url: str) -> redis.Redis:
    """A client for `url`: `redis://`, `rediss://`, `unix://`, or `redis+sentinel://host:port,host:port/master/db`.

    It connects at its first command, and repeats none. Raises: ValueError for a URL that it cannot read.
    """
    options: dict[str, Any] = {**_options(url), **_driver(), "retry": Retry(NoBackoff(), 0)}
    sentinel = _SentinelUrl.parse(url)
    if sentinel is None:
        return redis.Redis.from_url(url, **options)
    client: redis.Redis = redis.sentinel.Sentinel(
        sentinel.hosts, sentinel_kwargs={**options, **sentinel.sentinel_options}, **options, **sentinel.options
    ).master_for(sentinel.master)
    return client


def open_async_redis(url: str) -> redis.asyncio.Redis:
    """The same as `open_redis`, for asyncio."""
    options: dict[str, Any] = {**_options(url), **_driver(), "retry": redis.asyncio.retry.Retry(NoBackoff(), 0)}
    sentinel = _SentinelUrl.parse(url)
    if sentinel is None:
        return redis.asyncio.Redis.from_url(url, **options)
    client: redis.asyncio.Redis = redis.asyncio.sentinel.Sentinel(
        sentinel.hosts, sentinel_kwargs={**options, **sentinel.sentinel_options}, **options, **sentinel.options
    ).master_for(sentinel.master)
    return client


async def close_async_redis(client: redis.asyncio.Redis) -> None:
    """Close `client` and, with Sentinel, the connections to the sentinels, which it does not close itself."""
    await client.aclose()
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        await sentinel.aclose()


#: RESP2 is what Redis 6.2 to Valkey 9 all speak alike, and it needs no HELLO, which hosted servers may forbid.
_OPTIONS: Final[dict[str, Any]] = {
    "protocol": 2,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_timeout": REPLY_TIMEOUT,
    "decode_responses": False,
}


def _options(url: str) -> dict[str, Any]:
    """A unix socket has no keep-alive, and redis-py refuses the option there."""
    return _OPTIONS if url.startswith("unix://") else {**_OPTIONS, "socket_keepalive": True}


def _driver() -> dict[str, Any]:
    """What redis-py says of itself to the server, made once for a client. Otherwise recent releases read a file for it
    before each connection, and a process without a free file descriptor gets an OSError in the place of a RedisError.
    """
    return {"driver_info": redis.DriverInfo()} if hasattr(redis, "DriverInfo") else {}


class Line:
    """One connection of the engine's own, used by one thread: several commands in one round trip, or one command
    whose reply is awaited elsewhere (`send`, then `fileno` in a poll, then `receive`).
    """

    def __init__(self, client: redis.Redis) -> None:
        # Any: redis-py types neither its connections nor the socket that has to be polled.
        self._connection: Any = client.connection_pool.make_connection()

    @property
    def connected(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return bool(self._connection._sock)

    def connect(self) -> None:
        """Open it, if it is closed. Raises: redis.ConnectionError, redis.TimeoutError, AuthenticationError."""
        # Sending would connect too, but to wherever a Sentinel connection was last, without asking the sentinels.
        if not self.connected:
            self._connection.connect()

    def call(self, *commands: Command) -> list[Any]:
        """Send `commands` in one go and return their replies; an error reply stands in its place, unraised.

        Raises: redis.ConnectionError or TimeoutError when the connection broke: nobody knows then what has run.
        """
        self.connect()
        self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
        return [self._reply() for _ in commands]

    def run(self, *calls: Call) -> list[Any]:
        """The same as `call`, for commands of which some are scripts; one that was not known runs after the others."""
        replies = self.call(*[call.command for call in calls])
        for index, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                replies[index] = self.call(calls[index].in_full)[0]
        return replies

    def send(self, command: Command) -> None:
        """Send one command without waiting for its reply."""
        self.connect()
        self._connection.send_packed_command(self._connection.pack_command(*command), check_health=False)

    def receive(self) -> Any:
        """The reply to what was sent. Raises: redis.RedisError."""
        return self._connection.read_response()

    def readable(self, timeout: float) -> bool:
        """Whether there is something to receive, or comes within `timeout` seconds. Raises: redis.ConnectionError."""
        return bool(self._connection.can_read(timeout))

    def fileno(self) -> int:
        """The descriptor to poll for a reply."""
        return int(self._connection._sock.fileno())

    def close(self) -> None:
        """Close it; it can be opened again."""
        self._connection.disconnect()

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error


def client_of(source: str | redis.Redis) -> redis.Redis:
    """`source` itself, or a client for the URL that it is; its connections end with the last object that has it.

    Raises: ValueError for a URL that it cannot read, and for a client that turns replies into text.
    """
    if isinstance(source, str):
        return open_redis(source)
    if source.get_encoder().decode_responses:
        raise ValueError("the client has decode_responses=True, but payloads are bytes; open one without it")
    return source


class _SentinelUrl:
    """`redis+sentinel://user:password@host:port,host:port/master/db?sentinel_password=…`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        path = [unquote(part) for part in parts.path.split("/") if part]
        if not path or not hosts:
            raise ValueError("a Sentinel URL is redis+sentinel://host:port,host:port/master-name/db")
        query = dict(parse_qsl(parts.query))
        tls = parts.scheme.startswith("rediss")
        self.hosts = [_host_and_port(host) for host in hosts.split(",")]
        self.master = path[0]
        self.sentinel_options: dict[str, Any] = {"ssl": True} if tls else {}
        for option in ("username", "password"):
            if f"sentinel_{option}" in query:
                self.sentinel_options[option] = query.pop(f"sentinel_{option}")
        # redis-py itself reads the remaining options, so that they mean the same with and without Sentinel.
        plain = urlunsplit(("rediss" if tls else "redis", "host", "", urlencode(query), ""))
        self.options: dict[str, Any] = dict(redis.connection.parse_url(plain))
        self.options.pop("host", None)
        self.options.pop("connection_class", None)
        self.options |= {"db": int(path[1]) if len(path) > 1 else 0} | ({"ssl": True} if tls else {})
        if username:
            self.options["username"] = unquote(username)
        if password:
            self.options["password"] = unquote(password)

    @classmethod
    def parse(cls, url: str) -> _SentinelUrl | None:
        return cls(url) if url.startswith(("redis+sentinel://", "rediss+sentinel://")) else None


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text else (text, "", "26379")
    return host, int(port)
