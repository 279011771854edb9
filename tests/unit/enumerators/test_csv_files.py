"""What CSV rows can be read from: paths, gzip, pipes, binary and text files that were given open; who closes them."""

from __future__ import annotations

import codecs
import gc
import gzip
import io
import os
import re
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pyqik.core.errors import PyqikError
from pyqik.enumerators.csv import csv_batches, csv_rows

DATA = "id,name\n1,Ädä\n2,Bö\n".encode()
ROWS = [({"id": "1", "name": "Ädä"}, 0), ({"id": "2", "name": "Bö"}, 1)]


class Pipe:
    """What only has a `read`."""

    def __init__(self, data: bytes | str) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes | str:
        given, self._data = self._data[: min(size, 7)], self._data[min(size, 7) :]
        return given


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("as_given", [str, Path], ids=["str", "Path"])
def test_a_path_can_be_opened_again_and_again(as_given: Callable[[Path], Any], path: Path) -> None:
    source = csv_rows(as_given(path))

    assert (list(source.open()), list(source.open(1)), list(source.open())) == (ROWS, ROWS[1:], ROWS)


def test_a_path_may_be_read_by_two_loops_at_once(path: Path) -> None:
    source = csv_rows(path)
    one, other = source.open(), source.open()

    assert [next(one), next(other), next(one), next(other)] == [ROWS[0], ROWS[0], ROWS[1], ROWS[1]]


def test_nothing_is_opened_before_the_first_row_is_asked_for(tmp_path: Path) -> None:
    pairs = csv_rows(tmp_path / "none.csv").open()

    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        next(pairs)


@pytest.mark.parametrize(
    "file", [b"people.csv", 7, None, ["id,name"], object()], ids=["bytes", "number", "None", "list", "object"]
)
def test_what_cannot_be_read_is_refused_at_once(file: Any) -> None:
    with pytest.raises(TypeError, match=r"the file is of type \w+; write a path, gs://bucket/object, or what has a"):
        csv_rows(file)


def open_files() -> set[str]:
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return {os.readlink(link) for link in links if link.is_symlink()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="shows open files on Linux only")
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("how", ["ended", "closed", "dropped", "not started", "failed"])
def test_a_file_that_was_opened_here_is_closed(how: str, compressed: bool, path: Path) -> None:
    data = b"a\n1\n\xff" if how == "failed" else DATA
    path.write_bytes(gzip.compress(data) if compressed else data)
    pairs: Any = csv_rows(path).open()
    gc.disable()  # Whoever drops the pairs closes the file, and not some later collection.
    try:
        if how != "not started":
            next(pairs)
        assert (str(path) in open_files()) is (how != "not started")
        if how == "ended":
            assert list(pairs) == ROWS[1:]
        elif how == "failed":
            with pytest.raises(UnicodeDecodeError):
                next(pairs)
        elif how == "closed":
            pairs.close()
        else:
            del pairs
        assert str(path) not in open_files()
    finally:
        gc.enable()


def test_closed_pairs_give_nothing_more(path: Path) -> None:
    pairs: Any = csv_rows(path).open()
    next(pairs)
    pairs.close()
    pairs.close()

    assert list(pairs) == []


def test_a_file_that_was_given_open_stays_open(path: Path) -> None:
    with open(path, "rb") as file:
        assert list(csv_rows(file).open()) == ROWS
        assert not file.closed


@pytest.mark.parametrize("name", ["people.csv", "people.csv.gz"])
@pytest.mark.parametrize("members", [1, 3])
def test_gzip_is_known_by_its_first_bytes_whatever_the_name(name: str, members: int, tmp_path: Path) -> None:
    step = -(-len(DATA) // members)
    parts = [DATA[start : start + step] for start in range(0, len(DATA), step)]
    (tmp_path / name).write_bytes(b"".join(map(gzip.compress, parts)))

    assert list(csv_rows(tmp_path / name).open()) == ROWS


def test_what_is_not_gzip_is_not_decompressed_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "people.csv.gz").write_bytes(DATA)

    assert list(csv_rows(tmp_path / "people.csv.gz").open()) == ROWS


