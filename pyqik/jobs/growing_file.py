"""A file that only grows, on the local disk: cut into pieces as it is written, each with its checksum.

A piece that is full, or that a write of the state ends, goes to a store and never changes. What an earlier run has left
is there in the store only, as long as nobody reads it: beneath it the local file has a hole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

from pyqik.core.errors import StoreError
from pyqik.stores.checksums import crc32c, joined
from pyqik.stores.store import JOINED, Part, Reads, Writes

#: Bytes of a full piece. With one on its way and one that grows, a stop has 8 MiB at most left to store.
PIECE: Final = 4 * 1024 * 1024
#: Bytes that are gathered before they are written to the disk.
BUFFER: Final = 128 * 1024
#: Bytes that are read at once.
CHUNK: Final = 1024 * 1024
#: Orders of magnitude that a piece can have: 5 TiB are the most that Cloud Storage takes.
_MAGNITUDES: Final = 9


@dataclass(slots=True, eq=False)
class Piece:
    """Some bytes of a file, from `start` on. `part` is what the store has of them; None as long as it has nothing."""

    start: int
    size: int
    crc: int
    part: Part | None = None
    #: Whether the local file has them.
    is_local: bool = True
    #: Whether it was cut out of another one, which is stored as well.
    is_extra: bool = False

    @property
    def end(self) -> int:
        return self.start + self.size


class GrowingFile:
    """See the module's docstring. `parts` are what an earlier run has left; `full` hears of each piece that is full,
    and may wait. Used by the job's thread; `reads` also by others.
    """

    def __init__(self, path: Path, parts: list[Part], full: Callable[[Piece], None]) -> None:
        self.path: Final = path
        self._full = full
        self._pieces: list[Piece] = []
        for part in parts:
            self._pieces.append(Piece(self._end, part.size, part.crc, part, is_local=False))
        self._open = Piece(self._end, 0, 0)
        self._buffer = bytearray()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        #: Bytes that were written, in this run or in an earlier one.
        self.size = self._end

    @property
    def _end(self) -> int:
        return self._pieces[-1].end if self._pieces else 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes. Raises: OSError, such as that of a full disk; ValueError after the run; what `full` raises."""
        if self._descriptor < 0:
            raise ValueError(f"{self.path.name} belongs to a run that is over")
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) >= BUFFER:
            self.flush()

    def flush(self) -> None:
        """Bring what was gathered to the disk. Raises: what `write` raises."""
        while self._buffer:
            piece = self._open
            with memoryview(self._buffer) as view, view[: max(PIECE - piece.size, 1)] as chunk:
                written = os.pwrite(self._descriptor, chunk, piece.end)
                piece.crc = crc32c(chunk[:written], piece.crc)
            piece.size += written
            del self._buffer[:written]
            if piece.size >= PIECE:
                self._close_piece()

    def cut(self, length: int) -> list[Piece]:
        """The pieces of its first `length` bytes; the last one may have been made for that.

        Raises: what `write` raises.
        """
        self.flush()
        if length == self.size:
            if self._open.size:
                self._close_piece()
            return list(self._pieces)
        pieces = [piece for piece in self._pieces if piece.end <= length]
        start = pieces[-1].end if pieces else 0
        if start < length:
            crc = 0
            for data in self._read(start, length - start):
                crc = crc32c(data, crc)
            pieces.append(Piece(start, length - start, crc, is_extra=True))
        return pieces

    def joinable(self, length: int, longest: int) -> list[Piece]:
        """Pieces that follow each other and should become one, of `longest` bytes at most; none as long as few are so
        small. Those that end after `length` may be cut again, and wait.

        The latest pieces of one order of magnitude are joined to one of the next, so their number grows as the
        logarithm of the file's size, and a byte is joined as often.
        """
        stored = list(takewhile(lambda piece: piece.part is not None and piece.end <= length, self._pieces))
        for magnitude in range(_MAGNITUDES):
            small = []
            for piece in reversed(stored):
                if _magnitude(piece, longest) > magnitude:
                    break
                small.append(piece)
            if len(small) >= JOINED:
                group = small[::-1][:JOINED]
                return [piece for piece in group if piece.end - group[0].start <= longest]
        return []

    def join(self, pieces: list[Piece], part: Part) -> None:
        """These are one now, in the store."""
        first = self._pieces.index(pieces[0])
        whole = Piece(pieces[0].start, part.size, part.crc, part, is_local=all(piece.is_local for piece in pieces))
        self._pieces[first : first + len(pieces)] = [whole]

    def sums(self) -> tuple[int, int]:
        """Size and checksum of all that was written."""
        self.flush()
        return joined((piece.size, piece.crc) for piece in [*self._pieces, self._open])

    def reads(self, piece: Piece) -> Reads:
        """What gives the bytes of a piece. Raises, when it is called: StoreError if they are not there any more."""
        return lambda: self._read(piece.start, piece.size)

    def restore(self, get: Callable[[Part, Writes], None]) -> None:
        """Bring everything to the local disk. Raises: StoreError, OSError."""
        self.flush()
        for piece in self._pieces:
            if not piece.is_local and piece.part is not None:
                self._fill(piece, piece.part, get)
                piece.is_local = True

    def close(self) -> None:
        """It is not needed any more. Whoever still has it must not write: the descriptor may soon be another file's."""
        descriptor, self._descriptor = self._descriptor, -1
        self._buffer = bytearray()
        if descriptor >= 0:
            os.close(descriptor)

    def _fill(self, piece: Piece, part: Part, get: Callable[[Part, Writes], None]) -> None:
        position, crc = piece.start, 0

        def write(data: bytes) -> None:
            nonlocal position, crc
            crc = crc32c(data, crc)
            while data:
                written = os.pwrite(self._descriptor, data, position)
                position, data = position + written, data[written:]

        get(part, write)
        if (position, crc) != (piece.end, piece.crc):
            raise StoreError(f"{part.name} is not what was stored: its checksum is another one; push the job again")

    def _read(self, start: int, size: int) -> Iterator[bytes]:
        end = start + size
        while start < end:
            data = os.pread(self._descriptor, min(CHUNK, end - start), start)
            if not data:
                raise StoreError(f"{self.path} was cut short by somebody else; the job goes on from what is stored")
            start += len(data)
            yield data

    def _close_piece(self) -> None:
        piece, self._open = self._open, Piece(self._open.end, 0, 0)
        self._pieces.append(piece)
        self._full(piece)


def _magnitude(piece: Piece, longest: int) -> int:
    """As many times 32 bytes; too many if four such pieces are no joined one."""
    return piece.size.bit_length() // 5 if piece.size * 4 <= longest else _MAGNITUDES
