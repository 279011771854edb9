"""The lines of a file as text, each with the place of its bytes: most of it runs in C, a block of lines at a time."""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final, NamedTuple

from pyqik.enumerators.files import CHUNK_SIZE, Stream

#: A line that is longer, in bytes, is refused: what has no line ends at all must not fill the memory.
LONGEST_LINE: Final = 16 * 1024 * 1024
#: As many bytes of a row are remembered of it, at most.
LONGEST_SAMPLE: Final = 64 * 1024

_BOMS: Final = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_ASCII: Final = "\r\n\t ,;|'\"0Az"


class Malformed(csv.Error):
    """A file that is no CSV; the text says where, and the way out."""


@dataclass(frozen=True, slots=True)
class Writing:
    """How the bytes of a file are text: the codec, what ends a line, and how many bytes a byte order mark takes."""

    codec: str
    errors: str
    end: bytes
    #: Bytes of its smallest character: no line ends between two of them.
    width: int
    start: int


def check_encoding(encoding: str) -> str:
    """Its name among Python's codecs. Raises: LookupError if there is none, ValueError if it is not supported."""
    name = codecs.lookup(encoding).name
    if name == "utf-8-sig":
        return "utf-8"
    if name.startswith(("utf-16", "utf-32")):
        return name
    if _ASCII.encode(name) != _ASCII.encode("ascii"):
        raise ValueError(
            f"encoding={encoding!r} is neither compatible with ASCII nor UTF-16 or UTF-32; convert the file to UTF-8"
        )
    return name


def writing_of(head: bytes, encoding: str, errors: str, quotechar: str | None) -> Writing:
    """How a file is written that begins with `head`. `encoding` is what `check_encoding` has returned.

    A line ends at LF, after CR or not; at CR if the first line does, as in Ruby. What is quoted does not count.
    """
    codec = encoding
    if encoding in ("utf-16", "utf-32"):
        orders = (f"{encoding}-le", f"{encoding}-be")
        native = orders[sys.byteorder == "big"]
        codec = next((order for order in orders if head.startswith(_BOMS[order])), native)
    bom = _BOMS.get(codec, b"")
    start = len(bom) if bom and head.startswith(bom) else 0
    text = head[start:].decode(codec, "ignore")
    end = "\r" if _first_ends_at_cr(text, quotechar) else "\n"
    return Writing(codec, errors, end.encode(codec), len("0".encode(codec)), start)


def _first_ends_at_cr(text: str, quotechar: str | None) -> bool:
    quotes = position = 0
    for found in _NEWLINE.finditer(text):
        quotes += text.count(quotechar, position, found.start()) if quotechar else 0
        position = found.end()
        if quotes % 2 == 0:
            # At the very end it may be the first half of CR LF; if it is not, it makes no difference.
            return found[0] == "\r" and position < len(text)
    return False


class Mark(NamedTuple):
    """The place of some lines: where they begin, and a sample of their bytes from there on."""

    row: int
    offset: int
    length: int
    crc: int


class _Block(NamedTuple):
    first: int
    offset: int
    lines: list[bytes]


