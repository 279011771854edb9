"""A store in memory, for tests: as strict as Cloud Storage, and it fails where a test wants it to."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pyqik.core.errors import StoreError
from pyqik.stores.checksums import crc32c
from pyqik.stores.store import JOINED, Mismatch, Missing, Occupied, Part, Patience, Reads, Stored, Writes


class _Object(NamedTuple):
    data: bytes
    generation: int
    written_at: float


class MemoryStore:
    """See the module's docstring. `fault(verb, name)` is called before each operation, and may raise."""

    name = "memory"

    def __init__(self, fault: Callable[[str, str], object] = lambda verb, name: None) -> None:
        self.fault = fault
        #: Bytes that were put.
        self.received = 0
        self._objects: dict[str, _Object] = {}
        self._generation = 0
        self._lock = threading.Lock()

    def copy(self) -> MemoryStore:
        """One with the same objects, which may go another way."""
        other = MemoryStore(self.fault)
        other._objects, other._generation = dict(self._objects), self._generation
        return other

    @property
    def objects(self) -> dict[str, bytes]:
        """What stands there."""
        return {name: found.data for name, found in self._objects.items()}

    @property
    def longest_join(self) -> int:
        """See `Store.longest_join`."""
        return sys.maxsize

    def put(self, name: str, reads: Reads, size: int, crc: int, patience: Patience) -> Part:
        """See `Store.put`."""
        self.fault("put", name)
        data = b"".join(reads())
        self.received += len(data)
        if (len(data), crc32c(data)) != (size, crc):
            raise Mismatch(f"{self.name}: the bytes of {name} are not those that were written")
        return self._create(name, data)

    def join(self, name: str, parts: Sequence[Part], patience: Patience) -> Part:
        """See `Store.join`."""
        self.fault("join", name)
        return self._create(name, self.bytes_of(parts))

    def bytes_of(self, parts: Sequence[Part]) -> bytes:
        """Those of all of them; as Cloud Storage, it refuses more than it can compose."""
        if not 1 <= len(parts) <= JOINED:
            raise StoreError(f"{self.name}: {len(parts)} parts cannot be joined at once")
        return b"".join(self._found(part) for part in parts)

    def get(self, part: Part, writes: Writes) -> None:
        """See `Store.get`."""
        self.fault("get", part.name)
        writes(self._found(part))

    def _found(self, part: Part) -> bytes:
        found = self._objects.get(part.name)
        if found is None or found.generation != part.generation:
            raise Missing(f"{self.name}: {part.name} is gone")
        return found.data

    def _create(self, name: str, data: bytes) -> Part:
        with self._lock:
            found = self._objects.get(name)
            if found is None:
                found = self._write(name, data)
            elif found.data != data:
                raise Occupied(f"{self.name}: {name} is there already, with other bytes")
        return Part(name, len(data), crc32c(data), found.generation)

    def replace(self, name: str, data: bytes, expected: int) -> int:
        """Write an object whose generation is `expected` now, 0 if there is none; its new generation."""
        self.fault("replace", name)
        with self._lock:
            if self.generation(name) != expected:
                raise StoreError(f"{self.name}: somebody else has written {name} meanwhile")
            return self._write(name, data).generation

    def generation(self, name: str) -> int:
        """That of the object of this name; 0 if there is none."""
        found = self._objects.get(name)
        return 0 if found is None else found.generation

    def remove(self, names: Iterable[str]) -> None:
        """See `Store.remove`."""
        for name in names:
            self.fault("remove", name)
            self._objects.pop(name, None)

    def find(self, prefix: str) -> Iterator[Stored]:
        """See `Store.find`."""
        self.fault("find", prefix)
        now = time.time()
        for name, found in sorted(self._objects.items()):
            if name.startswith(prefix):
                yield Stored(name, len(found.data), now - found.written_at)

    def check(self) -> None:
        """See `Store.check`."""
        self.fault("check", "")

    def _write(self, name: str, data: bytes) -> _Object:
        self._generation += 1
        self._objects[name] = _Object(data, self._generation, time.time())
        return self._objects[name]
