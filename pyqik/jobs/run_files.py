"""The files of one run: their pieces go to the store while they are written, and what counts of them is one write with
the cursor.

A write of the state first has the pieces stored that it names, and only then goes to Redis: so whatever Redis knows is
in the store. Pieces have names of this run's own, so a run that was taken for dead can spoil nothing.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from pyqik.core.errors import InvalidCursor, PyqikError, StoreError
from pyqik.jobs.growing_file import GrowingFile, Piece
from pyqik.jobs.scratch import scratch_directory
from pyqik.jobs.uploader import AtOnce, Uploads
from pyqik.stores.store import JOINED, Part, Patience, Store, Writes
from pyqik.stores.targets import Finished, Published, Target

#: Bytes of a file that may wait to be stored; a job that writes faster waits for the store.
WINDOW: Final = 8 * 1024 * 1024
#: Seconds for which a part is tried to be stored.
PATIENCE: Final = 60.0


class Storage(Protocol):
    """Where files are kept and published."""

    @property
    def store(self) -> Store | None:
        """None if nothing is kept."""
        ...

    def target(self, url: str) -> Target:
        """Where a file is published to. Raises: ValueError for an address that is none."""
        ...

    def uploads(self) -> Uploads:
        """What stores pieces, for one run."""
        ...


@dataclass(slots=True)
class Entry:
    """What the state says of a file: the parts of what counts of it, and where it was published."""

    parts: list[Part] = field(default_factory=list)
    published: dict[str, Published] = field(default_factory=dict)
    #: Address → the generation that stood there before it was published for the first time.
    intended: dict[str, int] = field(default_factory=dict)


class RunFile:
    """One file, as this run has it."""

    def __init__(self, entry: Entry, local: GrowingFile) -> None:
        self.entry = entry
        self.local = local
        #: What its author writes into.
        self.handle: io.IOBase | None = None
        #: The number of the item that has last written to it, and its size before that.
        self._item = -1
        self._before = 0
        #: Whether an earlier run has published it: then all of it is there, and what is written is left out.
        self.is_finished = bool(entry.published)
        #: Bytes that are stored, as full pieces or at the end of one; only the uploads change it.
        self.stored = local.size
        #: Pieces that are being joined in the store; and the part that they have become.
        self.joining: list[Piece] = []
        self.joined: Part | None = None

    @property
    def unstored(self) -> int:
        """Bytes that are not stored yet."""
        return self.local.size - self.stored

    def write(self, data: bytes | bytearray | memoryview, item: int) -> None:
        """Add bytes, while the item of this number is in hand. Raises: PyqikError after it was published."""
        if self.is_finished:
            return
        if self.entry.published:
            raise PyqikError(f"{self.local.path.name} was published and is finished; write into another file")
        if item != self._item:
            self._item, self._before = item, self.local.size
        self.local.write(data)

    def finish(self) -> None:
        """It is published: all that was written counts, whatever becomes of the item in hand."""
        self._item = -1

    def length(self, items: int) -> int:
        """How much of it counts if the item of this number is done again."""
        return self._before if self._item == items else self.local.size


class RunFiles:
    """See the module's docstring. `text` is the field of the state that says what an earlier run has left. `behind` is
    called when async code writes faster than the store takes it.
    """

    def __init__(
        self,
        jid: str,
        storage: Storage,
        text: bytes | None,
        *,
        is_kept: bool = True,
        behind: Callable[[], None] = lambda: None,
    ) -> None:
        self._prefix = f"{quote(jid, safe='')}/"
        self._storage = storage
        # What has no jid has no name in the store either.
        self._store = storage.store if is_kept and jid else None
        self._behind = behind
        self._uploads = storage.uploads() if self._store is not None else AtOnce()
        self._entries = _read(text, self._prefix)
        self._open: dict[str, RunFile] = {}
        self._run = secrets.token_hex(6)
        self._numbers = count(1)
        self._directory: Path | None = None
        #: Parts that nothing refers to once the write of the state that has this number has reached Redis.
        self._outdated: deque[tuple[int, str]] = deque()

    def open(self, name: str) -> RunFile:
        """The file of that name. Raises: OSError."""
        if name not in self._open:
            if self._directory is None:
                self._directory = scratch_directory()
            entry = self._entries.setdefault(name, Entry())
            path = self._directory / name
            self._open[name] = file = RunFile(
                entry, GrowingFile(path, entry.parts, lambda piece: self._full(file, piece))
            )
        return self._open[name]

    # Storing.

    def commit(
        self, items: int, number: int, write: Callable[[bytes], None], otherwise: Callable[[BaseException], None]
    ) -> None:
        """Have the pieces stored of what counts if the item of this number is done again; then call `write` with what
        is written of them in the state, by its write of this `number`. Returns at once.
        """
        try:
            cuts = self._cut(items, number)
        except (StoreError, OSError) as error:
            otherwise(error)
            return
        self._uploads.do(lambda: write(self._written(cuts)), otherwise)
        for file in self._open.values():
            self._join(file, file.length(items))

    def commit_now(self, items: int) -> bytes:
        """The same; returns what is written of them when they are stored. Raises: StoreError, OSError."""
        cuts = self._cut(items, 0)
        self._wait_for(piece for pieces in cuts.values() for piece in pieces)
        return self._written(cuts)

    def answered(self, number: int) -> None:
        """The state's write of this number has reached Redis, and with it what those before have said. From any
        thread.
        """
        outdated = []
        while self._outdated and self._outdated[0][0] <= number:
            outdated.append(self._outdated.popleft()[1])
        if outdated and self._store is not None:
            self._uploads.do(partial(self._remove, self._store, outdated), lambda error: None)

    def _remove(self, store: Store, names: list[str]) -> None:
        # At the job's end all that it has goes, whether anything refers to it or not.
        with suppress(StoreError):
            store.remove(names)

    def _cut(self, items: int, number: int) -> dict[str, list[Piece]]:
        cuts = {}
        for name, file in self._open.items():
            self._take_joined(file, number)
            cuts[name] = file.local.cut(file.length(items))
            self._send_all(file, cuts[name])
        return cuts

    def _send_all(self, file: RunFile, pieces: list[Piece]) -> None:
        for piece in pieces:
            if piece.part is None:
                self._send(file, piece)

    def _wait_for(self, pieces: Iterable[Piece]) -> None:
        if self._store is not None:
            waiting = list(pieces)
            self._uploads.wait_until(lambda: all(piece.part is not None for piece in waiting))

    def _full(self, file: RunFile, piece: Piece) -> None:
        self._send(file, piece)
        if self._store is None:
            return
        if _a_loop_runs():
            self._behind()
        else:
            self._uploads.wait_until(lambda: file.unstored <= WINDOW)

    async def catch_up(self) -> None:
        """For async code: wait as long as more waits to be stored than may."""
        if any(file.unstored > WINDOW for file in self._open.values()):
            files = list(self._open.values())
            await asyncio.to_thread(self._uploads.wait_until, lambda: all(file.unstored <= WINDOW for file in files))

    def _send(self, file: RunFile, piece: Piece) -> None:
        if self._store is not None:
            self._uploads.do(partial(self._put, self._store, file, piece), lambda error: None)

    def _put(self, store: Store, file: RunFile, piece: Piece) -> None:
        if piece.part is None:
            name = self._new_name(file)
            piece.part = store.put(name, file.local.reads(piece), piece.size, piece.crc, self._patience())
            if not piece.is_extra:
                file.stored += piece.size

    def _join(self, file: RunFile, length: int) -> None:
        """Have small parts become a larger one, so that what the state says of a file stays small."""
        store = self._store
        if store is not None and not file.joining:
            file.joining = file.local.joinable(length, store.longest_join)
            if file.joining:
                self._uploads.do(lambda: self._join_now(store, file), lambda error: None)

    def _join_now(self, store: Store, file: RunFile) -> None:
        parts = [piece.part for piece in file.joining if piece.part is not None]
        file.joined = store.join(self._new_name(file), parts, self._patience())

    def _take_joined(self, file: RunFile, number: int) -> None:
        if file.joined is not None:
            self._outdated.extend((number, piece.part.name) for piece in file.joining if piece.part is not None)
            file.local.join(file.joining, file.joined)
            file.joining, file.joined = [], None

    def _new_name(self, file: RunFile) -> str:
        return f"{self._prefix}{quote(file.local.path.name)}/{self._run}-{next(self._numbers):06}"

    def _patience(self) -> Patience:
        until = time.monotonic() + PATIENCE
        return lambda: 0.0 if self._uploads.failed else until - time.monotonic()

    def _written(self, cuts: Mapping[str, list[Piece]]) -> bytes:
        entries = dict(self._entries)
        for name, pieces in cuts.items():
            entry = self._entries[name]
            parts = [piece.part for piece in pieces if piece.part is not None]
            entries[name] = Entry(parts, entry.published, entry.intended)
        return _text(entries)

    # Reading and publishing.

    def restore(self, file: RunFile) -> None:
        """Have all of it on the local disk. Raises: StoreError, OSError."""
        store = self._store
        file.local.restore(lambda part, write: self._get(store, part, write))

    def _get(self, store: Store | None, part: Part, write: Writes) -> None:
        if store is None:
            raise StoreError(f"{part.name} was stored, and this process has no store; set `files` in its configuration")
        store.get(part, write)

    def target(self, url: str) -> Target:
        """Where a file is published to. Raises: ValueError."""
        return self._storage.target(url)

    def finished(
        self, file: RunFile, content_type: str | None, metadata: Mapping[str, str], *, as_parts: bool = False
    ) -> Finished:
        """The whole file: on the local disk or, if it can be, as parts in the store. Raises: StoreError, OSError."""
        parts: list[Part] = []
        if as_parts and self._store is not None:
            parts = self._parts(self._store, file)
        else:
            self.restore(file)
        size, crc = file.local.sums()
        return Finished(file.local.reads(Piece(0, size, crc)), size, crc, content_type, metadata, parts)

    def _parts(self, store: Store, file: RunFile) -> list[Part]:
        pieces = file.local.cut(file.local.size)
        self._send_all(file, pieces)
        self._wait_for(pieces)
        parts = [piece.part for piece in pieces if piece.part is not None]
        while len(parts) > JOINED:
            groups = [parts[first : first + JOINED] for first in range(0, len(parts), JOINED)]
            parts = [store.join(self._new_name(file), group, self._patience()) for group in groups]
        return parts

    # The end.

    def give_up(self, reason: BaseException) -> None:
        """Nothing waits for the store any longer; from any thread."""
        self._uploads.give_up(reason)

    def close(self) -> None:
        """The run is over: what is on the local disk goes."""
        self._uploads.close()
        for file in self._open.values():
            file.local.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def contents(self) -> dict[str, bytes]:
        """All of each file, by name. Raises: StoreError, OSError."""
        contents = {}
        for name in self._entries:
            file = self.open(name)
            contents[name] = b"".join(self.finished(file, None, {}).reads())
        return contents

    def remove_all(self) -> None:
        """Remove everything that the store has of this job. Raises: StoreError."""
        if self._store is not None:
            self._store.remove([found.name for found in self._store.find(self._prefix)])


def _a_loop_runs() -> bool:
    """Whether waiting would hold up an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _text(entries: Mapping[str, Entry]) -> bytes:
    plain = {
        name: {
            "parts": entry.parts,
            **({"published": entry.published} if entry.published else {}),
            **({"intended": entry.intended} if entry.intended else {}),
        }
        for name, entry in entries.items()
    }
    return json.dumps(plain, separators=(",", ":")).encode() if plain else b""


def _read(text: bytes | None, prefix: str) -> dict[str, Entry]:
    """What `_text` has written. Raises: InvalidCursor."""
    try:
        plain: dict[str, Any] = json.loads(text or b"{}")
        return {
            name: Entry(
                [_checked(Part(*part), prefix) for part in each["parts"]],
                {url: Published(*published) for url, published in each.get("published", {}).items()},
                {url: int(generation) for url, generation in each.get("intended", {}).items()},
            )
            for name, each in plain.items()
        }
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise InvalidCursor(f"what is kept of the job's files cannot be read: {error}") from None


def _checked(part: Part, prefix: str) -> Part:
    """A part that is one of this job's: anybody who writes to Redis could name another file."""
    numbers = (part.size, part.crc, part.generation)
    if any(type(each) is not int or each < 0 for each in numbers) or not part.name.startswith(prefix):
        raise ValueError(f"{part!r} is no part of this job's files")
    if any(each in ("", ".", "..") for each in part.name.split("/")):
        raise ValueError(f"{part!r} has no proper name")
    return part
