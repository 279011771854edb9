"""`pyqik.file`: what a job has written survives, and is published once, whatever interrupts it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sqlite3
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from pyqik.core.errors import InvalidCursor, PyqikError, StoreError
from pyqik.jobs import growing_file, run_files
from pyqik.jobs.growing_file import GrowingFile, Piece
from pyqik.jobs.uploader import UploadThread
from pyqik.stores.checksums import crc32c
from pyqik.testing import performing, runs
from pyqik.testing.kept_files import KeptFiles
from pyqik.testing.state_hash import StateHash
from tests.support.wait import wait_until

URL = "gs://exports/orders.csv"
WHOLE = b"id,total\r\n" + b"".join(b"%d,%d\r\n" % (n, n * n) for n in range(6)) + b"the end\n"


@pyqik.job("Exports::Orders")
def export(count: int = 6) -> None:
    out = pyqik.file("orders.csv")
    writer = csv.writer(out)
    if out.size == 0:
        writer.writerow(["id", "total"])
    for number in pyqik.each(enumerators.array(list(range(count)))):
        writer.writerow([number, number * number])
    out.write("the end\n")
    out.publish(URL)
    with pyqik.step("tell"):
        pyqik.counters["told"] += 1


@pytest.fixture(params=[growing_file.PIECE, 1, 7])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces and buffers of a few bytes, too."""
    monkeypatch.setattr(growing_file, "PIECE", request.param)
    monkeypatch.setattr(growing_file, "BUFFER", min(request.param, growing_file.BUFFER))


@pytest.mark.usefixtures("small")
def test_the_file_is_the_same_wherever_the_job_is_interrupted() -> None:
    assert testing.perform(export).files == {"orders.csv": WHOLE}
    for run in testing.every_interruption(export):
        assert run.files["orders.csv"] == WHOLE, run.story
        assert run.published == {URL: WHOLE}, run.story


@pytest.mark.usefixtures("small")
def test_a_store_that_fails_anywhere_costs_a_retry_and_no_byte() -> None:
    asked: list[str] = []
    _perform_with(lambda verb, name: asked.append(verb))
    assert "put" in asked
    assert "replace" in asked

    for at in range(len(asked)):
        calls = iter(range(len(asked) + 1))

        def fault(verb: str, name: str, at: int = at, calls: Any = calls) -> None:
            if next(calls, -1) == at:
                raise StoreError("the store is down")

        run = _perform_with(fault)
        if not run.completed:
            assert run.place == "retry"
            assert isinstance(run.error, StoreError)
            assert run.published in ({}, {URL: WHOLE})
            run = run.again()
        assert run.completed, at
        assert run.published == {URL: WHOLE}, at


def _perform_with(fault: Callable[[str, str], object]) -> testing.Run:
    """Run the export, stopped in the middle, with a store that calls `fault` before each operation."""
    trial = performing.trial_of(export, (), runs.Plan(interrupt_after=3), performing.current_config())
    published: list[str] = []

    def unless_for_the_test(verb: str, name: str) -> None:
        # What `Run.files` shows of a finished job is fetched when the job needs it no longer.
        if verb != "get" or not published:
            fault(verb, name)
        if verb == "replace":
            published.append(name)

    storage = trial.state.storage
    storage.store.fault = storage.published.fault = unless_for_the_test
    run = trial.here()
    return run.again() if run.interrupted else run


def test_nothing_is_left_in_the_store_when_the_job_is_done() -> None:
    run = testing.perform(export, interrupt_after=3)
    assert len(run._state.storage.store.objects) == 1
    assert run.files == {"orders.csv": WHOLE[: WHOLE.index(b"3,9")]}

    run = run.again()

    assert run._state.storage.store.objects == {}
    assert run.state == {}


def test_what_an_item_that_fails_has_written_is_cut_off() -> None:
    @pyqik.job("Exports::Failing")
    def failing() -> None:
        out = pyqik.file("a.txt")
        for number in pyqik.each(enumerators.array([1, 2, 3])):
            out.write(f"{number}\n")
            if number == 2 and pyqik.counters["failed"] == 0:
                raise ConnectionError

    run = testing.perform(failing)
    assert run.failed
    assert run.files == {"a.txt": b"1\n"}


