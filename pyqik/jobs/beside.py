"""What belongs to the state of a long job and may be large: hashes beside it, of which each write sends what is new.

They are written in the same command as the cursor. What was sent is kept until Redis has answered, and sent again with
the next write until then: a request may be dropped when a process ends, and no row may be lost by that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar, cast

from pyqik.core.errors import InvalidCursor
from pyqik.jobs.answer import Answer
from pyqik.wire.state_requests import STATE_TTL, HashWrite, Question, Read, StateReply

C = TypeVar("C", bound="Content")


@dataclass(slots=True)
class Changes:
    """What has become of a hash since it was last asked; an empty value removes a field. `cleared`: it was emptied
    before.
    """

    fields: dict[str, bytes] = field(default_factory=dict)
    cleared: bool = False

    def then(self, later: Changes) -> Changes:
        """Both, in that order."""
        return later if later.cleared else Changes({**self.fields, **later.fields}, self.cleared)


class Content(Protocol):
    """What a hash holds, as the job sees it. Used by the job's thread or task."""

    def load(self, fields: Mapping[bytes, bytes]) -> None:
        """A part of what an earlier run has left. Raises: ValueError and its like for what it has not written."""
        ...

    def changes(self, items: int, *, ended: bool) -> Changes:
        """What is new since the last call, without what the item numbered `items` has changed, as it is not done yet;
        unless the job has `ended`.
        """
        ...


class Beside:
    """One hash. `kept` are the seconds for which it is kept after the job's end; 0: it ends with the job."""

    def __init__(self, key: str, content: Content, kept: int, *, is_new: bool) -> None:
        self.key: Final = key
        self.content: Final = content
        self.kept: Final = kept
        # One that is new replaces whatever an earlier job of that jid has left.
        self._unanswered: list[tuple[int, Changes]] = [(0, Changes(cleared=True))] if is_new else []
        #: Whether what stands there is another job's, as nothing was written yet.
        self.is_foreign = is_new
        self._lock = threading.Lock()

    def writes(self, number: int, items: int, kept: int, *, ended: bool) -> list[HashWrite]:
        """What the write of this number holds: whatever Redis has not answered to. It is kept for `kept` seconds."""
        changes = self.content.changes(items, ended=ended)
        self.is_foreign = False
        with self._lock:
            self._unanswered.append((number, changes))
            merged = Changes()
            for _, each in self._unanswered:
                merged = merged.then(each)
        write = HashWrite(self.key, list(merged.fields.items()), kept)
        return [HashWrite(self.key, kept=0), write] if merged.cleared else [write]

    def answered(self, number: int) -> None:
        """Redis has everything up to the write of that number; in the keeper's thread."""
        with self._lock:
            self._unanswered = [(sent, changes) for sent, changes in self._unanswered if sent > number]


class Besides:
    """All hashes beside the state of one run."""

    def __init__(
        self,
        ask: Callable[[Question], Answer],
        check: Callable[[StateReply, str], None],
        unasked: Callable[[str, bool], Sequence[tuple[str, bytes]]],
    ) -> None:
        self._ask = ask
        self._check = check
        #: What is written into a hash that this run has not opened.
        self._unasked = unasked
        #: Those of earlier runs, too, and for how many seconds each is kept after the job's end.
        self.known: dict[str, int] = {}
        self._open: dict[str, Beside] = {}
        self._number = 0

    def __contains__(self, key: str) -> bool:
        """Whether this run has opened it."""
        return key in self._open

    def open(self, key: str, make: Callable[[], C], kept: int) -> C:
        """What the hash `key` holds: what `make` makes, unless this run has opened it before."""
        if key not in self._open:
            content = make()
            self.read(key, content)
            self.add(key, content, kept)
        return cast(C, self._open[key].content)

    async def aopen(self, key: str, make: Callable[[], C], kept: int) -> C:
        """`open` for async code."""
        if key not in self._open:
            content = make()
            await self.aread(key, content)
            self.add(key, content, kept)
        return cast(C, self._open[key].content)

    def read(self, key: str, content: Content) -> None:
        """Have `content` load all of the hash `key`."""
        position = self._first_page(key)
        while position:
            position = self._load(key, content, self._ask(Read(key, position)).wait())

    async def aread(self, key: str, content: Content) -> None:
        """`read` for async code."""
        position = self._first_page(key)
        while position:
            position = self._load(key, content, await self._ask(Read(key, position)).arrival())

    def _first_page(self, key: str) -> bytes:
        found = self._open.get(key)
        return b"" if key not in self.known or (found is not None and found.is_foreign) else b"0"

    def _load(self, key: str, content: Content, reply: StateReply) -> bytes:
        """Where the next page begins; empty if that was the last one."""
        self._check(reply, key)
        try:
            content.load(reply.fields)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise InvalidCursor(f"{key} holds what no job has written: {error}; remove it to go on without") from None
        return b"" if reply.position == b"0" else reply.position

    def add(self, key: str, content: Content, kept: int) -> None:
        """`key` is opened, and `content` what it holds, or what is new of it."""
        self._open[key] = Beside(key, content, kept, is_new=key not in self.known)
        self.known = {**self.known, key: kept}

    def writes(self, items: int, *, ended: bool = False) -> tuple[int, list[HashWrite]]:
        """A number for this write, and what it holds; `ended` if the job ends with it.

        Those that are not open are renewed.
        """
        self._number += 1
        writes: list[HashWrite] = []
        for key, kept_after in self.known.items():
            kept = kept_after if ended else STATE_TTL
            found = self._open.get(key)
            if found is not None and kept:
                writes += found.writes(self._number, items, kept, ended=ended)
            else:
                writes.append(HashWrite(key, self._unasked(key, ended) if kept else (), kept))
        return self._number, writes

    def answered(self, number: int) -> None:
        """Redis has everything up to the write of that number; in the keeper's thread."""
        for each in tuple(self._open.values()):
            each.answered(number)
