"""CRC32C, the checksum of Cloud Storage: of bytes, and of bytes put together of which only the checksums are known."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

import google_crc32c

#: The polynomial of Castagnoli, the lowest power in the highest bit: RFC 3720, appendix B.4.
_POLYNOMIAL: Final = 0x82F63B78

#: A linear map over the bits of a checksum: what becomes of each bit.
Matrix = tuple[int, ...]


def crc32c(data: bytes | memoryview, crc: int = 0) -> int:
    """The checksum of what `crc` is the checksum of, and `data` after it."""
    extended: int = google_crc32c.extend(crc, bytes(data))
    return extended


def joined(pieces: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Size and checksum of all pieces, one after the other, from those of each."""
    size = crc = 0
    for piece_size, piece_crc in pieces:
        crc = _after_zeros(crc, piece_size) ^ piece_crc
        size += piece_size
    return size, crc


def _after_zeros(crc: int, count: int) -> int:
    """What a checksum becomes by so many zero bytes, apart from its first and last inversion."""
    power = 0
    while count:
        if count & 1:
            crc = _times(_zeros(power), crc)
        count >>= 1
        power += 1
    return crc


@cache
def _zeros(power: int) -> Matrix:
    """What 2 ** power zero bytes do."""
    if power:
        half = _zeros(power - 1)
        return tuple(_times(half, row) for row in half)
    one_bit = (_POLYNOMIAL, *(1 << bit for bit in range(31)))
    two = tuple(_times(one_bit, row) for row in one_bit)
    four = tuple(_times(two, row) for row in two)
    return tuple(_times(four, row) for row in four)


def _times(matrix: Matrix, vector: int) -> int:
    product = 0
    for row in matrix:
        if vector & 1:
            product ^= row
        vector >>= 1
    return product
