"""What a store of parts is. A part is immutable: it is put once, under a name that is used once, and later removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from pyqik.core.errors import StoreError

#: Parts that are joined at once, at most: as many as Cloud Storage composes.
JOINED: Final = 32


class Missing(StoreError):
    """A part, or the bytes of it, are not where they were put."""


class Occupied(StoreError):
    """Where a part was to be put, other bytes stand already."""


class Refused(StoreError):
    """The store cannot be used at all: no credentials, no permission, no such bucket. Trying again does not help."""


class Mismatch(StoreError):
    """Bytes are not those of which the checksum was taken."""


class Part(NamedTuple):
    """What a store has: `size` in bytes, `crc` as CRC32C, `generation` as the store numbers what is written there."""

    name: str
    size: int
    crc: int
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that was found; `age` in seconds since it was written."""

    name: str
    size: int
    age: float


#: Gives the bytes of a part, in chunks, each time it is called: an upload may have to begin again.
Reads = Callable[[], Iterator[bytes]]
#: Takes the next bytes.
Writes = Callable[[bytes], object]
#: Says for how many seconds it is still worthwhile to try. Asked again after each failure.
Patience = Callable[[], float]


class Store(Protocol):
    """Any thread may use it. All but `name` raise StoreError, with the address, what failed, and the way out."""

    @property
    def name(self) -> str:
        """Its address, for people."""
        ...

    @property
    def longest_join(self) -> int:
        """Bytes up to which parts should be joined: where that copies them, it must be worth it."""
        ...

    def put(self, name: str, reads: Reads, size: int, crc: int, patience: Patience) -> Part:
        """Write a part. What stands there already is left alone: it is this part, or an error.

        Raises: Occupied if it is other bytes; Mismatch if the bytes are not those of the checksum.
        """
        ...

    def join(self, name: str, parts: Sequence[Part], patience: Patience) -> Part:
        """Write one part that has the bytes of these, 1 to `JOINED` of them; they stay. As `put` does otherwise."""
        ...

    def get(self, part: Part, writes: Writes) -> None:
        """Read it. What it writes may be less than all, or not what was put. Raises: Missing if it is gone."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove these, as far as they are there."""
        ...

    def find(self, prefix: str) -> Iterator[Stored]:
        """All whose names begin so."""
        ...

    def check(self) -> None:
        """Write, read and remove a small object."""
        ...
