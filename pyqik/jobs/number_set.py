"""A set of whole numbers that costs little more than a bit for each where they lie close together.

It is kept in chunks of 4096 numbers. A chunk with few of them is a text that has a character for each; one with more is
the bits of all 4096. In a Redis hash a chunk is a field: its number → the letter `a` and the text in UTF-16, two bytes
for each number, or the letter `b` and the bits without the zeros at the end.
"""

from __future__ import annotations

from codecs import utf_16_le_encode
from collections.abc import Collection, Iterator
from typing import Final

#: Numbers in a chunk. There is a character for each: they end long before the surrogates, which UTF-16 cannot hold.
_CHUNK: Final = 4096
#: As many are kept as text: that of more would be longer than the bits.
_FEW: Final = _CHUNK // 16
#: Where numbers lie far apart, a million chunks may have one character each: they share these.
_CHARACTERS: Final = [chr(place) for place in range(_CHUNK)]


class NumberSet(Collection[int]):
    """See the module's docstring."""

    def __init__(self) -> None:
        #: The chunks, each in one of the two.
        self._texts: dict[int, str] = {}
        self._bits: dict[int, bytearray] = {}
        self._size = 0
        #: Those that have changed since they were written.
        self._changed: dict[int, str | bytearray] = {}

    def add(self, number: int) -> None:
        """Add it, unless it is there."""
        chunk = number >> 12
        bits = self._bits.get(chunk)
        if bits is not None:
            byte, bit = number >> 3 & 511, 1 << (number & 7)
            if bits[byte] & bit:
                return
            bits[byte] |= bit
            self._changed[chunk] = bits
        else:
            text, character = self._texts.get(chunk, ""), _CHARACTERS[number & 4095]
            if character in text:
                return
            text += character
            if len(text) <= _FEW:
                self._changed[chunk] = self._texts[chunk] = text
            else:
                self._changed[chunk] = self._bits[chunk] = _bits_of(text)
                del self._texts[chunk]
        self._size += 1

    def discard(self, number: int) -> None:
        """Remove it, if it is there."""
        if number not in self:
            return
        chunk, place = number >> 12, number & 4095
        bits = self._bits.get(chunk)
        if bits is not None:
            bits[place >> 3] ^= 1 << (place & 7)
            self._changed[chunk] = bits
        else:
            text = self._texts[chunk].replace(_CHARACTERS[place], "")
            self._changed[chunk] = self._texts[chunk] = text
        self._size -= 1

    def clear(self) -> None:
        """Remove all of them."""
        self._texts.clear()
        self._bits.clear()
        self._changed.clear()
        self._size = 0

    def __contains__(self, number: object) -> bool:
        if type(number) is not int:
            return False
        chunk = number >> 12
        bits = self._bits.get(chunk)
        if bits is None:
            return _CHARACTERS[number & 4095] in self._texts.get(chunk, "")
        return bits[number >> 3 & 511] >> (number & 7) & 1 == 1

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        """In their order."""
        for chunk in sorted([*self._texts, *self._bits]):
            for place in self._places(chunk):
                yield chunk * _CHUNK + place

    def written(self) -> dict[str, bytes]:
        """The fields of the chunks that have changed since the last call; an empty value removes a field."""
        changed, self._changed = self._changed, {}
        return {str(chunk): _encoded(content) for chunk, content in changed.items()}

    def load(self, field: bytes, value: bytes) -> None:
        """A chunk as it was written, of a set that nothing was added to. Raises: ValueError."""
        chunk, kind, content = int(field), value[:1], value[1:]
        if chunk in self._texts or chunk in self._bits:
            return  # HSCAN may find a field twice.
        if kind == b"a":
            # What is no UTF-16 becomes a character that is none of these.
            characters = set(content.decode("utf-16-le", "replace"))
            if max(characters, default="") <= _CHARACTERS[-1]:
                self._texts[chunk] = "".join(_CHARACTERS[ord(each)] for each in characters)
                self._size += len(characters)
                return
        elif kind == b"b" and len(content) <= _CHUNK // 8:
            self._bits[chunk] = bytearray(content.ljust(_CHUNK // 8, b"\0"))
            self._size += int.from_bytes(content, "little").bit_count()
            return
        raise ValueError(f"a chunk of numbers cannot be {value[:20]!r}")

    def _places(self, chunk: int) -> list[int]:
        """Where in the chunk there are numbers, in their order."""
        bits = self._bits.get(chunk)
        if bits is not None:
            return [place for place in range(_CHUNK) if bits[place >> 3] >> (place & 7) & 1]
        return sorted(map(ord, self._texts.get(chunk, "")))


def _bits_of(text: str) -> bytearray:
    bits = bytearray(_CHUNK // 8)
    for place in map(ord, text):
        bits[place >> 3] |= 1 << (place & 7)
    return bits


def _encoded(content: str | bytearray) -> bytes:
    if isinstance(content, str):
        # Several times as fast as `str.encode`, which looks the codec up.
        return b"a" + utf_16_le_encode(content)[0] if content else b""
    bits = content.rstrip(b"\0")
    return b"b" + bits if bits else b""
