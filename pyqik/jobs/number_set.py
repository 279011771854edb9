"""A set of whole numbers that costs little more than a bit for each where they lie close together.

In a Redis hash they are kept in chunks of 4096. A chunk is a field: its number → the letter `b` and its bits, or the
letter `a` and the numbers in it, two bytes each, whichever is shorter.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Final

#: Numbers in a chunk, and in a word: what is kept together in memory.
_CHUNK: Final = 4096
_WORD: Final = 64
_WORDS: Final = range(_CHUNK // _WORD)


class NumberSet(Collection[int]):
    """See the module's docstring."""

    def __init__(self) -> None:
        #: The bits of each word that has any.
        self._words: dict[int, int] = {}
        self._size = 0
        #: The numbers of the chunks that have changed since they were written.
        self._changed: set[int] = set()

    def add(self, number: int) -> None:
        """Add it, unless it is there."""
        word, bit = number >> 6, 1 << (number & 63)
        bits = self._words.get(word, 0)
        if not bits & bit:
            self._words[word] = bits | bit
            self._size += 1
            self._changed.add(number >> 12)

    def discard(self, number: int) -> None:
        """Remove it, if it is there."""
        if number in self:
            self._words[number >> 6] ^= 1 << (number & 63)
            self._size -= 1
            self._changed.add(number >> 12)

    def clear(self) -> None:
        """Remove all of them."""
        self._words.clear()
        self._changed.clear()
        self._size = 0

    def __contains__(self, number: object) -> bool:
        return type(number) is int and self._words.get(number >> 6, 0) >> (number & 63) & 1 == 1

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        """In their order."""
        for word in sorted(self._words):
            yield from _numbers(word * _WORD, self._words[word])

    def written(self) -> dict[str, bytes]:
        """The fields of the chunks that have changed since the last call."""
        changed, self._changed = self._changed, set()
        return {str(chunk): self._encoded(chunk) for chunk in changed}

    def load(self, field: bytes, value: bytes) -> None:
        """A chunk as it was written. Raises: ValueError."""
        chunk, bits = int(field), _decoded(value)
        for word in _WORDS:
            part = int.from_bytes(bits[word * 8 : word * 8 + 8], "little")
            if part:
                self._words[chunk * len(_WORDS) + word] = part
                self._size += part.bit_count()

    def _encoded(self, chunk: int) -> bytes:
        words, first = self._words, chunk * len(_WORDS)
        found = [(index, bits) for index in _WORDS if (bits := words.get(first + index))]
        if not found:
            return b""  # Removes the field.
        count = sum(bits.bit_count() for _, bits in found)
        last, bits = found[-1]
        if last * 8 + (bits.bit_length() + 7) // 8 <= 2 * count:
            whole = b"".join(words.get(first + index, 0).to_bytes(8, "little") for index in range(last + 1))
            return b"b" + whole.rstrip(b"\0")
        return b"a" + struct.pack(f"<{count}H", *(n for index, each in found for n in _numbers(index * _WORD, each)))


def _numbers(first: int, bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield first + lowest.bit_length() - 1
        bits ^= lowest


def _decoded(value: bytes) -> bytes:
    """The bits of a chunk. Raises: ValueError."""
    kind, content = value[:1], value[1:]
    if kind == b"b" and len(content) <= _CHUNK // 8:
        return content
    if kind == b"a" and len(content) % 2 == 0:
        numbers: tuple[int, ...] = struct.unpack(f"<{len(content) // 2}H", content)
        if all(number < _CHUNK for number in numbers):
            bits = sum(1 << number for number in set(numbers))
            return bits.to_bytes(_CHUNK // 8, "little")
    raise ValueError(f"a chunk of numbers cannot be {value[:20]!r}")
