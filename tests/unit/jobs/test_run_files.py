"""What the engine does with the files of a run: many small parts, two owners at once, a disk that is full."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from pyqik.core.errors import Shutdown, StoreError
from pyqik.jobs import growing_file, run_files
from pyqik.jobs.answer import Answer
from pyqik.jobs.long_run import LongRun
from pyqik.jobs.run_files import RunFiles
from pyqik.jobs.timetable import Rhythm
from pyqik.jobs.uploader import Uploads, UploadThread
from pyqik.stores.checksums import crc32c
from pyqik.stores.memory import MemoryStore
from pyqik.stores.store import JOINED
from pyqik.testing.kept_files import KeptFiles
from pyqik.testing.state_hash import StateHash
from pyqik.wire.state_requests import Question

ITEMS = list(range(6))
URL = "gs://exports/a.txt"
WHOLE = b"".join(b"line %d\n" % item for item in ITEMS)


# Many small parts.


class Trickle:
    """A job that writes a little for each item, and whose state is written after each."""

    def __init__(self, storage: KeptFiles, seed: int) -> None:
        self.storage = storage
        self.random = random.Random(seed)
        self.state = b""
        self.whole = b""

    def run(self, items: int) -> None:
        """One run of it; its last item is left half done, as in a crash."""
        files = RunFiles("jid", self.storage)
        files.load(self.state)
        file = files.open("a")
        assert file.local.size == len(self.whole)
        for item in range(items):
            data = self.random.randbytes(self.random.choice([1, 3, 30, 300]))
            file.write(data, item)
            self.whole += data
            files.commit(item + 1, item + 1, self._written, self._failed)
            files.answered(item + 1)
        file.write(b"half", items)
        files.commit(items, items + 1, self._written, self._failed)
        files.close()

    def contents(self) -> bytes:
        """What a later run finds."""
        files = RunFiles("jid", self.storage)
        files.load(self.state)
        try:
            return files.contents()["a"]
        finally:
            files.close()

    def _written(self, text: bytes) -> None:
        self.state = text

    def _failed(self, error: BaseException) -> None:
        raise error


@pytest.mark.parametrize("seed", range(5))
def test_what_the_state_says_of_a_file_stays_small_however_many_parts_were_written(seed: int) -> None:
    job = Trickle(KeptFiles(), seed)
    for _ in range(5):
        job.run(600)
        assert job.contents() == job.whole
        parts = json.loads(job.state)["a"]["parts"]
        # Some of each order of magnitude.
        assert len(parts) <= 4 * JOINED
        # What runs have left that ended before they heard of their last writes.
        assert len(job.storage.store.objects) <= 5 * 2 * JOINED


def test_where_joining_copies_only_small_parts_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "longest_join", 2000)
    job = Trickle(KeptFiles(), 1)
    job.run(3000)
    assert job.contents() == job.whole
    sizes = [part[1] for part in json.loads(job.state)["a"]["parts"]]
    assert max(sizes) <= 2000
    assert len(sizes) < 4 * JOINED + len(job.whole) / 500


def test_a_store_that_cannot_join_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = KeptFiles()

    def fault(verb: str, name: str) -> None:
        if verb == "join":
            raise StoreError("joining fails")

    storage.store.fault = fault
    with pytest.raises(StoreError, match="joining fails"):
        Trickle(storage, 1).run(100)


def test_a_file_of_many_pieces_is_published_of_32_parts_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_file, "PIECE", 3)
    monkeypatch.setattr(growing_file, "BUFFER", 1)

    @pyqik.job("Exports::Pieces")
    def pieces() -> None:
        out = pyqik.file("a", "wb")
        for number in pyqik.each(enumerators.array(list(range(2000)))):
            out.write(b"%04d" % number)
        out.publish(URL)

    run = testing.perform(pieces, interrupt_after=1000).again().or_raise()
    assert run.published == {URL: b"".join(b"%04d" % number for number in range(2000))}


# Two owners at once.


class Owner:
    """Keeps the state for one of two runs of the same job."""

    def __init__(self, state: StateHash, name: bytes) -> None:
        self._state = state
        self._name = name

    def ask(self, run: LongRun, question: Question, answer: Answer) -> None:
        answer.give(self._state.answer(self._name, question))


def owned(state: StateHash, name: bytes) -> LongRun:
    run = LongRun("Exports::Twice", "a" * 24, Owner(state, name), rhythm=Rhythm(0), storage=state.storage)
    run.open()
    return run


def write_item(run: LongRun, text: bytes) -> None:
    run.files.open("a").write(text, run.items)
    run.items += 1
    run.save().wait()


def test_who_has_lost_the_job_changes_nothing_that_counts() -> None:
    state = StateHash({})
    first = owned(state, b"first")
    write_item(first, b"1 by the first\n")
    second = owned(state, b"second")
    write_item(first, b"2 by the first\n")
    assert first.lost
    write_item(second, b"2 by the second\n")
    with pytest.raises(Shutdown):
        first.attend()
    first.files.close()
    second.files.close()

    third = owned(state, b"third")
    assert third.files.contents() == {"a": b"1 by the first\n2 by the second\n"}
    third.remove_files()
    third.files.close()
    assert state.storage.store.objects == {}


def test_of_two_that_publish_one_does() -> None:
    """The first stalls in the middle of it, is taken for dead, and wakes when the second has done it."""
    state = StateHash({})
    first = owned(state, b"first")
    file = first.files.open("a")
    file.write(b"of the first", 0)
    target = first.files.target(URL)
    finished = first.files.finished(file, None, {}, as_parts=True)
    intended = target.generation()
    state.storage.published.replace(URL, b"of the second", 0)

    with pytest.raises(StoreError, match="somebody else"):
        target.write(finished, intended)
    assert state.storage.published.objects == {URL: b"of the second"}
    first.files.close()


# The local disk.


def lines(meddle: Callable[[str, int], None]) -> Any:
    @pyqik.job("Exports::Lines")
    def job() -> None:
        out = pyqik.file("a.txt")
        for item in pyqik.each(enumerators.array(ITEMS), flush_interval=0):
            out.write(f"line {item}\n")
            meddle(out.path, item)
        out.publish(URL)

    return job


def once(change: Callable[[str], None]) -> Callable[[str, int], None]:
    times = itertools.count()

    def meddle(path: str, item: int) -> None:
        if item == 3 and next(times) == 0:
            change(path)

    return meddle


def overwrite(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")


@pytest.mark.parametrize("change", [overwrite, lambda path: os.truncate(path, 5), os.unlink], ids=["w", "cut", "rm"])
def test_a_local_file_that_somebody_meddles_with_costs_a_retry_and_no_byte(change: Callable[[str], None]) -> None:
    run = testing.perform(lines(once(change)))
    # What is removed is still open.
    assert run.completed is (change is os.unlink)
    if not run.completed:
        assert run.place == "retry"
        assert isinstance(run.error, StoreError)
        assert run.published == {}
        run = run.again()
    assert run.published == {URL: WHOLE}


@pytest.mark.parametrize("at", range(4))
def test_a_full_disk_costs_a_retry_and_no_byte(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    calls, write = itertools.count(), os.pwrite

    def full(descriptor: int, data: Any, offset: int) -> int:
        if next(calls) == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    run = testing.perform(lines(lambda path, item: None))
    assert run.place == "retry"
    assert isinstance(run.error, OSError)
    assert run.published == {}
    run = run.again()
    assert run.published == {URL: WHOLE}


# A store that is slow.


class Slow(KeptFiles):
    """A store that takes nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.store.fault = lambda verb, name: self.gate.wait(10)

    def uploads(self) -> Uploads:
        return UploadThread()


