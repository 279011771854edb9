"""Checksums of bytes, and of bytes that are put together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyqik.stores.checksums import crc32c, joined


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"56789", crc32c(b"1234")) == 0xE3069283
    assert crc32c(b"") == 0


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_pieces_have_the_checksum_of_the_whole(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert joined((len(piece), crc32c(piece)) for piece in pieces) == (len(whole), crc32c(whole))


def test_many_large_pieces_are_no_matter() -> None:
    size, crc = joined([(4 * 1024 * 1024, crc32c(b"\0" * 4 * 1024 * 1024))] * 3)
    assert (size, crc) == (12 * 1024 * 1024, crc32c(b"\0" * 12 * 1024 * 1024))