class Lines:
    """The lines of `stream` from `offset` on, where `data` has been read already. Lines are counted from 0."""

    def __init__(self, stream: Stream, writing: Writing, offset: int, data: bytes) -> None:
        self._stream = stream
        self.writing = writing
        self._offset = offset
        self._data = data
        #: The number of a row, its first line, and the line after its last one: the row to be marked.
        self.row: tuple[int, int, int] | None = None
        #: No line before this one will be asked for, beside those of `row`.
        self.needed = 0
        self._mark: Mark | None = None
        # A line and its offset, from which to count on to a later one.
        self._near = (0, offset)
        # Replaced and never changed, as a mark may be asked for while another thread reads on.
        self._blocks: tuple[_Block, ...] = ()

    def __iter__(self) -> Iterator[str]:
        # The loop over the lines of a block is one of C.
        return chain.from_iterable(self._decoded_blocks())

    def mark(self) -> Mark | None:
        """The place of `row`; None if there is none yet."""
        row = self.row
        if row is None or (self._mark is not None and self._mark.row == row[0]):
            return self._mark
        found = self._locate(row[1], row[2])
        if found is not None:
            offset, data = found
            self._mark = Mark(row[0], offset, len(data), zlib.crc32(data))
        return self._mark

    def offset_of(self, line: int) -> int | None:
        """The offset of a line that is still held."""
        found = self._locate(line, line)
        return None if found is None else found[0]

    def bytes_of(self, first: int, last: int) -> bytes:
        """The lines from `first` to before `last`, which are still held."""
        held = chain.from_iterable(
            block.lines[max(first - block.first, 0) : max(last - block.first, 0)] for block in self._blocks
        )
        return b"".join(held)

    def end_of(self, line: bytes) -> bytes:
        """What ends `line`; nothing, if it is the last one."""
        ends = (text.encode(self.writing.codec) for text in ("\r\n", "\n", "\r"))
        return next((end for end in ends if line.endswith(end)), b"")

    def end_in(self, text: bytes) -> bytes:
        """What ends a line, as far as `text` tells."""
        both = "\r\n".encode(self.writing.codec)
        return both if both in text else self.writing.end

    def _locate(self, first: int, last: int) -> tuple[int, bytes] | None:
        """The offset of line `first`, and the bytes from it to before line `last`, shortened."""
        offset, sample = None, b""
        for block in self._blocks:
            begin, end = max(first - block.first, 0), min(last - block.first, len(block.lines))
            if offset is None and first - block.first < len(block.lines):
                if first < block.first:
                    return None
                line, near = self._near if block.first <= self._near[0] <= first else (block.first, block.offset)
                offset = near + sum(map(len, block.lines[line - block.first : begin]))
                self._near = (first, offset)
            if offset is not None and end > begin and len(sample) < LONGEST_SAMPLE:
                sample += b"".join(block.lines[begin:end])
        return None if offset is None else (offset, sample[:LONGEST_SAMPLE])

    def _decoded_blocks(self) -> Iterator[Iterable[str]]:
        read, end, width = self._stream.read, self.writing.end, self.writing.width
        number, offset, data = 0, self._offset, self._data
        while True:
            lines = _split(data, self.writing)
            # What looks like an end may be two halves.
            ended = not lines or (lines[-1].endswith(end) and len(lines[-1]) % width == 0)
            rest = b"" if ended else lines.pop()
            if lines:
                yield self._hold(_Block(number, offset, lines))
                number, offset = number + len(lines), offset + len(data) - len(rest)
            if len(rest) > LONGEST_LINE:
                raise Malformed(f"the line at byte {offset} is longer than {LONGEST_LINE} bytes; is it a CSV file?")
            chunk = read(CHUNK_SIZE)
            if not chunk:
                break
            data = rest + chunk
        if rest:
            yield self._hold(_Block(number, offset, [rest]))

    def _hold(self, block: _Block) -> Iterable[str]:
        # Marked now, as its lines are let go.
        self.mark()
        needed = max(self.needed, self.row[2]) if self.row else self.needed
        self._blocks = (*(held for held in self._blocks if held.first + len(held.lines) > needed), block)
        return map(str, block.lines, repeat(self.writing.codec), repeat(self.writing.errors))


def _split(data: bytes, writing: Writing) -> list[bytes]:
    """`data` after each line end; the last one may lack its own."""
    end, width = writing.end, writing.width
    if end == b"\n":
        return io.BytesIO(data).readlines()
    pieces = data.split(end)
    lines = [piece + end for piece in pieces[:-1]]
    if pieces[-1]:
        lines.append(pieces[-1])
    return lines if all(len(line) % width == 0 for line in lines) else _joined(lines, width)


def _joined(lines: list[bytes], width: int) -> list[bytes]:
    """`lines` without those ends that were halves of two characters."""
    whole: list[bytes] = []
    odd = b""
    for line in lines:
        odd += line
        if len(odd) % width == 0:
            whole.append(odd)
            odd = b""
    return [*whole, odd] if odd else whole
