"""Sweeps with a real Redis: which jobs it knows, whose store it is, one sweep of many processes, and outages."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis as redis_py
import structlog
from redis.exceptions import RedisError

import pyqik
from pyqik import enumerators
from pyqik.jobs.storage import ConfiguredStorage
from pyqik.stores.store import Stored
from pyqik.wire.connection import open_redis
from pyqik.wire.job_files import KnownJobs
from pyqik.worker.processes.parts import Parts
from pyqik.worker.upkeep import sweep as module
from pyqik.worker.upkeep.sweep import BATCH, MARK, OtherOwner, Sweeper, sweep
from tests.redis.worker.engine import Gate, push, running
from tests.support.proxy import RedisProxy
from tests.support.shelf import OLD, Shelf, in_a_directory, in_memory, part
from tests.support.wait import wait_until

#: Starts a sweeper of the store in this directory, with Redis at this address.
StartSweeper = Callable[[str, Path], Sweeper]
Logs = list[dict[str, object]]


@pytest.fixture(params=[in_memory, in_a_directory])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    made: Shelf = request.param(tmp_path / "parts")
    return made


@pytest.fixture
def connect() -> Iterator[Callable[[str], KnownJobs]]:
    """The jobs of the database at an address."""
    with ExitStack() as closing:
        yield lambda url: KnownJobs(closing.enter_context(open_redis(url)))


@pytest.fixture
def jobs(connect: Callable[[str], KnownJobs], redis_url: str) -> KnownJobs:
    return connect(redis_url)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with structlog.testing.capture_logs() as logs:
        yield logs  # type: ignore[misc]  # a list of what structlog calls a mutable mapping


@pytest.fixture
def start_sweeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartSweeper]:
    """They try it at once, and every second from then on."""
    monkeypatch.setattr(module, "SPREAD", 0.0)
    monkeypatch.setattr(module, "INTERVAL", 1.0)
    with ExitStack() as closing:

        def start(url: str, path: Path) -> Sweeper:
            sweeper = Sweeper(url, str(path))
            closing.callback(sweeper.stop)
            sweeper.start()
            return sweeper

        yield start


def keep(redis: redis_py.Redis, *jids: str) -> None:
    for jid in jids:
        redis.hset(f"it-{jid}", "c", "null")


def said(logs: Logs, event: str) -> Logs:
    return [line for line in logs if str(line["event"]).startswith(event)]


def test_the_jobs_that_have_a_state_are_live(jobs: KnownJobs, redis: redis_py.Redis) -> None:
    keep(redis, "one", "größe", "of a/b")
    redis.set("progress/gone", "x")

    assert jobs.live(["one", "gone", "größe", "of a/b"], jobs.owner()) == {"one", "größe", "of a/b"}
    assert jobs.live([], jobs.owner()) == set()


def test_a_database_keeps_its_id(
    jobs: KnownJobs, connect: Callable[[str], KnownJobs], redis: redis_py.Redis, redis_url: str
) -> None:
    owner = jobs.owner()

    assert connect(redis_url).owner() == owner == jobs.owner()
    assert redis.get("pyqik:files") == owner.encode()
    assert redis.ttl("pyqik:files") == -1
    redis.flushall()
    assert jobs.owner() != owner


def test_a_database_that_was_emptied_answers_nothing(jobs: KnownJobs, redis: redis_py.Redis) -> None:
    owner = jobs.owner()
    redis.flushall()

    with pytest.raises(RedisError, match="pyqik:files is no longer what it was"):
        jobs.live(["one"], owner)


def test_one_is_told_to_sweep_for_a_while(jobs: KnownJobs, redis: redis_py.Redis) -> None:
    assert [jobs.may_sweep(21_600.0) for _ in range(3)] == [True, False, False]
    assert 21_500 < redis.ttl("pyqik:sweep") <= 21_600
    redis.delete("pyqik:sweep")
    assert jobs.may_sweep(21_600.0)


def test_the_parts_of_the_living_stay(shelf: Shelf, jobs: KnownJobs, redis: redis_py.Redis) -> None:
    keep(redis, "live", "größe")
    shelf.put(part("live"), part("gr%C3%B6%C3%9Fe"), part("gone"), part("gone", 2))

    swept = sweep(shelf.store, jobs)

    assert shelf.names == {part("live"), part("gr%C3%B6%C3%9Fe")}
    assert (swept.objects, swept.jobs) == (2, 1)
    redis.delete("it-live")
    assert sweep(shelf.store, jobs).jobs == 1


def test_many_jobs_are_asked_for_in_one_round_trip(
    connect: Callable[[str], KnownJobs], redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    jids = [f"{number:024}" for number in range(BATCH)]
    keep(redis, jids[7])
    jobs = connect(redis_proxy.url)
    owner = jobs.owner()
    before = redis_proxy.requests.count("EXEC")

    assert jobs.live(jids, owner) == {jids[7]}
    assert redis_proxy.requests.count("EXEC") == before + 1


def test_the_store_of_another_database_is_left_alone(
    shelf: Shelf, jobs: KnownJobs, connect: Callable[[str], KnownJobs], redis_url: str
) -> None:
    """Two deployments on one server, each of which has its own database."""
    others = connect(redis_url.removesuffix("/0") + "/1")
    assert others.owner() != jobs.owner()
    shelf.put(part("theirs"))
    with open_redis(redis_url.removesuffix("/0") + "/1") as client:
        keep(client, "theirs")
    assert sweep(shelf.store, others).objects == 0

    with pytest.raises(OtherOwner, match="belongs to the workers of another Redis"):
        sweep(shelf.store, jobs)

    assert shelf.names == {part("theirs")}


@pytest.mark.parametrize("asked", [1, 2])
def test_a_database_that_is_emptied_in_the_middle_costs_nothing(
    shelf: Shelf, jobs: KnownJobs, redis: redis_py.Redis, asked: int
) -> None:
    keep(redis, "live")
    shelf.put(part("live"), part("gone"))
    live = jobs.live

    class Emptied(KnownJobs):
        times = 0

        def live(self, jids: object, owner: str) -> set[str]:
            self.times += 1
            if self.times == asked:
                redis.flushall()
            return live(jids, owner)  # type: ignore[arg-type]

    emptied = Emptied(redis)
    with pytest.raises(RedisError, match="is no longer what it was"):
        sweep(shelf.store, emptied)
    assert shelf.names == {part("live"), part("gone")}

    with pytest.raises(OtherOwner):
        sweep(shelf.store, jobs)
    assert shelf.names == {part("live"), part("gone")}


@pytest.mark.parametrize("reply", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_connection_that_breaks_at_any_question_costs_nothing(
    shelf: Shelf,
    connect: Callable[[str], KnownJobs],
    redis_proxy: RedisProxy,
    redis: redis_py.Redis,
    number: int,
    reply: bool,
) -> None:
    keep(redis, "live")
    shelf.put(part("live"), part("gone"))
    jobs = connect(redis_proxy.url)
    (redis_proxy.cut_after_request if reply else redis_proxy.cut_before_request)(number, "EXEC")

    with pytest.raises(RedisError):
        sweep(shelf.store, jobs)

    assert shelf.names == {part("live"), part("gone")}
    assert sweep(shelf.store, jobs).jobs == 1
    assert shelf.names == {part("live")}


# The thread.


def test_of_many_processes_one_sweeps(
    start_sweeper: StartSweeper, redis_url: str, redis: redis_py.Redis, tmp_path: Path, logs: Logs
) -> None:
    shelf = in_a_directory(tmp_path)
    keep(redis, "live")
    shelf.put(part("live"), *(part(f"gone{number}") for number in range(100)))
    answers: list[bool] = []
    told = KnownJobs.may_sweep

    def may_sweep(jobs: KnownJobs, interval: float) -> bool:
        answer = told(jobs, 60.0)
        answers.append(answer)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KnownJobs, "may_sweep", may_sweep)
        for _ in range(5):
            start_sweeper(redis_url, tmp_path)
        wait_until(lambda: len(answers) >= 10 and shelf.names == {part("live")})

    assert answers.count(True) == 1
    [line] = said(logs, "removed files")
    assert (line["objects"], line["jobs"]) == (100, 100)


def test_several_sweeps_at_once_harm_nobody(
    connect: Callable[[str], KnownJobs], redis_url: str, redis: redis_py.Redis, tmp_path: Path
) -> None:
    """The lock of a sweep that takes longer than its six hours ends."""
    shelf = in_a_directory(tmp_path)
    keep(redis, *(f"live{number}" for number in range(20)))
    alive = {part(f"live{number}", count) for number in range(20) for count in range(3)}
    shelf.put(*alive, *(part(f"gone{number}", count) for number in range(60) for count in range(3)))
    start = threading.Barrier(4)
    errors: list[BaseException] = []

    def run() -> None:
        jobs = connect(redis_url)
        start.wait(10)
        try:
            sweep(shelf.store, jobs)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert errors == []
    assert shelf.names == alive


def test_it_goes_on_after_an_outage_of_redis(
    start_sweeper: StartSweeper, redis_proxy: RedisProxy, tmp_path: Path, logs: Logs
) -> None:
    shelf = in_a_directory(tmp_path)
    shelf.put(part("gone"))
    redis_proxy.refuse()
    start_sweeper(redis_proxy.url, tmp_path)
    wait_until(lambda: len(logs) >= 1)
    assert shelf.names == {part("gone")}

    redis_proxy.restore()

    wait_until(lambda: not shelf.names)
    assert logs[0]["event"] == "could not remove files of jobs that are gone; trying again later"
    assert logs[0]["log_level"] == "warning"


def test_it_goes_on_after_an_outage_of_the_store(
    start_sweeper: StartSweeper, redis_url: str, tmp_path: Path, logs: Logs
) -> None:
    place = tmp_path / "parts"
    place.touch()
    start_sweeper(redis_url, place)
    wait_until(lambda: len(logs) >= 1)
    assert (logs[0]["log_level"], str(place) in str(logs[0]["error"])) == ("warning", True)

    place.unlink()
    shelf = in_a_directory(place)
    shelf.put(part("gone"))

    wait_until(lambda: shelf.names == set())


def test_a_bug_in_somebody_elses_client_does_not_end_the_thread(
    start_sweeper: StartSweeper, redis_url: str, tmp_path: Path, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = in_a_directory(tmp_path)
    shelf.put(part("gone"))
    broken = [ZeroDivisionError("a bug")]

    def storage(files: str) -> ConfiguredStorage:
        if broken:
            raise broken.pop()
        return ConfiguredStorage(files)

    monkeypatch.setattr(module, "ConfiguredStorage", storage)
    start_sweeper(redis_url, tmp_path)

    wait_until(lambda: shelf.names == set())
    assert (logs[0]["log_level"], logs[0]["exc_info"]) == ("error", True)


def test_a_store_of_others_is_said_once(
    start_sweeper: StartSweeper, redis_proxy: RedisProxy, tmp_path: Path, logs: Logs
) -> None:
    shelf = in_a_directory(tmp_path)
    shelf.put(part("theirs"))
    shelf.put(MARK, age=0.0)

    start_sweeper(redis_proxy.url, tmp_path)

    # Each sweep asks for the id first.
    wait_until(lambda: redis_proxy.requests.count("EXEC") >= 3)
    [line] = logs
    assert line["log_level"] == "warning"
    assert f"{tmp_path} belongs to the workers of another Redis" in str(line["error"])
    assert part("theirs") in shelf.names


class Hung:
    """A store that lists one object, and then no more until it is let go."""

    name = "hung"

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.put = shelf.store.put
        self.remove = shelf.store.remove

    def find(self, prefix: str) -> Iterator[Stored]:
        for found in self._shelf.store.find(prefix):
            yield found
            self.reached.set()
            assert self.go_on.wait(20)


@pytest.fixture
def hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hung]:
    """Sweepers have it in the place of the store in the directory `tmp_path`, in which the parts of a job are left."""
    shelf = in_a_directory(tmp_path)
    shelf.put(part("gone"), part("gone", 2))
    hung = Hung(shelf)

    def storage(files: str) -> ConfiguredStorage:
        made = ConfiguredStorage()
        made.store = hung  # type: ignore[assignment]  # It can do no more than a sweep needs.
        return made

    monkeypatch.setattr(module, "ConfiguredStorage", storage)
    yield hung
    hung.go_on.set()


def test_a_stop_does_not_wait_for_the_store_and_nothing_is_removed_after_it(
    start_sweeper: StartSweeper, redis_url: str, tmp_path: Path, hung: Hung
) -> None:
    sweeper = start_sweeper(redis_url, tmp_path)
    assert hung.reached.wait(10)

    sweeper.stop()

    assert sweeper._thread.is_alive()  # It waits for the store, and nobody for it.
    hung.go_on.set()
    sweeper._thread.join(10)
    assert not sweeper._thread.is_alive()
    assert in_a_directory(tmp_path).names == {part("gone"), part("gone", 2)}


@pytest.mark.usefixtures("start_sweeper")
@pytest.mark.parametrize("act", ["quiet", "stop"])
def test_the_parts_of_a_supervisor_stop_it(redis_url: str, tmp_path: Path, hung: Hung, act: str) -> None:
    config = pyqik.Config(redis=redis_url, files=str(tmp_path), poll=False)
    silent = {name: lambda *_: None for name in ("on_signal", "on_superseded", "on_waiting", "on_death")}
    parts = Parts(config, "host:1:cus", **silent)
    parts.start()
    assert hung.reached.wait(10)

    if act == "quiet":
        parts.quiet()
        hung.go_on.set()
    parts.stop(5.0)
    hung.go_on.set()

    wait_until(lambda: "pyqik-sweeper" not in threads())
    assert in_a_directory(tmp_path).names == {part("gone"), part("gone", 2)}


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_launcher_sweeps_if_it_keeps_files(
    redis_url: str, redis: redis_py.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPREAD", 0.0)
    shelf = in_a_directory(tmp_path)
    shelf.put(part("gone"))

    with running(redis_url, "a"):
        assert "pyqik-sweeper" not in threads()
    with running(redis_url, "a", files=str(tmp_path)):
        wait_until(lambda: not shelf.names)

    assert 21_500 < redis.ttl("pyqik:sweep") <= 21_600
    wait_until(lambda: "pyqik-sweeper" not in threads())


def test_a_stop_of_a_launcher_does_not_wait_for_it(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hung: Hung
) -> None:
    monkeypatch.setattr(module, "SPREAD", 0.0)
    with running(redis_url, "a", files=str(tmp_path)):
        assert hung.reached.wait(10)

    assert "pyqik-sweeper" in threads()
    hung.go_on.set()
    wait_until(lambda: "pyqik-sweeper" not in threads())
    assert in_a_directory(tmp_path).names == {part("gone"), part("gone", 2)}


def test_a_job_that_was_interrupted_long_ago_finds_its_file(
    redis_url: str, redis: redis_py.Redis, tmp_path: Path, gate: Gate
) -> None:
    place, published = tmp_path / "parts", tmp_path / "orders.csv"

    @pyqik.job("Export")
    def export(number: int) -> None:
        out = pyqik.file("orders.csv")
        for item in pyqik.each(enumerators.array(list(range(10)))):
            if item == 5:
                gate.pass_through()
            out.write(f"{item}\n")
        out.publish(str(published))

    push(redis, "a", [1], "Export")
    with running(redis_url, "a", files=str(place), flush_interval=0.0) as launcher:
        gate.wait_for_arrivals(1)
        launcher.quiet()
        gate.open()
    shelf = in_a_directory(place)
    kept = shelf.names
    assert kept
    for name in kept:
        shelf.make_old(name, 20 * OLD)
    shelf.put(part("gone"))
    jobs = KnownJobs(redis)

    assert sweep(shelf.store, jobs).objects == 1
    assert shelf.names == kept
    with running(redis_url, "a", files=str(place)):
        wait_until(published.exists)
        wait_until(lambda: not shelf.names)

    assert published.read_text() == "".join(f"{item}\n" for item in range(10))
    assert os.listdir(place) == [MARK]