def test_a_write_in_the_middle_of_an_item_keeps_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_file, "PIECE", 5)

    @pyqik.job("Exports::Mixed")
    def mixed() -> None:
        out, done = pyqik.file("a.txt"), pyqik.processed("id", durable=True)
        for number in pyqik.each(enumerators.array(list(range(5)))):
            out.write(f"{number} begins,")
            done.add(number)
            out.write(f"{number} ends\n")

    whole = testing.perform(mixed).files
    for run in testing.every_interruption(mixed):
        assert run.files == whole, run.story


def test_a_published_file_is_finished() -> None:
    refused: list[bool] = []

    @pyqik.job("Exports::Twice")
    def twice() -> None:
        out = pyqik.file("a.txt")
        out.write("all\n")
        out.publish("gs://b/a")
        out.publish("gs://b/a")
        out.publish("gs://b/b")
        try:
            out.write("more")
        except PyqikError as error:
            refused.append("is finished" in str(error))
        for name in ("one", "two"):
            with pyqik.step(name):
                pyqik.counters[name] += 1

    for run in testing.every_interruption(twice):
        assert run.published == {"gs://b/a": b"all\n", "gs://b/b": b"all\n"}, run.story
        assert refused.pop()
        # A run that comes by again finds it finished, and its writes are left out.
        assert all(refused), run.story
        refused.clear()


def test_it_is_published_to_a_path(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"

    @pyqik.job("Exports::Path")
    def to_a_path() -> None:
        out = pyqik.file("a.txt")
        for number in pyqik.each(enumerators.array([1, 2, 3])):
            out.write(f"{number}\n")
        out.publish(str(path))

    for run in testing.every_interruption(to_a_path, before=lambda: path.unlink(missing_ok=True)):
        assert path.read_text() == "1\n2\n3\n", run.story
        assert list(path.parent.iterdir()) == [path]


def test_libraries_write_into_it_and_read_its_path() -> None:
    @pyqik.job("Exports::Libraries")
    def libraries() -> None:
        rows = pyqik.file("rows.json.gz", "wb")
        for number in pyqik.each(enumerators.array([1, 2])):
            with gzip.open(rows, "wt") as text:
                json.dump({"number": number}, text)
        out = pyqik.file("all.zip", "wb")
        if out.size == 0:
            with zipfile.ZipFile(out, "w") as archive:
                archive.write(rows.path, "rows.json.gz")
        out.publish("gs://b/all.zip")

    for run in testing.every_interruption(libraries):
        with zipfile.ZipFile(io.BytesIO(run.published["gs://b/all.zip"])) as archive:
            assert gzip.decompress(archive.read("rows.json.gz")) == b'{"number": 1}{"number": 2}', run.story


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "iso2022_jp", "utf-16-le"])
@pytest.mark.parametrize("newline", ["", None, "\r\n"])
def test_text_is_encoded_as_by_open(encoding: str, newline: str | None, tmp_path: Path) -> None:
    texts = ["a\n", "bä\n" if encoding != "iso2022_jp" else "日本\n", "c\r\n"]
    with open(tmp_path / "expected", "w", encoding=encoding, newline=newline) as file:
        file.writelines(texts)

    @pyqik.job("Exports::Text")
    def text() -> None:
        out = pyqik.file("a.txt", encoding=encoding, newline=newline)
        for each in pyqik.each(enumerators.array(texts)):
            out.write(each)

    run = testing.perform(text, interrupt_after=1).again()
    assert run.files["a.txt"].decode(encoding) == (tmp_path / "expected").read_bytes().decode(encoding)
    assert len(run.files["a.txt"]) == (tmp_path / "expected").stat().st_size or encoding == "iso2022_jp"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0", "a\nb", "x" * 201, "\ud800", 1])
def test_a_name_that_cannot_be_is_refused(name: Any) -> None:
    with pytest.raises(PyqikError, match="write a name"):
        pyqik.file(name)


