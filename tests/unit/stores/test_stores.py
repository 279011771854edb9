"""What every store does, and what they do when something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyqik.core.errors import StoreError
from pyqik.stores.checksums import crc32c
from pyqik.stores.cloud_target import CloudTarget
from pyqik.stores.directory import DirectoryStore
from pyqik.stores.memory import MemoryStore
from pyqik.stores.store import JOINED, Mismatch, Missing, Part, Reads, Store
from pyqik.stores.targets import Finished, MemoryTarget, PathTarget, Target

DATA = b"some bytes"


def reads(data: bytes) -> Reads:
    def chunks() -> Iterator[bytes]:
        yield data[:3]
        yield data[3:]

    return chunks


def put(store: Store, name: str = "jid/a.csv/1", data: bytes = DATA) -> Part:
    return store.put(name, reads(data), len(data), crc32c(data), lambda: 10.0)


def got(store: Store, part: Part) -> bytes:
    found: list[bytes] = []
    store.get(part, found.append)
    return b"".join(found)


@pytest.fixture(params=["directory", "memory", "cloud"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "cloud":
        made: Store = request.getfixturevalue("cloud")
        return made
    return MemoryStore() if request.param == "memory" else DirectoryStore(tmp_path / "parts")


def test_a_part_is_read_as_it_was_put(store: Store) -> None:
    part = put(store)
    assert (part.size, part.crc) == (len(DATA), crc32c(DATA))
    assert got(store, part) == DATA


def test_putting_it_again_is_no_matter_and_other_bytes_are_refused(store: Store) -> None:
    part = put(store)
    assert put(store) == part
    with pytest.raises(StoreError, match="there already"):
        put(store, data=b"others")
    assert got(store, part) == DATA


def test_parts_are_joined_to_one_and_stay(store: Store) -> None:
    parts = [put(store, f"jid/a.csv/{number}", bytes([number]) * 5) for number in range(JOINED)]
    whole = store.join("jid/a.csv/whole", parts, lambda: 10.0)
    data = b"".join(bytes([number]) * 5 for number in range(JOINED))
    assert whole[:3] == ("jid/a.csv/whole", len(data), crc32c(data))
    assert got(store, whole) == data
    assert got(store, parts[3]) == bytes([3]) * 5
    assert store.join("jid/a.csv/whole", parts, lambda: 10.0) == whole
    with pytest.raises(StoreError, match="there already"):
        store.join("jid/a.csv/whole", parts[:2], lambda: 10.0)
    store.remove([parts[0].name])
    with pytest.raises(Missing, match=r"jid/a\.csv/(0|another) is gone"):
        store.join("jid/a.csv/another", parts, lambda: 10.0)


def test_bytes_that_are_not_those_of_the_checksum_are_not_kept(store: Store) -> None:
    with pytest.raises(Mismatch):
        store.put("jid/a/1", reads(DATA), len(DATA), crc32c(b"else"), lambda: 10.0)
    with pytest.raises(Mismatch):
        store.put("jid/a/1", reads(DATA), len(DATA) + 1, crc32c(DATA), lambda: 10.0)
    assert list(store.find("")) == []


def test_what_is_gone_is_named(store: Store) -> None:
    part = put(store)
    store.remove([part.name, "jid/never"])
    with pytest.raises(Missing, match=r"jid/a\.csv/1"):
        got(store, part)
    assert list(store.find("jid/")) == []


def test_parts_are_found_by_the_beginning_of_their_names(store: Store) -> None:
    for name in ("one/a/1", "one/b/1", "other/a/1"):
        put(store, name)
    found = {each.name: each for each in store.find("one/")}
    assert set(found) == {"one/a/1", "one/b/1"}
    assert found["one/a/1"].size == len(DATA)
    assert 0 <= found["one/a/1"].age < 60
    assert list(store.find("none/")) == []


def test_a_check_leaves_nothing_behind(store: Store) -> None:
    store.check()
    assert list(store.find("")) == []


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = DirectoryStore(tmp_path / "file")
    for call in (lambda: put(store), store.check):
        with pytest.raises(StoreError, match=r"file: .* cannot be written: (Not a directory|File exists)"):
            call()


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "jid/../../a", "", "jid//a", "/"])
def test_a_name_that_leads_out_of_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    store = DirectoryStore(tmp_path / "store")
    for call in (
        lambda: put(store, name),
        lambda: got(store, Part(name, 1, 1)),
        lambda: store.remove([name]),
        lambda: list(store.find("/")),
    ):
        with pytest.raises(StoreError, match="is no name"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"some"
        raise StoreError("it broke")

    store = DirectoryStore(tmp_path)
    with pytest.raises(StoreError, match="it broke"):
        store.put("jid/a/1", breaks, 10, 1, lambda: 10.0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.fixture(params=["path", "memory", "cloud"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    if request.param == "cloud":
        return CloudTarget("gs://exports/a.csv", None, request.getfixturevalue("service"))
    if request.param == "memory":
        return MemoryTarget(MemoryStore(), "gs://b/a.csv", MemoryStore())
    return PathTarget(str(tmp_path / "out" / "a.csv"))


def test_a_file_is_published_as_a_whole_or_not_at_all(target: Target, tmp_path: Path) -> None:
    assert target.generation() == 0

    with pytest.raises(Mismatch):
        target.write(Finished(reads(DATA), len(DATA), 1), 0)
    assert target.generation() == 0

    published = target.write(Finished(reads(DATA), len(DATA), crc32c(DATA)), 0)
    assert published.generation == target.generation() != 0
    assert list(tmp_path.rglob(".*")) == []


def test_somebody_elses_object_is_not_overwritten() -> None:
    store = MemoryStore()
    target = MemoryTarget(store, "gs://b/a", MemoryStore())
    store.replace("gs://b/a", b"theirs", 0)
    finished = Finished(reads(DATA), len(DATA), crc32c(DATA))

    with pytest.raises(StoreError, match="somebody else"):
        target.write(finished, 0)
    published = target.write(finished, target.generation())
    assert target.write(finished, 0) == published  # It is this very file.


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be published"):
        PathTarget(str(tmp_path / "file" / "a")).write(Finished(reads(DATA), len(DATA), crc32c(DATA)), 0)