def test_a_file_of_utf_16_may_be_compressed(path: Path) -> None:
    path.write_bytes(gzip.compress(DATA.decode().encode("utf-16")))

    assert list(csv_rows(path, encoding="utf-16").open()) == ROWS


@pytest.mark.parametrize(
    ("damage", "kind"),
    [(lambda data: data[:-20], EOFError), (lambda data: data[:50] + b"\xff" * 50 + data[100:], zlib.error)],
    ids=["cut off", "overwritten"],
)
def test_gzip_that_is_damaged_is_named(damage: Callable[[bytes], bytes], kind: type[Exception], path: Path) -> None:
    numbers = b"n\n" + b"".join(b"%d\n" % (index * 7919 % 100_003) for index in range(50_000))
    path.write_bytes(damage(gzip.compress(numbers)))

    with pytest.raises(kind) as caught:
        list(csv_rows(path).open())

    assert re.fullmatch(r"while reading (the beginning|row \d+ .*) of .*people\.csv", caught.value.__notes__[0])


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_what_cannot_be_sought_in_is_gone_over_once(compressed: bool) -> None:
    source = csv_rows(Pipe(gzip.compress(DATA) if compressed else DATA))

    assert list(source.open()) == ROWS
    with pytest.raises(io.UnsupportedOperation, match="<Pipe> has been read already and cannot be sought in; give a"):
        next(source.open())


def test_what_cannot_be_sought_in_may_be_opened_for_nothing() -> None:
    source = csv_rows(Pipe(DATA))
    source.open()

    assert list(source.open(1)) == ROWS[1:]


def test_a_named_pipe_is_a_path_like_any_other(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[DATA])
    writer.start()

    rows = list(csv_rows(pipe).open())
    writer.join()

    assert rows == ROWS


def decoded(path: Path) -> codecs.StreamReader:
    return codecs.getreader("utf-8")(path.open("rb"))


def unzipped(path: Path) -> Any:
    return zipfile.ZipFile(path).open("people.csv")


@pytest.mark.parametrize(
    ("suffix", "opened"),
    [
        pytest.param(".csv", partial(open, mode="rb"), id="binary"),
        pytest.param(".csv", partial(open, mode="rb", buffering=0), id="unbuffered"),
        pytest.param(".csv", partial(open, mode="r+b"), id="for writing too"),
        pytest.param(".csv", partial(open, encoding="utf-8"), id="text"),
        pytest.param(".csv", decoded, id="text of codecs"),
        pytest.param(".gz", partial(gzip.open, mode="rb"), id="of gzip"),
        pytest.param(".gz", partial(gzip.open, mode="rt", encoding="utf-8"), id="text of gzip"),
        pytest.param(".zip", unzipped, id="in a zip"),
    ],
)
def test_a_file_that_was_given_open_is_read_from_its_beginning_each_time(
    suffix: str, opened: Callable[[Path], Any], path: Path
) -> None:
    path.with_suffix(".gz").write_bytes(gzip.compress(DATA))
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.writestr("people.csv", DATA)

    with opened(path.with_suffix(suffix)) as file:
        source = csv_rows(file)
        assert list(source.open()) == ROWS
        assert list(source.open(1)) == ROWS[1:]
        pairs: Any = source.open()
        next(pairs)
        assert list(source.reopen(0, pairs.bookmark())) == ROWS


@pytest.mark.parametrize("mode", ["w+b", "w+"])
@pytest.mark.parametrize("make", [tempfile.NamedTemporaryFile, tempfile.SpooledTemporaryFile, tempfile.TemporaryFile])
def test_a_temporary_file_is_read_from_where_it_stands(make: Any, mode: str) -> None:
    text = {"encoding": "utf-8"} if mode == "w+" else {}
    with make(mode=mode, **text) as file:
        file.write(DATA.decode() if text else DATA)
        file.seek(0)

        assert list(csv_rows(file).open()) == ROWS


def test_a_file_is_read_from_where_it_stood_when_it_was_given() -> None:
    file = io.BytesIO(b"A title\n" + DATA)
    file.readline()
    source = csv_rows(file)
    pairs: Any = source.open()
    next(pairs)

    assert list(source.reopen(0, pairs.bookmark())) == list(source.open()) == ROWS