def test_mistakes_are_named() -> None:
    @pyqik.job("Exports::Mistakes")
    def mistakes() -> None:
        binary: Any = pyqik.file("b", "wb")
        text: Any = pyqik.file("t")
        assert pyqik.file("t") is text
        with pytest.raises(PyqikError, match="another mode"):
            pyqik.file("t", "wb")
        with pytest.raises(PyqikError, match='write "w"'):
            pyqik.file("x", "r")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="takes bytes"):
            binary.write("text")
        with pytest.raises(TypeError, match="takes text"):
            text.write(b"bytes")
        for each in (binary, text):
            assert (each.writable(), each.readable(), each.seekable(), each.tell()) == (True, False, False, 0)
            with pytest.raises(io.UnsupportedOperation):
                each.read()
            with pytest.raises(io.UnsupportedOperation):
                each.seek(0)
            each.close()
            with pytest.raises(ValueError, match="is closed"):
                each.write(b"")
        with pytest.raises(ValueError, match="newline"):
            pyqik.file("n", newline="x")

    testing.perform(mistakes).or_raise()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"a":{}}',
        '{"a":{"parts":[["other/a/1",1,1,1]]}}',
        '{"a":{"parts":[["JID/../../etc/passwd",1,1,1]]}}',
        '{"a":{"parts":[["JID/a/1",-1,1,1]]}}',
        '{"a":{"parts":[["JID/a/1","1",1,1]]}}',
    ],
)
def test_what_no_job_has_written_of_files_is_refused(text: str) -> None:
    jid = "a" * 24
    run = testing.perform(export, jid=jid, state={"files": text.replace("JID", jid), "ex": "1", "c": "1", "rt": "0"})
    assert isinstance(run.error, InvalidCursor)
    assert run.published == {}


def test_outside_of_a_job_it_is_a_file_that_can_be_published(tmp_path: Path) -> None:
    @pyqik.job("Exports::Plain")
    def plain(path: str) -> None:
        out = pyqik.file("a.txt")
        out.write("plain\n")
        out.publish(path)
        with pytest.raises(ValueError, match="cannot be published to"):
            out.publish("s3://b/c")

    plain(str(tmp_path / "a.txt"))
    assert (tmp_path / "a.txt").read_text() == "plain\n"


def test_a_part_that_is_gone_fails_the_job_and_publishes_nothing() -> None:
    run = testing.perform(export, interrupt_after=3)
    run._state.storage.store._objects.clear()
    run = run.again()
    assert run.place == "retry"
    assert "is gone" in str(run.error)
    assert run.published == {}


def test_a_local_file_that_somebody_cuts_short_fails_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    @pyqik.job("Exports::Cut")
    def cut() -> None:
        out = pyqik.file("a.txt")
        for number in pyqik.each(enumerators.array([1, 2])):
            out.write("x" * 10)
            with open(out.path, "r+b") as file:
                file.truncate(3 if number == 2 else 10)
        out.publish("gs://b/a")

    run = testing.perform(cut)
    assert isinstance(run.error, StoreError)
    assert run.published == {}


def test_a_job_without_a_jid_stores_nothing(tmp_path: Path) -> None:
    storage = KeptFiles()
    files = run_files.RunFiles("", storage)
    files.open("a").write(b"abc", 0)

    assert files.commit_now(1) == b'{"a":{"parts":[]}}'
    assert files.contents() == {"a": b"abc"}
    files.remove_all()
    files.close()
    assert storage.store.objects == {}


@pytest.mark.parametrize("first", ["file", "loop"])
def test_a_loop_that_runs_ahead_of_the_state_writes_no_file(first: str) -> None:
    """After a crash it would go on behind rows that the file has not."""
    database = sqlite3.connect(":memory:", isolation_level="DEFERRED")

    @pyqik.job("Exports::Ahead")
    def ahead() -> None:
        if first == "file":
            pyqik.file("a")
        for _ in pyqik.each(enumerators.exactly_once(enumerators.array([1]), database, create=True)):
            pyqik.file("a")

    run = testing.perform(ahead)
    database.close()
    assert run.failed
    assert isinstance(run.error, pyqik.PyqikError)
    assert "exactly_once" in str(run.error)


