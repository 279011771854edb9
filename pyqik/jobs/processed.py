"""The ids of what a job has done, for work without an order: they survive interruptions and crashes with the job.

An id is done as soon as it is added, whatever becomes of the item in hand. It is written with the cursor, and at once
where a thousand have gathered; with `durable`, before `add` returns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

from pyqik.core.errors import PyqikError
from pyqik.jobs.beside import Changes
from pyqik.jobs.blocking import warn_if_loop_runs
from pyqik.jobs.context import current_long_run
from pyqik.jobs.long_run import LongRun
from pyqik.jobs.number_set import NumberSet
from pyqik.wire import keys

Id = TypeVar("Id", int, str)

#: As many ids may wait for the next write of the state; then they are written without waiting for it.
MOST_WAITING: Final = 1000

_KIND: Final = re.compile(r"[\w.:-]{1,100}")


def processed(kind: str, *, durable: bool = False) -> Processed[Any]:
    """The ids of this kind that the job has done, in this run or in an earlier one.

        done = pyqik.processed("item_id")
        for item_id in ids:
            pyqik.raise_if_stopping()
            if item_id not in done:
                delete(item_id)
                done.add(item_id)

    Ids are whole numbers or texts, those of one kind all of one type. What this run has added it sees at once; after a
    crash those of the last five seconds (`flush_interval`) may be missing, none with `durable`, which costs a round
    trip to Redis for each call. They stand in the hash `<jid>/<kind>`: about 1.3 bits for each number that has
    neighbours, about 90 bytes for each text, and they are gone when the job is done. The first call of a run blocks
    while it reads them; in async code it is `await pyqik.aprocessed(...)`.

    Raises: PyqikError for a kind that cannot be; InvalidCursor; Interrupted and its like.
    """
    run, key = _asked(kind)
    return Processed(run, run.beside(key, lambda: _Ids(kind), "aprocessed"), durable)


async def aprocessed(kind: str, *, durable: bool = False) -> Processed[Any]:
    """`processed` for async code; with `durable` it is `await done.aadd(...)`."""
    run, key = _asked(kind)
    return Processed(run, await run.abeside(key, lambda: _Ids(kind)), durable)


def ids_of(fields: Mapping[bytes, bytes]) -> set[int] | set[str]:
    """The ids in a hash `<jid>/<kind>`. Raises: ValueError."""
    ids = _Ids("")
    ids.load(fields)
    return set(ids)


def _asked(kind: str) -> tuple[LongRun, str]:
    if type(kind) is not str or not _KIND.fullmatch(kind):
        raise PyqikError(f"processed({kind!r}): write a name of letters, digits, and _ . : - for the kind of ids")
    run = current_long_run()
    return run, keys.processed(run.jid, kind)


class Processed(Collection[Id], Generic[Id]):
    """What `processed` returns."""

    def __init__(self, run: LongRun, ids: _Ids, durable: bool) -> None:
        self._run = run
        self._ids = ids
        self._durable = durable

    def _put(self, item_id: object) -> None:
        self._ids.add(item_id)
        self._run.is_skipping = False

    def add(self, item_id: Id) -> None:
        """It is done. Raises: TypeError for what is no whole number or text, or of another type than the others; with
        `durable`, what `pyqik.raise_if_stopping` raises.
        """
        self._put(item_id)
        if self._durable:
            warn_if_loop_runs()
            self._run.save_in_item().wait()
        elif self._ids.waiting >= MOST_WAITING:
            self._run.save_unless_busy()

    async def aadd(self, item_id: Id) -> None:
        """`add` for async code."""
        self._put(item_id)
        if self._durable:
            await self._run.save_in_item().arrival()
        elif self._ids.waiting >= MOST_WAITING:
            self._run.save_unless_busy()

    def update(self, item_ids: Iterable[Id]) -> None:
        """These are done; with `durable` that is one round trip. Raises: what `add` raises."""
        for item_id in item_ids:
            self._put(item_id)
            if self._ids.waiting >= MOST_WAITING:
                self._run.save_unless_busy()
        if self._durable:
            warn_if_loop_runs()
            self._run.save_in_item().wait()

    async def aupdate(self, item_ids: Iterable[Id]) -> None:
        """`update` for async code."""
        for item_id in item_ids:
            self._put(item_id)
        if self._durable:
            await self._run.save_in_item().arrival()
        elif self._ids.waiting >= MOST_WAITING:
            self._run.save_unless_busy()

    def clear(self) -> None:
        """None of them is done: they are forgotten with the next write."""
        self._ids.clear()

    def __contains__(self, item_id: object) -> bool:
        found = item_id in self._ids.texts or item_id in self._ids.numbers
        if found:
            # A run that has only come by what was done before has not got on.
            self._run.is_skipping = True
        return found

    def __len__(self) -> int:
        return len(self._ids.texts) + len(self._ids.numbers)

    def __iter__(self) -> Iterator[Id]:
        return iter(self._ids)

    def __repr__(self) -> str:
        return f"<{len(self)} processed ids of the kind {self._ids.kind!r}>"


class _Ids:
    """See `pyqik.jobs.beside.Content`. A field is a chunk of a `NumberSet`, or a text that has the value 1."""

    def __init__(self, kind: str) -> None:
        self.kind: Final = kind
        self.numbers = NumberSet()
        self.texts: set[str] = set()
        #: How many were added since the last write.
        self.waiting = 0
        self._new_texts: list[str] = []
        self._cleared = False

    def add(self, item_id: object) -> None:
        if type(item_id) is int and not self.texts:
            self.numbers.add(item_id)
        elif type(item_id) is str and not self.numbers:
            if item_id in self.texts:
                return
            self._new_texts.append(_checked(item_id, self.kind))
            self.texts.add(item_id)
        else:
            others = "texts" if self.texts else "whole numbers" if self.numbers else "whole numbers or texts"
            raise TypeError(f"processed({self.kind!r}) was given {item_id!r}; its ids are {others}")
        self.waiting += 1

    def clear(self) -> None:
        self.numbers.clear()
        self.texts.clear()
        self._new_texts.clear()
        self._cleared, self.waiting = True, 0

    def load(self, fields: Mapping[bytes, bytes]) -> None:
        for field, value in fields.items():
            if value == b"1":
                self.texts.add(field.decode())
            else:
                self.numbers.load(field, value)

    def changes(self, items: int, *, ended: bool) -> Changes:
        texts, self._new_texts = self._new_texts, []
        changes = Changes({**dict.fromkeys(texts, b"1"), **self.numbers.written()}, self._cleared)
        self._cleared, self.waiting = False, 0
        return changes

    def __iter__(self) -> Iterator[Any]:
        return iter(self.texts or self.numbers)


def _checked(item_id: str, kind: str) -> str:
    try:
        item_id.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"processed({kind!r}) was given {item_id!r}, which is no UTF-8: {error.reason}") from None
    return item_id
