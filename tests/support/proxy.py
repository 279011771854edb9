"""A TCP proxy between redis-py and its server that cuts, swallows or delays on request: for tests of outages.

One thread of its own runs it. Commands are counted from the moment a cut is asked for, over all connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import hiredis

_MORE: Final = object()


@dataclass
class _Cut:
    """A cut that waits for its command: `countdown` more that match, then the connection goes."""

    countdown: int
    command: str | None
    after_reply: bool

    def strikes(self, command: str) -> bool:
        if self.command is not None and command != self.command:
            return False
        self.countdown -= 1
        return self.countdown == 0


@dataclass(eq=False)
class _Link:
    """One client's connection and the one to the server that belongs to it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    forwarded: int = 0
    replied: int = 0
    #: Once set, replies are withheld, and the connection is cut when the server has answered this many commands.
    cut_at_reply: int | None = None
    replies: hiredis.Reader = field(default_factory=lambda: hiredis.Reader(notEnoughData=_MORE))

    def close(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class RedisProxy:
    """`with RedisProxy(server_url) as proxy: connect to proxy.url`.

    `requests` lists the names of the commands that came in; `cuts` counts the cuts that have happened.
    """

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._links: set[_Link] = set()
        self._cuts: list[_Cut] = []
        self._mode = "open"
        self.requests: list[str] = []
        self.cuts = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="redis-proxy", daemon=True)
        self._thread.start()
        self._opened = asyncio.Event()
        self._opened.set()
        self._listener = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        port = self._listener.sockets[0].getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"127.0.0.1:{port}"))

    def cut_after_request(self, n: int = 1, command: str | None = None) -> None:
        """Let the server run the `n`-th request from now (of those called `command`), then cut instead of replying."""
        self._call(lambda: self._cuts.append(_Cut(n, command, after_reply=True)))

    def cut_before_request(self, n: int = 1, command: str | None = None) -> None:
        """Cut when the `n`-th request from now (of those called `command`) comes in; the server never sees it."""
        self._call(lambda: self._cuts.append(_Cut(n, command, after_reply=False)))

    def cut_all(self) -> None:
        """Cut every connection now."""
        self._call(self._cut_all)

    def refuse(self) -> None:
        """Cut every connection, and each new one at once, until `restore`."""
        self._call(lambda: self._enter("refuse"))

    def blackhole(self) -> None:
        """Swallow all bytes of both directions, for good, while connections stay open; until `restore`."""
        self._call(lambda: self._enter("blackhole"))

    def pause(self) -> None:
        """Hold all bytes of both directions back until `restore`, which lets them go on."""
        self._call(lambda: self._enter("pause"))

    def restore(self) -> None:
        """End `refuse`, `blackhole` or `pause`, and forget the cuts that have not happened."""
        self._call(lambda: self._enter("open"))

    def close(self) -> None:
        """Cut everything and end the proxy's thread."""
        self._run(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> RedisProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self._mode == "refuse":
            to_client.transport.abort()
            return
        try:
            server, to_server = await asyncio.open_connection(*self._server)
        except OSError:
            to_client.transport.abort()
            return
        link = _Link(to_client, to_server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump_requests(client, link))
                pumps.create_task(self._pump_replies(server, link))
        finally:
            self._links.discard(link)
            link.close()

    async def _pump_requests(self, client: asyncio.StreamReader, link: _Link) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                command, raw = await _read_request(client)
                self.requests.append(command)
                await self._opened.wait()
                if self._mode == "blackhole":
                    continue
                cut = next(iter([cut for cut in self._cuts if cut.strikes(command)]), None)
                if cut is not None:
                    self._cuts.remove(cut)
                    if not cut.after_reply:
                        self.cuts += 1
                        break
                link.forwarded += 1
                if cut is not None:
                    link.cut_at_reply = link.forwarded
                link.server.write(raw)
                await link.server.drain()
        link.close()

    async def _pump_replies(self, server: asyncio.StreamReader, link: _Link) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await server.read(65536):
                await self._opened.wait()
                link.replies.feed(data)
                while link.replies.gets() is not _MORE:
                    link.replied += 1
                if link.cut_at_reply is not None:
                    if link.replied >= link.cut_at_reply:
                        self.cuts += 1
                        break
                elif self._mode != "blackhole":
                    link.client.write(data)
                    await link.client.drain()
        link.close()

    def _enter(self, mode: str) -> None:
        self._mode = mode
        if mode == "pause":
            self._opened.clear()
        else:
            self._opened.set()
        if mode == "open":
            self._cuts.clear()
        if mode == "refuse":
            self._cut_all()

    def _cut_all(self) -> None:
        for link in self._links:
            link.close()

    async def _shut_down(self) -> None:
        self._listener.close()
        self._enter("refuse")
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=5)

    def _call(self, act: Callable[[], object]) -> None:
        async def run() -> None:
            act()

        self._run(run())

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)


async def _read_request(client: asyncio.StreamReader) -> tuple[str, bytes]:
    """The next command's name and its bytes: an array of bulk strings, which is all that clients send."""
    header = await client.readuntil(b"\r\n")
    parts = [header]
    name = b""
    for index in range(int(header[1:])):
        size = await client.readuntil(b"\r\n")
        body = await client.readexactly(int(size[1:]) + 2)
        if index == 0:
            name = body[:-2]
        parts += (size, body)
    return name.decode().upper(), b"".join(parts)