def test_a_job_that_is_faster_than_the_store_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_file, "PIECE", 4)
    monkeypatch.setattr(growing_file, "BUFFER", 1)
    monkeypatch.setattr(run_files, "WINDOW", 8)
    storage, written = Slow(), list[int]()
    files = RunFiles("jid", storage)
    file = files.open("a")

    def write() -> None:
        for number in range(5):
            file.write(b"1234", number)
            written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    while len(written) < 2:
        threading.Event().wait(0.001)
    assert not storage.gate.is_set()
    assert file.unstored <= 12
    storage.gate.set()
    writer.join(10)
    assert json.loads(files.commit_now(9))["a"]["parts"][-1][1:3] == [4, crc32c(b"1234")]
    assert b"".join(storage.store.objects.values()) == b"1234" * 5
    files.close()


def test_async_code_waits_between_two_items_while_the_store_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_file, "PIECE", 4)
    monkeypatch.setattr(growing_file, "BUFFER", 1)
    monkeypatch.setattr(run_files, "WINDOW", 8)
    storage, behind = Slow(), list[int]()

    async def job() -> None:
        files = RunFiles("jid", storage, behind=lambda: behind.append(file.unstored))
        file = files.open("a")
        for item in range(4):
            file.write(b"1234", item)
        assert file.unstored == 16
        assert behind
        waiting = asyncio.ensure_future(files.catch_up())
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        storage.gate.set()
        await waiting
        assert file.unstored <= 8
        files.close()

    asyncio.run(job())
