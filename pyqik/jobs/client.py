"""Clients: what pushes jobs, Python's or Ruby's, from a web process, a script or another job.

Both forms write the same; only how they wait differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from types import TracebackType
from typing import Any, Self

import redis
import redis.asyncio

from pyqik.jobs.blocking import warn_if_loop_runs
from pyqik.jobs.drafting import Draft, Jids, PointInTime
from pyqik.jobs.failed_rows import FailedRows
from pyqik.jobs.middleware import ClientMiddleware
from pyqik.jobs.options import DEFAULTS, NOT_GIVEN, check_options, given
from pyqik.jobs.progress import Progress, progress_of
from pyqik.wire import iteration
from pyqik.wire.connection import close_async_redis, open_async_redis, open_redis
from pyqik.wire.long_jobs import LongJob, read_long_job, read_long_job_async
from pyqik.wire.pushing import AsyncPusher, Pusher
from pyqik.wire.replies import whole


class Client:
    """Pushes jobs to one Redis. Thread-safe; make one and keep it.

        client = pyqik.Client("redis://localhost:6379/0")
        jid = client.push("Billing::CloseMonthJob", "2027-01", queue="critical", retry=10)

    `redis` is a URL, or a redis-py client, which then stays the caller's to close. `middleware` is entered in this
    order, the first one outermost. `default_job_options` are options of every job that is pushed without them.
    Raises: ValueError for a URL that cannot be read; InvalidJob for an option that cannot be.
    """

    def __init__(
        self,
        redis: str | redis.Redis,
        middleware: Iterable[ClientMiddleware] = (),
        *,
        default_job_options: Mapping[str, Any] = DEFAULTS,
    ) -> None:
        self._defaults = _defaults(default_job_options)
        self._owned = isinstance(redis, str)
        self._redis = open_redis(redis) if isinstance(redis, str) else redis
        self._middleware = tuple(middleware)
        self._pusher = Pusher(self._redis)

    def push(
        self,
        job_class: str,
        /,
        *args: Any,
        queue: str = NOT_GIVEN,
        retry: bool | int = NOT_GIVEN,
        at: PointInTime | None = None,
        jid: str | None = None,
        **fields: Any,
    ) -> str | None:
        """Push one job of the class that is called `job_class` on the wire, and return its jid.

        `at` puts it into the schedule, past times included. `queue`, `retry` and `fields` (`retry_for`, `tags`, ...)
        are its options; for those that are left out the client's defaults count. The value is None if a middleware
        stopped it. A lost reply is made up for: the job is pushed once.

        Raises: InvalidJob before anything is sent; redis.ConnectionError or TimeoutError when Redis did not answer for
        some seconds. Whether the job was pushed is unknown then; pushing the same `jid` again may run it twice.
        """
        warn_if_loop_runs()
        draft = Draft(job_class, {**self._defaults, **given(queue=queue, retry=retry), **fields}, self._middleware)
        batch, jid = draft.one(args, at=at, jid=jid)
        if batch:
            self._pusher.push(batch)
        return jid

    def push_bulk(
        self,
        job_class: str,
        args_lists: Iterable[Sequence[Any]],
        /,
        *,
        queue: str = NOT_GIVEN,
        retry: bool | int = NOT_GIVEN,
        at: PointInTime | Sequence[PointInTime] | None = None,
        batch_size: int = 1000,
        **fields: Any,
    ) -> list[str | None]:
        """Push one job for each list of arguments, `batch_size` in a round trip; returns one jid (or None) for each.

        `args_lists` may be any iterable; it is read batch by batch. `at` is one time for all jobs or one for each.

        Raises: what `push` raises. The batches before are pushed by then; a note on the error says how many jobs.
        """
        warn_if_loop_runs()
        draft = Draft(job_class, {**self._defaults, **given(queue=queue, retry=retry), **fields}, self._middleware)
        pushed: Jids = []
        try:
            for batch, jids in draft.many(args_lists, at=at, size=batch_size):
                if batch:
                    self._pusher.push(batch)
                pushed += jids
        except Exception as error:
            error.add_note(_pushed_before(pushed))
            raise
        return pushed

    def cancel(self, jid: str) -> int:
        """Have a long job end, whether Python or Ruby runs it; since when that is asked for (epoch seconds).

        It ends at its next item, 5 seconds later at most; one that waits, or will be retried, when it starts. It counts
        as done. A job that never asks where it was (see `pyqik.each`) does not hear of it. Raises: redis.RedisError.
        """
        warn_if_loop_runs()
        return iteration.cancel(self._redis, jid)

    def progress(self, jid: str) -> Progress | None:
        """How far a long job is, in Python or in Ruby: at its last write, five seconds ago at most. None for one that
        has not begun, is done without having used `pyqik.progress`, or ended more than a day ago.

        Raises: redis.RedisError.
        """
        warn_if_loop_runs()
        return _progress(jid, read_long_job(self._redis, jid))

    def rows(self, jid: str) -> FailedRows | None:
        """The rows of an import that have failed, see `pyqik.rows`; None for a job that has no rows, or ended more than
        a week ago. Raises: redis.RedisError; ValueError for what no job has written there.
        """
        warn_if_loop_runs()
        return _rows(read_long_job(self._redis, jid, errors=True))

    @property
    def connection(self) -> redis.Redis:
        """The redis-py client through which it pushes."""
        return self._redis

    def close(self) -> None:
        """Close its connections, if it opened them."""
        if self._owned:
            self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """`Client` for asyncio: the same methods, awaited. Bound to the event loop in which it is first used."""

    def __init__(
        self,
        redis: str | redis.asyncio.Redis,
        middleware: Iterable[ClientMiddleware] = (),
        *,
        default_job_options: Mapping[str, Any] = DEFAULTS,
    ) -> None:
        self._defaults = _defaults(default_job_options)
        self._owned = isinstance(redis, str)
        self._redis = open_async_redis(redis) if isinstance(redis, str) else redis
        self._middleware = tuple(middleware)
        self._pusher = AsyncPusher(self._redis)

    async def push(
        self,
        job_class: str,
        /,
        *args: Any,
        queue: str = NOT_GIVEN,
        retry: bool | int = NOT_GIVEN,
        at: PointInTime | None = None,
        jid: str | None = None,
        **fields: Any,
    ) -> str | None:
        """Push one job; see `Client.push`."""
        draft = Draft(job_class, {**self._defaults, **given(queue=queue, retry=retry), **fields}, self._middleware)
        batch, jid = draft.one(args, at=at, jid=jid)
        if batch:
            await self._pusher.push(batch)
        return jid

    async def push_bulk(
        self,
        job_class: str,
        args_lists: Iterable[Sequence[Any]],
        /,
        *,
        queue: str = NOT_GIVEN,
        retry: bool | int = NOT_GIVEN,
        at: PointInTime | Sequence[PointInTime] | None = None,
        batch_size: int = 1000,
        **fields: Any,
    ) -> list[str | None]:
        """Push one job for each list of arguments; see `Client.push_bulk`."""
        draft = Draft(job_class, {**self._defaults, **given(queue=queue, retry=retry), **fields}, self._middleware)
        pushed: Jids = []
        try:
            for batch, jids in draft.many(args_lists, at=at, size=batch_size):
                if batch:
                    await self._pusher.push(batch)
                pushed += jids
        except Exception as error:
            error.add_note(_pushed_before(pushed))
            raise
        return pushed

    async def cancel(self, jid: str) -> int:
        """Have a long job end; see `Client.cancel`."""
        return await iteration.cancel_async(self._redis, jid)

    async def progress(self, jid: str) -> Progress | None:
        """How far a long job is; see `Client.progress`."""
        return _progress(jid, await read_long_job_async(self._redis, jid))

    async def rows(self, jid: str) -> FailedRows | None:
        """The rows of an import that have failed; see `Client.rows`."""
        return _rows(await read_long_job_async(self._redis, jid, errors=True))

    async def close(self) -> None:
        """Close its connections, if it opened them."""
        if self._owned:
            await close_async_redis(self._redis)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _defaults(options: Mapping[str, Any]) -> Mapping[str, Any]:
    check_options(options, "default_job_options")
    return {**DEFAULTS, **deepcopy(dict(options))}


def _progress(jid: str, found: LongJob) -> Progress | None:
    return progress_of(jid, found.state, found.progress, whole(found.rows.get(b"failed")))


def _rows(found: LongJob) -> FailedRows | None:
    return FailedRows.read(found.rows, found.errors) if found.rows else None


def _pushed_before(pushed: Jids) -> str:
    return f"{sum(jid is not None for jid in pushed)} jobs of this bulk were pushed before the error"
