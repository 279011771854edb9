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
from pyqik.jobs.long_run import LongRun, Rhythm
from pyqik.testing.state_hash import write_fields
from pyqik.wire.iteration import Fields, StateReply
from pyqik.wire.payload import Payload

PAYLOAD = Payload({"class": "Long", "jid": "a" * 24, "queue": "a", "args": []})


class Kept:
    """The state of one job as it stands in Redis, and whoever writes it."""

    def __init__(self, **fields: str) -> None:
        self.hash = {name.encode(): value.encode() for name, value in fields.items()}
        self.verdict = "ok"
        #: What each write of a running job held, as texts.
        self.writes: list[dict[str, str]] = []
        self.last_run: LongRun | None = None

    def open(self, run: LongRun) -> Answer:
        return self._answered(StateReply(self.verdict, dict(self.hash)), run)

    def save(self, run: LongRun, fields: Fields) -> Answer:
        write_fields(self.hash, fields)
        self.writes.append(self.texts)
        return self._answered(StateReply(self.verdict, cancelled=b"cancelled" in self.hash), run)

    @property
    def texts(self) -> dict[str, str]:
        """What stands there, without the run time."""
        return {name.decode(): value.decode() for name, value in self.hash.items() if name != b"rt"}

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
                write_fields(self.hash, self.last_run.last_fields(1000.0, stopped=isinstance(error, Interruption)))
        return error

    def _answered(self, reply: StateReply, run: LongRun) -> Answer:
        answer = Answer(run.hear)
        answer.give(reply)
        return answer
