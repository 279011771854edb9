"""Where a finished file goes: a path of this machine. It is there as a whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from pyqik.core.errors import StoreError
from pyqik.stores.checksums import crc32c
from pyqik.stores.memory import MemoryStore
from pyqik.stores.store import Mismatch, Part, Reads


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that is to be published."""

    reads: Reads
    size: int
    crc: int
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Its parts in the store, `JOINED` at most, for a target that takes them.
    parts: Sequence[Part] = ()


class Published(NamedTuple):
    """What was published. `generation` tells it from what is written there later."""

    generation: int
    size: int
    crc: int


class Target(Protocol):
    """One place. All methods raise StoreError."""

    @property
    def takes_parts(self) -> bool:
        """Whether it makes the file of parts that are in the store, so that nobody fetches them."""
        ...

    def generation(self) -> int:
        """That of what stands there now; 0 if nothing does."""
        ...

    def write(self, finished: Finished, expected: int) -> Published:
        """Write it, if what stands there is still of the generation `expected`, or is this very file."""
        ...


class PathTarget:
    """A path of this machine."""

    takes_parts = False

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()

    def generation(self) -> int:
        """The time of its last change, in nanoseconds."""
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._failed(error) from error

    def write(self, finished: Finished, expected: int) -> Published:
        """Beside its place, and then moved there; a path has no way to compare what stands there in that instant."""
        beside = self._path.with_name(f".{self._path.name}-{secrets.token_hex(4)}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._copy(finished, beside)
                os.replace(beside, self._path)
            finally:
                with suppress(FileNotFoundError):
                    beside.unlink()
        except OSError as error:
            raise self._failed(error) from error
        return Published(self.generation(), finished.size, finished.crc)

    def _copy(self, finished: Finished, path: Path) -> None:
        size = crc = 0
        with open(path, "xb") as file:
            for data in finished.reads():
                file.write(data)
                size, crc = size + len(data), crc32c(data, crc)
            file.flush()
            os.fsync(file.fileno())
        if (size, crc) != (finished.size, finished.crc):
            raise Mismatch(f"{self._path}: the bytes to be published are not those that were written")

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(f"{self._path} cannot be published: {error.strerror or error}")


class MemoryTarget:
    """An address in a store in memory: for tests. It takes the parts that are in `parts`."""

    takes_parts = True

    def __init__(self, store: MemoryStore, url: str, parts: MemoryStore) -> None:
        self._store = store
        self._url = url
        self._parts = parts

    def generation(self) -> int:
        """That of what stands there now."""
        return self._store.generation(self._url)

    def write(self, finished: Finished, expected: int) -> Published:
        """Write it, if nobody else has written there meanwhile."""
        data = self._parts.bytes_of(finished.parts) if finished.parts else b"".join(finished.reads())
        if (len(data), crc32c(data)) != (finished.size, finished.crc):
            raise Mismatch(f"{self._url}: the bytes to be published are not those that were written")
        if self._store.objects.get(self._url) == data:
            return Published(self.generation(), finished.size, finished.crc)
        return Published(self._store.replace(self._url, data, expected), finished.size, finished.crc)
