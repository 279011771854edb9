"""Where pushes go while a test wants none of them to be sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Final, Protocol
from unittest.mock import patch

from pyqik.wire.pushing import AsyncPusher, Batch, Pusher


class Sink(Protocol):
    """What takes the batches that clients would send."""

    def take(self, batch: Batch) -> None:
        """Take what a `Client` pushes."""
        ...

    async def atake(self, batch: Batch) -> None:
        """Take what an `AsyncClient` pushes."""
        ...


_lock: Final = threading.Lock()
#: Those of all open blocks, the one opened last at the end.
_open: list[Sink] = []
#: That of the innermost block of this thread or task, be it open or not.
_mine: Final[ContextVar[Sink | None]] = ContextVar("pyqik.testing.sink", default=None)
_patches: Final = ExitStack()

_send: Final = Pusher.push
_send_async: Final = AsyncPusher.push


@contextmanager
def redirected(sink: Sink) -> Iterator[None]:
    """Within the block every client's batches go to `sink`, from whatever thread: a web server's, for instance. Where
    two threads have blocks of their own, each keeps to its own.
    """
    outer = _mine.get()
    with _lock:
        if not _open:
            _patches.enter_context(patch.object(Pusher, "push", _push))
            _patches.enter_context(patch.object(AsyncPusher, "push", _push_async))
        _open.append(sink)
    _mine.set(sink)
    try:
        yield
    finally:
        # Not by a token: a fixture may be torn down in another context than it was set up in.
        _mine.set(outer)
        with _lock:
            _open[:] = [each for each in _open if each is not sink]
            if not _open:
                _patches.close()


def _sink() -> Sink | None:
    mine = _mine.get()
    with _lock:
        if any(each is mine for each in _open):
            return mine
        return _open[-1] if _open else None


def _push(pusher: Pusher, batch: Batch) -> None:
    sink = _sink()
    if sink is None:
        _send(pusher, batch)
    else:
        sink.take(batch)


async def _push_async(pusher: AsyncPusher, batch: Batch) -> None:
    sink = _sink()
    if sink is None:
        await _send_async(pusher, batch)
    else:
        await sink.atake(batch)
