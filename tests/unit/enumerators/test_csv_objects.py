"""CSV files in Cloud Storage: read by ranges, of one generation, and resumed without what is done."""

from __future__ import annotations

import gzip
import io
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from pyqik.core.errors import SourceChanged
from pyqik.enumerators.csv import csv_rows

BIG = b"id,name\n" + b"".join(b"%d,Name %d\n" % (index, index) for index in range(300_000))
AT = 250_000


class RequestError(Exception):
    """As an error of google.api_core: the status of HTTP is its `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code} somewhere")
        self.code = code


@dataclass
class Bucket:
    """One bucket, and what was done with it. Reading is as in `google.cloud.storage.fileio.BlobReader`."""

    objects: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    #: First byte and number of bytes of each request for some.
    ranges: list[tuple[int, int]] = field(default_factory=list)
    clients: int = 0
    breaks_with: int | None = None

    def get_blob(self, name: str) -> Any:
        return Blob(self, name, *self.objects[name]) if name in self.objects else None

    def fetch(self, name: str, start: int, size: int, generation: int) -> bytes:
        if self.breaks_with is not None:
            raise RequestError(self.breaks_with)
        if name not in self.objects or self.objects[name][0] != generation:
            raise RequestError(412 if name in self.objects else 404)
        data = self.objects[name][1][start : start + size]
        self.ranges.append((start, len(data)))
        return data


class Blob:
    def __init__(self, bucket: Bucket, name: str, generation: int, data: bytes) -> None:
        self.bucket, self.name, self.generation, self.size = bucket, name, generation, len(data)

    def open(self, mode: str, *, chunk_size: int, if_generation_match: int, raw_download: bool) -> Any:
        assert (mode, raw_download) == ("rb", True)
        return io.BufferedReader(RawBlob(self, if_generation_match), chunk_size)


class RawBlob(io.RawIOBase):
    def __init__(self, blob: Blob, generation: int) -> None:
        self._blob, self._generation, self._position = blob, generation, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._position = offset + (0, self._position, self._blob.size)[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._blob.bucket.fetch(self._blob.name, self._position, len(buffer), self._generation)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The bucket `imports`, which the library sees."""
    bucket = Bucket()

    class Client:
        def __init__(self) -> None:
            bucket.clients += 1

        def bucket(self, name: str) -> Bucket:
            assert name == "imports"
            return bucket

        def close(self) -> None:
            bucket.clients -= 1

    cloud, storage = ModuleType("google.cloud"), ModuleType("google.cloud.storage")
    cloud.storage, storage.Client = storage, Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.cloud", cloud)
    monkeypatch.setitem(sys.modules, "google.cloud.storage", storage)
    return bucket


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_the_rows_of_an_object_are_given(imports: Bucket, compressed: bool) -> None:
    data = b"a,b\n1,2\n"
    imports.objects["2024/x y.csv"] = (1, gzip.compress(data) if compressed else data)

    assert list(csv_rows("gs://imports/2024/x y.csv").open()) == [({"a": "1", "b": "2"}, 0)]
    assert imports.clients == 0


def test_an_object_is_fetched_as_it_is_read(imports: Bucket) -> None:
    imports.objects["big.csv"] = (1, BIG)
    pairs = csv_rows("gs://imports/big.csv").open()

    next(pairs)

    assert imports.ranges == [(0, 1024 * 1024)]


def test_a_resumed_job_fetches_the_beginning_and_then_on_from_its_row(imports: Bucket) -> None:
    imports.objects["big.csv"] = (1, BIG)
    source = csv_rows("gs://imports/big.csv")
    pairs: Any = source.open(AT)
    first = next(pairs)
    bookmark = pairs.bookmark()
    pairs.close()
    imports.ranges.clear()

    assert next(source.reopen(AT, bookmark)) == first == ({"id": str(AT), "name": f"Name {AT}"}, AT)
    assert [start for start, _ in imports.ranges] == [0, bookmark["offset"]]
    assert bookmark["offset"] > 4_000_000


def test_an_object_that_was_overwritten_in_between_is_named(imports: Bucket) -> None:
    imports.objects["big.csv"] = (1, BIG)
    source = csv_rows("gs://imports/big.csv")
    pairs: Any = source.open(AT)
    next(pairs)
    imports.objects["big.csv"] = (2, BIG)

    with pytest.raises(SourceChanged, match=r"gs://imports/big\.csv is not .*: its generation was 1 and is 2; put"):
        next(source.reopen(AT, pairs.bookmark()))


@pytest.mark.parametrize("then", ["overwritten", "deleted"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_an_object_that_changes_while_it_is_read_is_named(imports: Bucket, then: str, compressed: bool) -> None:
    # Without compression, or it would be fetched at once.
    imports.objects["big.csv"] = (1, gzip.compress(BIG, 0) if compressed else BIG)
    pairs = csv_rows("gs://imports/big.csv").open()
    next(pairs)
    if then == "overwritten":
        imports.objects["big.csv"] = (2, BIG)
    else:
        del imports.objects["big.csv"]

    with pytest.raises(SourceChanged, match=r"gs://imports/big\.csv was overwritten or deleted while it was read; put"):
        list(pairs)
    assert imports.clients == 0


def test_another_error_of_the_server_is_no_change(imports: Bucket) -> None:
    imports.objects["big.csv"] = (1, BIG)
    pairs = csv_rows("gs://imports/big.csv").open()
    next(pairs)
    imports.breaks_with = 503

    with pytest.raises(RequestError) as caught:
        list(pairs)
    assert caught.value.__notes__[0].endswith("of gs://imports/big.csv")


def test_an_object_that_is_not_there_is_named(imports: Bucket) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no object gs://imports/none\.csv"):
        next(csv_rows("gs://imports/none.csv").open())
    assert imports.clients == 0


def test_an_object_without_a_byte_has_no_rows(imports: Bucket) -> None:
    imports.objects["empty.csv"] = (1, b"")

    assert list(csv_rows("gs://imports/empty.csv").open()) == []


@pytest.mark.parametrize("address", ["gs://", "gs://imports", "gs://imports/", "gs:///x.csv"])
def test_an_address_without_bucket_or_object_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="names no object; write gs://bucket/object"):
        csv_rows(address)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud", None)

    with pytest.raises(ImportError, match=r'gs://imports/x\.csv: .* run: pip install "pyqik\[gcs\]"'):
        next(csv_rows("gs://imports/x.csv").open())
