"""What a sweep removes from a store, and what it leaves alone."""

from __future__ import annotations

import itertools
import os
import tracemalloc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
import structlog

from pyqik.core.errors import StoreError
from pyqik.jobs.run_files import RunFiles
from pyqik.jobs.uploader import AtOnce, Uploads
from pyqik.stores.directory import DirectoryStore
from pyqik.stores.memory import MemoryStore
from pyqik.stores.store import Refused, Store, Stored
from pyqik.stores.targets import PathTarget, Target
from pyqik.worker.upkeep import sweep as module
from pyqik.worker.upkeep.sweep import ABANDONED, BATCH, MARK, REMOVED, OtherOwner, sweep
from tests.support.cloud_storage import Fault, Verb
from tests.support.shelf import DATA, OLD, Shelf, in_a_directory, in_memory, in_the_cloud, part

YOUNG = ABANDONED - 60


class Known:
    """The jobs of a database, in a set; `asked` are those that were asked for, in each round trip."""

    def __init__(self, *live: str, owner: str = "this one") -> None:
        self.jids = set(live)
        self.asked: list[Sequence[str]] = []
        self.before_answer: Callable[[], object] = lambda: None
        self._owner = owner

    def owner(self) -> str:
        return self._owner

    def live(self, jids: Collection[str], owner: str) -> set[str]:
        assert owner == self._owner
        self.asked.append(list(jids))
        self.before_answer()
        return self.jids.intersection(jids)


