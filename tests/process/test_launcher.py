"""`Launcher`: a worker inside a program, in whatever thread starts it, that leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

import pyqik
from pyqik.worker.engine.fetcher import Fetcher
from pyqik.worker.launcher import Launcher
from tests.process.state import count_processed, next_in_queue, payload, places, push, traces
from tests.support.wait import wait_until

#: Seconds between two looks of a job at whether it may go on.
GLANCE = 0.005


class Bench:
    """Jobs of this test: `began` and `release` are how they and the test meet."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.release = threading.Event()
        self.arguments: list[object] = []

    def declare(self) -> None:
        """Register the jobs."""

        @pyqik.job("Bench::Add")
        def add(argument: object) -> None:
            self.arguments.append(argument)
            self.began.set()

        @pyqik.job("Bench::Wait")
        def wait() -> None:
            self.began.set()
            while not self.release.wait(GLANCE):
                pass

        @pyqik.job("Bench::Stubborn")
        def be_stubborn() -> None:
            self.began.set()
            while not self.release.is_set():
                try:
                    self.release.wait()
                except BaseException:
                    continue

        @pyqik.job("Bench::WaitInLoop")
        async def wait_in_loop() -> None:
            self.began.set()
            await asyncio.Event().wait()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.declare()
    yield bench
    bench.release.set()


@pytest.fixture
def config(redis_url: str) -> pyqik.Config:
    return pyqik.Config(redis=redis_url, concurrency=2, timeout=5, poll=False)


def test_a_launcher_runs_jobs_and_leaves_nothing_behind(
    bench: Bench, config: pyqik.Config, redis: redis_py.Redis
) -> None:
    with Launcher(config):
        push(redis, *[payload("Bench::Add", number, jid=f"{number}") for number in range(20)])
        wait_until(lambda: len(bench.arguments) == 20)

    assert sorted(map(str, bench.arguments)) == sorted(map(str, range(20)))
    assert places(redis) == {}
    assert traces(redis) == {}
    assert count_processed(redis) == 20