def test_a_loop_may_run_ahead_once_the_file_is_published(tmp_path: Path) -> None:
    database = sqlite3.connect(":memory:", isolation_level="DEFERRED")

    @pyqik.job("Exports::Before")
    def before() -> None:
        out = pyqik.file("a")
        out.write("done")
        out.publish(str(tmp_path / "a"))
        for _ in pyqik.each(enumerators.exactly_once(enumerators.array([1]), database, create=True)):
            pass

    testing.perform(before).or_raise()
    database.close()
    assert (tmp_path / "a").read_text() == "done"


# What the engine uses.


def grown(path: Path, parts: list[Any], full: Callable[[Piece], None] = lambda piece: None) -> GrowingFile:
    return GrowingFile(path / "file", parts, full)


def test_a_file_that_is_over_writes_nowhere(tmp_path: Path) -> None:
    file = grown(tmp_path, [])
    file.write(b"abc")
    file.close()
    file.flush()
    file.close()
    with pytest.raises(ValueError, match="over"):
        file.write(b"d")


def test_a_cut_in_the_middle_leaves_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_file, "PIECE", 4)
    file = grown(tmp_path, [])
    file.write(b"0123456789")

    pieces = file.cut(6)
    assert [(piece.start, piece.size, piece.is_extra) for piece in pieces] == [(0, 4, False), (4, 2, True)]
    assert pieces[1].crc == crc32c(b"45")
    assert [(piece.start, piece.size) for piece in file.cut(10)] == [(0, 4), (4, 4), (8, 2)]
    assert file.sums() == (10, crc32c(b"0123456789"))
    file.close()


def test_the_upload_thread_does_tasks_in_turn_and_ends_at_the_first_that_fails() -> None:
    uploads, done, gate = UploadThread(), list[object](), threading.Event()

    def fails() -> None:
        raise StoreError("down")

    uploads.do(gate.wait, done.append)
    uploads.do(lambda: done.append(1), done.append)
    uploads.do(fails, lambda error: done.append("first"))
    uploads.do(lambda: done.append(2), lambda error: done.append("second"))
    gate.set()
    with pytest.raises(StoreError, match="down"):
        uploads.wait_until(lambda: 2 in done)
    uploads.do(lambda: done.append(3), lambda error: done.append("third"))
    assert done == [1, "first", "second", "third"]
    uploads.close()
    assert uploads._thread is not None
    uploads._thread.join(10)
    assert not uploads._thread.is_alive()


def test_giving_up_lets_everybody_go() -> None:
    uploads, heard, gate, begun = UploadThread(), list[str](), threading.Event(), threading.Event()

    def waits() -> None:
        begun.set()
        gate.wait(10)

    uploads.do(waits, lambda error: heard.append("running"))
    assert begun.wait(10)
    uploads.do(lambda: None, lambda error: heard.append("waiting"))
    uploads.give_up(StoreError("the process ends"))
    with pytest.raises(StoreError, match="ends"):
        uploads.wait_until(lambda: False)
    assert heard == ["waiting"]
    gate.set()
    uploads.close()
    assert uploads._thread is not None
    uploads._thread.join(10)


def test_uploads_that_are_stopped_finish_what_they_do_and_nothing_else() -> None:
    uploads, gate, begun = UploadThread(), threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        begun.set()
        gate.wait(10)
        done.append("slow")

    uploads.do(slow, lambda error: None)
    uploads.do(lambda: done.append("never"), lambda error: None)
    begun.wait(10)
    stopping = threading.Thread(target=lambda: (uploads.stop(), done.append("stopped")))
    stopping.start()
    wait_until(lambda: not uploads._tasks, message="the other task is left out")
    gate.set()
    stopping.join(10)
    uploads.stop()
    uploads.close()
    assert done == ["slow", "stopped"]


def test_states_are_copied_with_their_files() -> None:
    state = StateHash({})
    state.storage.store.put("a", lambda: iter([b"x"]), 1, crc32c(b"x"), lambda: 1.0)
    copied = state.copy()
    copied.storage.store.remove(["a"])
    assert state.storage.store.objects == {"a": b"x"}