@pytest.fixture(params=["in memory", "in a directory", "in the cloud"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    if request.param == "in the cloud":
        with in_the_cloud() as (shelf, server):
            # A listing of many pages, of which some are fetched after a batch was removed.
            server.page_size = 30
            yield shelf
    else:
        yield in_memory(tmp_path) if request.param == "in memory" else in_a_directory(tmp_path / "parts")


@pytest.fixture
def memory(tmp_path: Path) -> tuple[Shelf, MemoryStore]:
    """A store in memory, which can be told to fail."""
    made = in_memory(tmp_path)
    assert isinstance(made.store, MemoryStore)
    return made, made.store


def test_the_parts_of_jobs_that_are_gone_are_removed(shelf: Shelf) -> None:
    shelf.put(part("gone"), part("gone", 2), part("gone", 1, "b.csv"), f"{part('gone', 3)}-whole", part("live"))

    swept = sweep(shelf.store, Known("live"))

    assert shelf.names == {part("live")}
    assert (swept.objects, swept.size, swept.jobs) == (4, 4 * len(DATA), 1)


def test_what_a_run_stores_is_known_as_its_own(shelf: Shelf) -> None:
    class Kept:
        store: Store | None = shelf.store

        def target(self, url: str) -> Target:
            return PathTarget(url)

        def uploads(self) -> Uploads:
            return AtOnce()

    for jid in ("a" * 24, "an odd/jid: 100 %"):
        files = RunFiles(jid, Kept())
        for name in ("an odd name?.csv", "größe.csv"):
            files.open(name).write(memoryview(DATA), 0)
        files.commit_now(1)
        files.close()
    before = shelf.names
    assert len(before) == 4
    for name in before:
        shelf.make_old(name, OLD)

    assert sweep(shelf.store, Known("a" * 24, "an odd/jid: 100 %")).objects == 0
    assert shelf.names == before
    known = Known("a" * 24)
    assert sweep(shelf.store, known).jobs == 1
    assert {name.partition("/")[0] for name in shelf.names} == {"a" * 24}
    assert {jid for jids in known.asked for jid in jids} == {"a" * 24, "an odd/jid: 100 %"}


@pytest.mark.parametrize("age", [YOUNG, 0.0, -ABANDONED])
def test_a_job_that_has_stored_something_lately_keeps_all_of_it(shelf: Shelf, age: float) -> None:
    shelf.put(part("begins", 1), part("begins", 2, "z.csv"))
    shelf.put(part("begins", 3, "m.csv"), age=age)
    known = Known()

    assert sweep(shelf.store, known).objects == 0

    assert len(shelf.names) == 3
    assert known.asked == []


@pytest.mark.parametrize(
    "name",
    [
        *("exports/orders.csv", "exports/2026/orders.csv", "orders.csv", "exports/2026/0123456789ab-1"),
        *("other/gone/a.csv/0123456789ab-000001", "exports/a/0123456789ab-000001.csv", "exports/a/0123456789AB-000001"),
        *("an odd jid/a/0123456789ab-000001", "%61/a/0123456789ab-000001", "%ff/a/0123456789ab-000001"),
        *("notes.part", ".notes-01234567.part", "a/b/.notes-01234567.part", ".checks", ".check-0123", ".pyqikrc"),
    ],
)
def test_what_others_have_put_there_is_left_alone(shelf: Shelf, name: str) -> None:
    shelf.put(name, age=100 * OLD)
    known = Known()

    assert sweep(shelf.store, known).objects == 0

    assert shelf.names == {name}
    assert known.asked == []


def test_what_others_have_put_beside_parts_is_left_alone(shelf: Shelf) -> None:
    shelf.put(part("gone"), "gone/a.csv/README", "gone/notes")

    sweep(shelf.store, Known())

    assert shelf.names == {"gone/a.csv/README", "gone/notes"}


@pytest.mark.parametrize(
    "name",
    [
        *("live/a.csv/.0123456789ab-000001-89abcdef.part", "live/a.csv/.0123456789ab-000001-whole-89abcdef.part"),
        *(".check-89abcdef", "..check-89abcdef-01234567.part", "..pyqik-01234567.part"),
    ],
)
def test_what_was_never_finished_is_removed_a_day_later_whosever_it_is(shelf: Shelf, name: str) -> None:
    shelf.put(part("live"))
    shelf.put(name, age=YOUNG)
    known = Known("live")
    assert sweep(shelf.store, known).objects == 0

    shelf.make_old(name, OLD)
    swept = sweep(shelf.store, known)

    assert (swept.objects, swept.jobs) == (1, 0)
    assert shelf.names == {part("live")}


def test_a_directory_finds_its_own_unfinished_files(tmp_path: Path) -> None:
    """As they are really called: one is left behind by a write that is cut off."""
    store = DirectoryStore(tmp_path)

    def cut_off() -> Iterator[bytes]:
        [beside] = tmp_path.rglob("*.part")
        os.link(beside, beside.with_name(beside.name + "-kept"))
        yield DATA
        raise StoreError("the machine is gone")

    for name in (part("jid"), MARK, ".check-0123abcd"):
        with pytest.raises(StoreError, match="is gone"):
            store.put(name, cut_off, len(DATA), 1, lambda: 10.0)
    for kept in list(tmp_path.rglob("*.part-kept")):
        os.utime(kept, (1, 1))
        kept.rename(kept.with_name(kept.name.removesuffix("-kept")))
    assert len(list(tmp_path.rglob("*.part"))) == 3

    assert sweep(store, Known("jid")).objects == 3

    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [MARK]


def test_a_job_that_comes_back_while_it_is_looked_for_keeps_its_parts(shelf: Shelf) -> None:
    shelf.put(part("gone"), part("back"), part("back", 2))
    known = Known()
    answers = itertools.count(1)
    known.before_answer = lambda: known.jids.add("back") if next(answers) == 2 else None

    assert sweep(shelf.store, known).jobs == 1

    assert shelf.names == {part("back"), part("back", 2)}
    assert [sorted(jids) for jids in known.asked] == [["back", "gone"], ["back", "gone"]]


def test_a_job_that_begins_anew_keeps_what_it_stores_meanwhile(shelf: Shelf) -> None:
    """Its state is written in that moment: only what was there before goes, and nothing refers to that."""
    shelf.put(part("again"))
    known = Known()
    known.before_answer = lambda: shelf.put(part("again", 2), age=0.0)

    sweep(shelf.store, known)

    assert shelf.names == {part("again", 2)}


def test_many_are_asked_for_together(shelf: Shelf) -> None:
    count = BATCH + 3
    shelf.put(*(part(f"gone{number:04}") for number in range(count)))
    known = Known("gone0001", f"gone{count - 1:04}")

    swept = sweep(shelf.store, known)

    assert shelf.names == {part(jid) for jid in known.jids}
    assert (swept.objects, swept.jobs) == (count - 2, count - 2)
    assert max(map(len, known.asked)) == BATCH
    assert len(known.asked) <= 2 + -(-BATCH // REMOVED) + 1


def test_a_job_of_many_parts_counts_as_one(shelf: Shelf) -> None:
    shelf.put(*(part("gone", number) for number in range(2 * REMOVED + 1)))

    swept = sweep(shelf.store, Known())

    assert (swept.objects, swept.jobs) == (2 * REMOVED + 1, 1)
    assert shelf.names == set()


class Endless:
    """A store that lists very many objects of very many jobs, of each several."""

    name = "endless"
    longest_join = 0

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self.listed = self.removed = 0

    def find(self, prefix: str) -> Iterator[Stored]:
        jids = (f"{number:024}" for number in range(self._jobs)) if not prefix else (prefix.rstrip("/"),)
        for jid in jids:
            for number in range(5):
                self.listed += 1
                yield Stored(part(jid, number), 1, OLD)

    def remove(self, names: Iterable[str]) -> None:
        self.removed += len(list(names))

    def put(self, *arguments: object) -> None:
        pass


def test_the_memory_that_it_needs_does_not_depend_on_how_much_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH", 100)

    class Forgetful(Known):
        def live(self, jids: Collection[str], owner: str) -> set[str]:
            return set()

    def peak(jobs: int) -> int:
        store = Endless(jobs)
        tracemalloc.start()
        sweep(store, Forgetful())  # type: ignore[arg-type]  # It can do no more than a sweep needs.
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert store.removed == 5 * jobs
        return used

    peak(200)
    assert peak(3200) < 2 * peak(200)


# Whose store it is.


def test_a_store_belongs_to_one_database(shelf: Shelf) -> None:
    shelf.put(part("theirs"))
    known = Known("theirs", owner="the other one")
    assert sweep(shelf.store, known).objects == 0

    with pytest.raises(OtherOwner, match=rf"{shelf.store.name} belongs .* of their own, or remove \.pyqik there"):
        sweep(shelf.store, Known())

    assert shelf.names == {part("theirs")}
    shelf.store.remove([MARK])
    assert sweep(shelf.store, Known()).objects == 1


def test_a_store_below_another_one_is_left_alone(tmp_path: Path) -> None:
    above, below = in_a_directory(tmp_path), in_a_directory(tmp_path / "below")
    below.put(part("theirs"))
    below.put("theirs/a.csv/.0123456789ab-000001-89abcdef.part", ".check-89abcdef")
    sweep(below.store, Known("theirs", owner="the other one"))
    below.put(".check-89abcdef")

    assert sweep(above.store, Known()).objects == 0

    assert below.names == {part("theirs"), ".check-89abcdef"}


# Faults.


@pytest.mark.parametrize("verb", ["put", "find", "remove"])
def test_a_store_that_fails_at_any_step_is_no_matter_the_next_time(
    memory: tuple[Shelf, MemoryStore], verb: str
) -> None:
    shelf, store = memory
    shelf.put(*(part(jid, number) for jid in ("gone", "live") for number in range(3)))
    expected = {part("live", number) for number in range(3)}
    calls: list[str] = []
    store.fault = lambda each, name: calls.append(each)
    sweep(store.copy(), Known("live"))
    assert calls.count(verb) >= 1

    for fails_at in range(calls.count(verb)):
        left = itertools.count(-fails_at)
        tried = store.copy()

        def fault(each: str, name: str, left: Iterator[int] = left) -> None:
            if each == verb and next(left) == 0:
                raise StoreError("the store is away")

        tried.fault = fault
        with pytest.raises(StoreError, match="is away"):
            sweep(tried, Known("live"))
        assert expected <= set(tried.objects)
        sweep(tried, Known("live"))
        assert set(tried.objects) == {MARK, *expected}


@pytest.mark.parametrize("verb", ["put", "list", "delete"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_bucket_that_refuses_at_any_step_keeps_the_living(verb: Verb, number: int) -> None:
    with in_the_cloud() as (shelf, server):
        shelf.put(part("gone"), part("gone", 2), part("live"))
        counted = itertools.count(1)
        server.fault = lambda operation: (
            Fault(status=403) if operation.verb == verb and next(counted) >= number else None
        )

        if (verb, number) == ("put", 2):  # There is one of them: the mark.
            assert sweep(shelf.store, Known("live")).objects == 2
        else:
            with pytest.raises(Refused, match="cannot be"):
                sweep(shelf.store, Known("live"))

        server.fault = lambda operation: None
        sweep(shelf.store, Known("live"))
        assert shelf.names == {part("live")}


@pytest.mark.parametrize("fails_at", [1, 2])
def test_nothing_is_removed_without_an_answer(shelf: Shelf, fails_at: int) -> None:
    shelf.put(part("gone"), part("live"))
    known = Known("live")
    answers = itertools.count(1)

    def fail() -> None:
        if next(answers) == fails_at:
            raise ConnectionError("Redis is away")

    known.before_answer = fail
    with pytest.raises(ConnectionError):
        sweep(shelf.store, known)
    assert shelf.names == {part("gone"), part("live")}

    assert sweep(shelf.store, known).jobs == 1


def test_what_was_removed_is_logged_once_also_if_it_then_fails(memory: tuple[Shelf, MemoryStore]) -> None:
    shelf, store = memory
    shelf.put(*(part("gone", number) for number in range(REMOVED + 1)))
    removed: list[str] = []

    def fault(verb: str, name: str) -> None:
        if verb == "remove":
            if len(removed) == REMOVED:
                raise StoreError("the store is away")
            removed.append(name)

    store.fault = fault
    with structlog.testing.capture_logs() as logs, pytest.raises(StoreError):
        sweep(store, Known())

    [line] = logs
    assert (line["event"], line["log_level"]) == ("removed files of jobs that are gone", "info")
    assert (line["store"], line["objects"], line["bytes"], line["jobs"]) == ("memory", REMOVED, REMOVED * len(DATA), 1)


def test_nothing_is_logged_if_nothing_was_removed(shelf: Shelf) -> None:
    shelf.put(part("live"), part("live", 2))

    with structlog.testing.capture_logs() as logs:
        sweep(shelf.store, Known("live"))

    assert logs == []


# The stop.


def test_it_stops_between_two_batches(shelf: Shelf) -> None:
    shelf.put(*(part(f"gone{number:04}") for number in range(3 * REMOVED)))
    known = Known()

    def is_enough() -> bool:
        return len(known.asked) >= 3  # Which of them are live, the same of the first batch, and of the second.

    swept = sweep(shelf.store, known, is_enough)

    assert swept.objects == REMOVED
    assert len(shelf.names) == 2 * REMOVED
    assert sweep(shelf.store, known).objects == 2 * REMOVED


def test_it_stops_in_the_middle_of_the_listing() -> None:
    store, known = Endless(1000), Known()
    left = itertools.count(-100)

    swept = sweep(store, known, lambda: next(left) >= 0)  # type: ignore[arg-type]  # see above

    assert (swept.objects, known.asked) == (0, [])
    assert store.listed <= 101


@pytest.mark.parametrize("looks", range(12))
def test_wherever_it_is_stopped_what_is_alive_stays(shelf: Shelf, looks: int) -> None:
    shelf.put(part("gone"), part("gone", 2), part("live"), part("mixed"), ".check-89abcdef")
    shelf.put(part("mixed", 2), age=YOUNG)
    left = itertools.count(-looks)

    sweep(shelf.store, Known("live"), lambda: next(left) >= 0)

    assert {part("live"), part("mixed"), part("mixed", 2)} <= shelf.names
    sweep(shelf.store, Known("live"))
    assert shelf.names == {part("live"), part("mixed"), part("mixed", 2)}