def test_a_launcher_whose_fetcher_dies_of_a_bug_goes_on_under_a_new_name(
    bench: Bench, config: pyqik.Config, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = Fetcher._collect
    broken = threading.Event()

    def collect_once_broken(self: Fetcher) -> None:
        if broken.is_set():
            broken.clear()
            raise ZeroDivisionError("a bug")
        collect(self)

    monkeypatch.setattr(Fetcher, "_collect", collect_once_broken)
    with Launcher(config) as launcher:
        before = launcher.identity
        push(redis, payload("Bench::Wait", jid="waits"))
        assert bench.began.wait(10)
        bench.began.clear()
        broken.set()
        wait_until(lambda: launcher.identity != before)
        assert bench.began.wait(10)
        bench.release.set()
        push(redis, payload("Bench::Add", 1, jid="after"))
        wait_until(lambda: bench.arguments == [1])

    assert count_processed(redis) == 2
    assert places(redis) == {}
    assert traces(redis) == {}


def test_a_launcher_does_not_start_with_a_store_for_files_that_cannot_be_written_to(
    redis_url: str, redis: redis_py.Redis, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    called: list[str] = []
    pyqik.on("startup")(lambda: called.append("startup"))
    launcher = Launcher(pyqik.Config(redis=redis_url, files=str(tmp_path / "file"), poll=False))

    with pytest.raises(pyqik.StoreError, match=f"{tmp_path}/file: "):
        launcher.start()

    assert (called, redis.keys("*")) == ([], [])


def test_a_launcher_works_off_the_main_thread(bench: Bench, config: pyqik.Config, redis: redis_py.Redis) -> None:
    errors: list[BaseException] = []

    def program() -> None:
        try:
            with Launcher(config):
                bench.began.wait(10)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=program)
    thread.start()
    push(redis, payload("Bench::Add", 1, jid="job"))
    thread.join(15)

    assert not thread.is_alive()
    assert (bench.arguments, errors) == ([1], [])
    assert traces(redis) == {}


def test_a_launcher_is_seen_as_embedded(bench: Bench, config: pyqik.Config, redis: redis_py.Redis) -> None:
    with Launcher(config) as launcher:
        wait_until(lambda: redis.exists(launcher.identity))

        info: bytes = redis.execute_command("HGET", launcher.identity, "info")
        assert json.loads(info)["embedded"] is True
        assert redis.smembers("processes") == {launcher.identity.encode()}


@pytest.mark.parametrize("job_class", ["Bench::Wait", "Bench::WaitInLoop"], ids=["thread", "asyncio"])
def test_stop_interrupts_what_does_not_end_in_time_and_gives_it_back(
    bench: Bench, config: pyqik.Config, redis: redis_py.Redis, job_class: str
) -> None:
    unfinished, waiting = payload(job_class, jid="unfinished"), payload(job_class, jid="waiting")
    one_at_a_time = pyqik.Config(redis=config.redis, concurrency=1, async_concurrency=1, poll=False)
    launcher = Launcher(one_at_a_time)
    launcher.start()
    push(redis, unfinished)
    assert bench.began.wait(10)
    push(redis, waiting)

    ended = launcher.stop(0.1)

    assert ended
    assert next_in_queue(redis) == [unfinished, waiting]
    assert places(redis) == {unfinished: ["queue:default"], waiting: ["queue:default"]}
    assert traces(redis) == {}


def test_stop_waits_for_jobs_that_end_in_time(bench: Bench, config: pyqik.Config, redis: redis_py.Redis) -> None:
    launcher = Launcher(config)
    launcher.start()
    push(redis, payload("Bench::Wait", jid="job"))
    assert bench.began.wait(10)
    threading.Timer(0.2, bench.release.set).start()

    ended = launcher.stop()

    assert ended
    assert places(redis) == {}
    assert count_processed(redis) == 1


def test_stop_gives_back_a_job_that_does_not_end_although_its_thread_still_runs(
    bench: Bench, config: pyqik.Config, redis: redis_py.Redis
) -> None:
    raw = payload("Bench::Stubborn", jid="stubborn")
    launcher = Launcher(config)
    launcher.start()
    push(redis, raw)
    assert bench.began.wait(10)
    started = time.monotonic()

    ended = launcher.stop(0.1)

    assert not ended
    assert time.monotonic() - started < 0.1 + 3 + 1
    assert places(redis) == {raw: ["queue:default"]}
    assert traces(redis) == {}


def test_a_launcher_is_started_once(config: pyqik.Config) -> None:
    launcher = Launcher(config)
    launcher.start()
    launcher.stop()

    with pytest.raises(RuntimeError, match="was started before; make another one"):
        launcher.start()


def test_an_idle_launcher_stops_at_once(bench: Bench, config: pyqik.Config, redis: redis_py.Redis) -> None:
    launcher = Launcher(config)
    launcher.start()
    wait_until(lambda: redis.smembers("processes"))
    started = time.monotonic()

    ended = launcher.stop()

    assert ended
    assert time.monotonic() - started < 1


def test_hooks_run_around_the_jobs_of_a_launcher(bench: Bench, config: pyqik.Config, redis: redis_py.Redis) -> None:
    calls: list[str] = []
    pyqik.on("startup")(lambda: calls.append(f"startup {bench.arguments}"))
    pyqik.on("quiet")(lambda: calls.append("quiet"))
    pyqik.on("shutdown")(lambda: calls.append(f"shutdown {bench.arguments}"))
    push(redis, payload("Bench::Add", 1, jid="job"))

    with Launcher(config):
        assert bench.began.wait(10)

    assert calls == ["startup []", "quiet", "shutdown [1]"]


def test_shutdown_hooks_of_a_launcher_run_when_a_job_was_interrupted(
    bench: Bench, config: pyqik.Config, redis: redis_py.Redis
) -> None:
    queues: list[list[bytes]] = []
    pyqik.on("shutdown")(lambda: queues.append(next_in_queue(redis)))
    raw = payload("Bench::Wait", jid="unfinished")
    launcher = Launcher(config)
    launcher.start()
    push(redis, raw)
    assert bench.began.wait(10)

    launcher.stop(0.1)

    assert queues == [[raw]]


def test_a_launcher_whose_startup_hook_raises_does_not_start(
    bench: Bench, config: pyqik.Config, redis: redis_py.Redis
) -> None:
    @pyqik.on("startup")
    def load_model() -> None:
        raise FileNotFoundError("model.bin")

    push(redis, payload("Bench::Add", 1, jid="job"))

    with pytest.raises(FileNotFoundError, match=r"model\.bin"), Launcher(config):
        pass

    assert bench.arguments == []
    assert traces(redis) == {}
