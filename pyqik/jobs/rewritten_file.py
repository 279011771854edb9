"""A file that is rewritten, not only added to: kept as it was at the last boundary between two items.

Its author works on `path`. A snapshot copies that aside and compares it, block by block, with the last one: blocks that
are the same are in the store already.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pyqik.core.errors import StoreError
from pyqik.jobs.growing_file import CHUNK, PIECE, Piece
from pyqik.stores.checksums import crc32c, joined
from pyqik.stores.store import Part, Reads, Writes


class RewrittenFile:
    """See the module's docstring. `kept` is where the last snapshot is; `parts` are those of an earlier run's."""

    def __init__(self, path: Path, kept: Path, parts: list[Part]) -> None:
        self.path: Final = path
        self._kept = kept
        self._pieces: list[Piece] = []
        start = 0
        for part in parts:
            self._pieces.append(Piece(start, part.size, part.crc, part, is_local=False))
            start += part.size
        #: Of each piece, as far as they are known: a CRC would find two blocks the same that are not.
        self._digests: list[bytes] = []
        self._is_fetched = not parts

    @property
    def size(self) -> int:
        """Bytes of the file as it is now."""
        if self._is_fetched:
            return self.path.stat().st_size if self.path.exists() else 0
        return self.sums()[0]

    def fetch(self, get: Callable[[Part, Writes], None]) -> None:
        """Have `path` be as it was when the last snapshot was taken, once. Raises: StoreError, OSError."""
        if not self._is_fetched:
            self.restore(get)
            shutil.copyfile(self._kept, self.path)
            self._is_fetched = True

    def restore(self, get: Callable[[Part, Writes], None]) -> None:
        """Have the last snapshot on the local disk. Raises: StoreError, OSError."""
        if all(piece.is_local for piece in self._pieces):
            return
        with open(self._kept, "wb") as file:
            for piece in self._pieces:
                digest = _digest()
                crc = 0

                def write(data: bytes) -> None:
                    nonlocal crc
                    file.write(data)
                    digest.update(data)  # noqa: B023 - called within the turn
                    crc = crc32c(data, crc)

                assert piece.part is not None
                get(piece.part, write)
                if (file.tell(), crc) != (piece.end, piece.crc):
                    raise StoreError(
                        f"{piece.part.name} is not what was stored: its checksum is another one; push the job again"
                    )
                self._digests.append(digest.digest())
        for piece in self._pieces:
            piece.is_local = True

    def take(self) -> None:
        """Take a snapshot; the last one must be stored. Raises: OSError; StoreError if the file is gone."""
        if not self._is_fetched:
            return
        if not self.path.exists():
            if self._pieces:
                raise StoreError(f"{self.path} was removed by somebody; the job goes on from its last snapshot")
            return
        shutil.copyfile(self.path, self._kept)
        before = dict(zip(self._digests, self._pieces, strict=True))
        self._pieces, self._digests, start = [], [], 0
        with open(self._kept, "rb") as file:
            while data := file.read(PIECE):
                digest = _digest(data).digest()
                same = before.get(digest)
                part = None if same is None else same.part
                self._pieces.append(Piece(start, len(data), crc32c(data), part))
                self._digests.append(digest)
                start += len(data)

    def cut(self, length: int) -> list[Piece]:
        """The pieces of the last snapshot; as `GrowingFile.cut`."""
        return list(self._pieces)

    def joinable(self, length: int, longest: int) -> list[Piece]:
        """None: as they are, the next snapshot may have them, too."""
        return []

    def join(self, pieces: list[Piece], part: Part) -> None:
        """Never called."""

    def sums(self) -> tuple[int, int]:
        """Size and checksum of the last snapshot."""
        return joined((piece.size, piece.crc) for piece in self._pieces)

    def reads(self, piece: Piece) -> Reads:
        """What gives the bytes of a piece."""
        return lambda: self._read(piece.start, piece.size)

    def close(self) -> None:
        """It is not needed any more."""

    def _read(self, start: int, size: int) -> Iterator[bytes]:
        if not size:
            return
        with open(self._kept, "rb") as file:
            file.seek(start)
            while size and (data := file.read(min(CHUNK, size))):
                yield data
                size -= len(data)


def _digest(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=16)
