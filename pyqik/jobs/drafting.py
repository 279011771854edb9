"""From arguments and options to payloads on the wire: defaults, client middleware, checks. Sends nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from itertools import islice, repeat
from typing import Any, Final, TypeAlias

from pyqik.core.errors import InvalidJob
from pyqik.jobs.middleware import ClientMiddleware, around
from pyqik.jobs.options import check_options
from pyqik.jobs.schedule import point_in_time
from pyqik.wire.payload import Payload, encode
from pyqik.wire.pushing import Batch
from pyqik.wire.stencil import Stencil

#: Epoch seconds or an aware datetime.
PointInTime: TypeAlias = float | datetime

#: The jids of a batch in the order of its jobs; None for a job that a middleware stopped.
Jids: TypeAlias = list[str | None]


#: One job of a bulk: its arguments, and the epoch seconds at which it is due.
_JobOfMany: TypeAlias = tuple[Sequence[Any], float | None]

_JID_BYTES: Final = 12


class Draft:
    """One class and one set of options, from which payloads are written.

    Timestamps are float seconds, the one form that Sidekiq 6, 7 and 8 all read. Raises: InvalidJob.
    """

    def __init__(self, job_class: str, options: Mapping[str, Any], middleware: Sequence[ClientMiddleware]) -> None:
        if type(job_class) is not str or not job_class:
            raise InvalidJob(f'the class is {job_class!r}; write its name on the wire, such as "Billing::SendReceipt"')
        check_options(options, job_class)
        self._job_class = job_class
        self._options = options
        self._middleware = middleware

    def one(self, args: Sequence[Any], *, at: PointInTime | None, jid: str | None) -> tuple[Batch, str | None]:
        """A batch of one job, and its jid; the batch is empty and the jid None if a middleware stopped it."""
        if jid is not None and (type(jid) is not str or not jid):
            raise InvalidJob(f"{self._job_class}: jid is {jid!r}; write 24 hexadecimal digits, or leave it out")
        batch = Batch()
        try:
            jid = self._write(batch, args, time.time(), None if at is None else point_in_time(at), jid)
        except InvalidJob as error:
            raise InvalidJob(f"{self._job_class}: {error}") from None
        return batch, jid

    def many(
        self, args_lists: Iterable[Sequence[Any]], *, at: PointInTime | Sequence[PointInTime] | None, size: int
    ) -> Iterator[tuple[Batch, Jids]]:
        """Batches of up to `size` jobs, written when they are asked for. `at` is one time for all, or one for each."""
        if type(size) is not int or size < 1:
            raise InvalidJob(f"{self._job_class}: batch_size is {size!r}; write a whole number from 1 up")
        jobs = _paired(self._job_class, args_lists, at)
        write = self._write_all if self._middleware else self._stencil_all
        done = 0
        while chunk := list(islice(jobs, size)):
            batch = Batch()
            jids: Jids = []
            try:
                write(batch, jids, chunk)
            except InvalidJob as error:
                raise InvalidJob(f"{self._job_class}, job {done + len(jids)} of the bulk: {error}") from None
            yield batch, jids
            done += len(chunk)

    def _stencil_all(self, batch: Batch, jids: Jids, chunk: Sequence[_JobOfMany]) -> None:
        now = time.time()
        shared = {"class": self._job_class, **self._options, "created_at": now}
        # Either all jobs of a bulk are scheduled or none.
        scheduled = chunk[0][1] is not None
        stencil = Stencil(shared if scheduled else {**shared, "enqueued_at": now})
        payloads = []
        digits = os.urandom(_JID_BYTES * len(chunk)).hex()
        for index, (args, _) in enumerate(chunk):
            jid = digits[index * 2 * _JID_BYTES : (index + 1) * 2 * _JID_BYTES]
            payloads.append(stencil.payload(jid, args if type(args) is list else _as_list(args)))
            jids.append(jid)
        if scheduled:
            batch.scheduled += [
                (at, payload) for (_, at), payload in zip(chunk, payloads, strict=True) if at is not None
            ]
        else:
            batch.queues[self._options["queue"]] = payloads

    def _write_all(self, batch: Batch, jids: Jids, chunk: Sequence[_JobOfMany]) -> None:
        now = time.time()
        for args, at in chunk:
            jids.append(self._write(batch, args, now, at, None))

    def _write(self, batch: Batch, args: Sequence[Any], now: float, at: float | None, jid: str | None) -> str | None:
        fields: dict[str, Any] = {
            "class": self._job_class,
            "args": _as_list(args),
            # What middleware appends to a job's tags must not stay in the job's own options.
            **(deepcopy(self._options) if self._middleware else self._options),
            "jid": jid or os.urandom(_JID_BYTES).hex(),
            "created_at": now,
        }
        if at is not None:
            fields["at"] = at
        payload = Payload(fields)
        if self._middleware:
            with around(self._middleware, payload) as proceed:
                pass
            if not proceed:
                return None
            at = _rechecked(payload)
        # A scheduled entry carries neither `at` nor `enqueued_at`: the poller adds the second when it is due.
        fields.pop("at", None)
        if at is not None:
            batch.schedule(at, encode(payload))
        else:
            fields["enqueued_at"] = now
            batch.enqueue(payload.queue, encode(payload))
        return payload.jid


def _as_list(args: Sequence[Any]) -> list[Any]:
    if not isinstance(args, (list, tuple)):
        raise InvalidJob(f"the arguments are {type(args).__name__}; write a list of them, such as [42]")
    return list(args)


def _paired(
    job_class: str, args_lists: Iterable[Sequence[Any]], at: PointInTime | Sequence[PointInTime] | None
) -> Iterator[_JobOfMany]:
    if isinstance(args_lists, (str, bytes)):
        raise InvalidJob(f"{job_class}: the jobs are {type(args_lists).__name__}; write a list of lists of arguments")
    if not isinstance(at, Sequence):
        return zip(args_lists, repeat(None if at is None else point_in_time(at)), strict=False)
    times = [point_in_time(each) for each in at]
    lists = list(args_lists)
    if len(times) != len(lists):
        raise InvalidJob(f"{job_class}: `at` has {len(times)} times for {len(lists)} jobs; write one for each")
    return zip(lists, times, strict=True)


def _rechecked(payload: Payload) -> float | None:
    """What client middleware left: the fields are checked again, and the time is returned."""
    fields = payload.fields
    for name in ("class", "jid", "queue"):
        if type(fields.get(name)) is not str or not fields[name]:
            raise InvalidJob(f"a client middleware left {name} as {fields.get(name)!r}; it must be a string")
    if type(fields.get("args")) is not list:
        raise InvalidJob("a client middleware left args as something that is not a list")
    at = fields.get("at")
    return None if at is None else point_in_time(at)