def test_a_text_file_is_read_from_where_its_text_stood(path: Path) -> None:
    path.write_bytes("Ein schöner Titel\n".encode() + DATA)

    with open(path, encoding="utf-8", newline="") as file:
        file.readline()

        assert list(csv_rows(file).open()) == ROWS


def test_a_text_file_of_which_nobody_knows_where_it_stands_is_refused(path: Path) -> None:
    with open(path, encoding="utf-8") as file:
        next(file)

        with pytest.raises(
            PyqikError, match=r"people\.csv: where it stands cannot be known .*; give a path, or a file"
        ):
            csv_rows(file)


def test_a_text_file_has_an_encoding_of_its_own(path: Path) -> None:
    path.write_bytes(DATA.decode().encode("cp1252"))

    with open(path, encoding="cp1252") as file:
        assert list(csv_rows(file).open()) == ROWS


def test_a_text_file_decides_what_becomes_of_what_it_cannot_decode(path: Path) -> None:
    path.write_bytes(b"a\n\xff\n")

    with open(path, encoding="utf-8", errors="replace") as file:
        assert list(csv_rows(file).open()) == [({"a": "\ufffd"}, 0)]


def test_a_text_file_keeps_the_line_ends_in_its_fields(path: Path) -> None:
    path.write_bytes(b'a\r\n"x\r\ny"\r\n')

    with open(path, encoding="utf-8") as file:
        assert list(csv_rows(file).open()) == [({"a": "x\r\ny"}, 0)]


def test_a_text_file_lives_as_long_as_its_source(path: Path) -> None:
    file = open(path, encoding="utf-8")  # noqa: SIM115 - it is dropped
    buffer = file.buffer
    gone = weakref.ref(file)
    source = csv_rows(file)
    del file

    assert list(source.open()) == ROWS
    assert gone() is not None
    buffer.close()


def test_text_in_memory_can_be_opened_anywhere() -> None:
    file = io.StringIO("A title\n" + DATA.decode(), newline="")
    file.readline()
    source = csv_rows(file, encoding="utf-16")
    pairs: Any = source.open()
    next(pairs)

    assert list(source.reopen(0, pairs.bookmark())) == list(source.open()) == ROWS
    assert list(csv_batches(file, size=1).open(1)) == [([ROWS[1][0]], 1)]


def test_text_that_is_only_read_is_gone_over_once() -> None:
    source = csv_rows(Pipe(DATA.decode()), encoding="latin-1")

    assert list(source.open()) == ROWS


def test_text_that_is_no_unicode_is_named() -> None:
    with pytest.raises(UnicodeDecodeError, match=r"row 1 .* of <StringIO>"):
        list(csv_rows(io.StringIO("a\n1\n\ud800\n")).open())


@pytest.mark.parametrize("text", ["", b""], ids=["text", "bytes"])
def test_what_gives_nothing_has_no_rows(text: Any) -> None:
    assert list(csv_rows(Pipe(text)).open()) == []


def test_a_file_is_read_by_one_loop_at_a_time() -> None:
    source = csv_rows(io.BytesIO(b"n\n" + b"1\n" * 100_000))
    first, second = source.open(), source.open()
    next(first)
    next(second)

    with pytest.raises(io.UnsupportedOperation, match="<BytesIO> was opened again while it was still read; give each"):
        list(first)
    assert len(list(second)) == 99_999


def test_a_read_that_gives_something_else_is_named() -> None:
    class Promise:
        def read(self, size: int, /) -> Any:
            return [size]

    with pytest.raises(TypeError, match="<Promise>: its `read` gave list; it must give bytes or text at once"):
        next(csv_rows(Promise()).open())


def test_an_error_of_the_disk_says_at_which_row() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 64 * 1024:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output error") as caught:
        list(csv_rows(Broken(b"n\n" + b"1\n" * 100_000)).open())

    assert caught.value.__notes__ == ["while reading row 32767 (the first one is 0) of <Broken>"]


@pytest.mark.parametrize("data", [bytearray(DATA), memoryview(DATA)], ids=["bytearray", "memoryview"])
def test_bytes_of_any_kind_will_do(data: Any) -> None:
    assert list(csv_rows(Pipe(data)).open()) == ROWS
