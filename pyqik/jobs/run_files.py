"""The files of one run: their pieces go to the store while they are written, and what counts of them is one write with
the cursor.

A write of the state first has the pieces stored that it names, and only then goes to Redis: so whatever Redis knows is
in the store. Pieces have names of this run's own, so a run that was taken for dead can spoil nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from pyqik.core.errors import PyqikError, StoreError
from pyqik.jobs.file_manifest import Entry, manifest_text, read_manifest
from pyqik.jobs.growing_file import GrowingFile, Piece
from pyqik.jobs.rewritten_file import RewrittenFile
from pyqik.jobs.run_file import RunFile
from pyqik.jobs.scratch import scratch_directory
from pyqik.jobs.uploader import AtOnce, Uploads
from pyqik.stores.store import JOINED, Part, Patience, Store, Writes
from pyqik.stores.targets import Finished, Target

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


class RunFiles:
    """See the module's docstring. `behind` is called when async code writes faster than the store takes it."""

    def __init__(
        self, jid: str, storage: Storage, *, is_kept: bool = True, behind: Callable[[], None] = lambda: None
    ) -> None:
        self._prefix = f"{quote(jid, safe='')}/"
        self._storage = storage
        # What has no jid has no name in the store either.
        self._is_kept = is_kept and bool(jid)
        self._behind = behind
        self._text: bytes | None = None
        self._manifest: dict[str, Entry] | None = None
        self._open: dict[str, RunFile] = {}
        self._run = secrets.token_hex(6)
        self._numbers = count(1)
        self._directory: Path | None = None
        #: Parts that nothing refers to once the write of the state that has this number has reached Redis.
        self._outdated: deque[tuple[int, str]] = deque()

    def load(self, text: bytes | None) -> None:
        """What the state says of them."""
        self._text = text

    @property
    def is_used(self) -> bool:
        """Whether this run has asked for one."""
        return bool(self._open)

    @property
    def are_open(self) -> bool:
        """Whether one of them is not published yet."""
        return any(not file.entry.published for file in self._open.values())

    @property
    def are_stored(self) -> bool:
        """Whether the store may have something of them."""
        return (self.is_used or bool(self._text)) and self._store is not None

    @cached_property
    def _store(self) -> Store | None:
        return self._storage.store if self._is_kept else None

    @cached_property
    def _uploads(self) -> Uploads:
        return self._storage.uploads() if self._store is not None else AtOnce()

    @property
    def _entries(self) -> dict[str, Entry]:
        if self._manifest is None:
            self._manifest = read_manifest(self._text, self._prefix)
        return self._manifest

    def open(self, name: str, *, items: int = 0, snapshot: bool = False) -> RunFile:
        """The file of that name. Raises: PyqikError if there is no store for it; InvalidCursor; OSError."""
        if name not in self._open:
            if self._is_kept and self._store is None:
                raise PyqikError(
                    "there is no store for the files of jobs; name a directory that all workers share, or a bucket, as "
                    'in files="/mnt/jobs" or files="gs://bucket/prefix", in the configuration (PYQIK_FILES)'
                )
            if self._directory is None:
                self._directory = scratch_directory()
                for each in ("now", "kept"):
                    (self._directory / each).mkdir()
            entry = self._entries.setdefault(name, Entry())
            path, kept = self._directory / "now" / name, self._directory / "kept" / name
            local = (
                RewrittenFile(path, kept, entry.parts)
                if snapshot
                else GrowingFile(path, entry.parts, lambda piece: self._full(file, piece))
            )
            self._open[name] = file = RunFile(entry, local, items)
        return self._open[name]

    # Snapshots.

    def take_snapshots(self, items: int) -> float:
        """Between two items: of the files that are kept by them. Returns the seconds that it took. Raises: StoreError,
        OSError; what the savers raise.
        """
        rewritten = [file for file in self._open.values() if file.is_rewritten]
        if not rewritten:
            return 0.0
        began = time.monotonic()
        for file in rewritten:
            # What is still on its way is read from the last one.
            self._wait_for(file.local.cut(0))
            file.take_snapshot(items)
        return time.monotonic() - began

    def snapshots_lag(self, items: int) -> bool:
        """Whether a file may have changed since its last snapshot was taken."""
        return any(file.is_rewritten and file.taken_at != items for file in self._open.values())

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
        return manifest_text(entries)

    # Reading and publishing.

    def restore(self, file: RunFile) -> None:
        """Have all of it on the local disk. Raises: StoreError, OSError."""
        file.local.restore(self._get)

    def fetch(self, file: RunFile) -> str:
        """A path at which all of it is. Raises: StoreError, OSError."""
        if isinstance(file.local, RewrittenFile):
            file.local.fetch(self._get)
        else:
            file.local.restore(self._get)
            file.local.flush()
        return str(file.local.path)

    def _get(self, part: Part, write: Writes) -> None:
        if self._store is None:
            raise StoreError(f"{part.name} was stored, and this process has no store; set `files` in its configuration")
        self._store.get(part, write)

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
        if self.is_used:
            self._uploads.give_up(reason)

    def close(self) -> None:
        """The run is over: what is on the local disk goes."""
        if self.is_used:
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
            if self.is_used:
                # What is still on its way would stay there for ever.
                self._uploads.stop()
            self._store.remove([found.name for found in self._store.find(self._prefix)])


def _a_loop_runs() -> bool:
    """Whether waiting would hold up an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
