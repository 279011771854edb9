"""What a running long job waits for when it has asked whoever keeps its state."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from pyqik.wire.state_requests import StateReply


class Answer:
    """The keeper's answer to one request: awaited by the job's thread or task, given by the keeper's."""

    def __init__(self, hear: Callable[[StateReply], None] | None = None) -> None:
        self._hear = hear
        self._given = threading.Event()
        self._reply: StateReply | BaseException | None = None
        self._waiting: asyncio.Future[None] | None = None

    def give(self, reply: StateReply | BaseException) -> None:
        """Here it is; an exception is raised where it is awaited."""
        self._reply = reply
        if self._hear is not None and isinstance(reply, StateReply):
            self._hear(reply)
        self._given.set()
        if (waiting := self._waiting) is not None:
            with suppress(RuntimeError):  # Its loop has ended.
                waiting.get_loop().call_soon_threadsafe(_wake, waiting)

    @property
    def given(self) -> bool:
        """Whether it is there."""
        return self._given.is_set()

    def wait(self) -> StateReply:
        """Block until it is there."""
        self._given.wait()
        return self._taken()

    async def arrival(self) -> StateReply:
        """The same, for async code."""
        self._waiting = asyncio.get_running_loop().create_future()
        # Asked only now: an answer that came before has woken nobody.
        if not self.given:
            await self._waiting
        return self._taken()

    def _taken(self) -> StateReply:
        if isinstance(self._reply, BaseException):
            raise self._reply
        assert self._reply is not None
        return self._reply


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
