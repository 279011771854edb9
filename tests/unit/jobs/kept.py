"""A long job without an engine: its state in a dictionary, its runs in the test's own thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pyqik.core.errors import Interruption, InvalidCursor
from pyqik.jobs import context
from pyqik.jobs.answer import Answer
from pyqik.jobs.context import Context
from pyqik.jobs.long_run import LongRun
from pyqik.jobs.timetable import Rhythm
from pyqik.testing.state_hash import StateHash
from pyqik.wire.payload import Payload
from pyqik.wire.state_requests import Question, Save, StateReply

PAYLOAD = Payload({"class": "Long", "jid": "a" * 24, "queue": "a", "args": []})


class Kept:
    """The state of one job as it stands in Redis, and whoever writes it."""

    def __init__(self, **fields: str) -> None:
        self.state = StateHash({name.encode(): value.encode() for name, value in fields.items()})
        self.verdict = "ok"
        #: What each write of a running job held, as texts.
        self.writes: list[dict[str, str]] = []
        self.last_run: LongRun | None = None

    def ask(self, run: LongRun, question: Question, answer: Answer) -> None:
        if self.verdict != "ok":
            answer.give(StateReply(self.verdict))
            return
        answer.give(self.state.answer(b"the run", question))
        if isinstance(question, Save):
            self.writes.append(self.texts)

    @property
    def hash(self) -> dict[bytes, bytes]:
        """The state itself."""
        return self.state.fields

    @property
    def texts(self) -> dict[str, str]:
        """What stands there, without the run time and the owner."""
        return {name: value for name, value in self.state.text().items() if name not in ("rt", "owner")}

    def run(self, job: Callable[[], Any], *, stop_after: int | None = None) -> BaseException | None:
        """Run `job`, told to stop when it has done so many items; what ended it, None for its own end."""
        entered = self._enter(stop_after)
        try:
            job()
        except BaseException as error:
            return self._ended(error)
        finally:
            context.reset(entered)
        return None

    def run_async(self, job: Callable[[], Awaitable[Any]], *, stop_after: int | None = None) -> BaseException | None:
        """The same for an `async def`."""

        async def ran() -> BaseException | None:
            entered = self._enter(stop_after)
            try:
                await job()
            except BaseException as error:
                return self._ended(error)
            finally:
                context.reset(entered)
            return None

        return asyncio.run(ran())

    def _enter(self, stop_after: int | None) -> Any:
        def stopping() -> bool:
            return stop_after is not None and run.items >= stop_after

        run = self.last_run = LongRun("Long", "a" * 24, self, stopping, Rhythm(flush_interval=0))
        return context.enter(Context(PAYLOAD, stopping, lambda: run))

    def _ended(self, error: BaseException) -> BaseException:
        assert self.last_run is not None
        if self.last_run.opened:
            with suppress(InvalidCursor):
                self.state.settle(
                    b"the run", self.last_run.last_writes(1000.0, stopped=isinstance(error, Interruption))
                )
        return error
