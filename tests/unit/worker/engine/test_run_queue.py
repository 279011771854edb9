"""The queue between the fetcher and the job threads: nothing is missed, and nobody is woken who was not asked for."""

from __future__ import annotations

import threading
from typing import Any

from pyqik.worker.engine.run_queue import RunQueue
from tests.support.wait import wait_until


def held() -> threading.Lock:
    bell = threading.Lock()
    bell.acquire()
    return bell


def runs(count: int) -> list[Any]:
    """What the queue holds is never looked into."""
    return list(range(1, count + 1))


class Takers:
    """Threads that take runs until the queue is closed."""

    def __init__(self, queue: RunQueue, count: int) -> None:
        self.taken: list[list[Any]] = [[] for _ in range(count)]
        self._threads = [threading.Thread(target=self._take, args=(queue, taken)) for taken in self.taken]
        for thread in self._threads:
            thread.start()

    def _take(self, queue: RunQueue, taken: list[Any]) -> None:
        bell = held()
        while (run := queue.get(bell)) is not None:
            taken.append(run)

    def all(self) -> list[Any]:
        return sorted(run for taken in self.taken for run in taken)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def test_the_oldest_is_first_and_the_newest_is_taken_back_first() -> None:
    queue = RunQueue()
    queue.put(runs(5))

    assert queue.take_back(2) == [5, 4]
    assert [queue.get(held()) for _ in range(3)] == [1, 2, 3]
    assert len(queue) == 0


def test_only_as_many_threads_wake_as_are_asked_for() -> None:
    queue = RunQueue()
    takers = Takers(queue, 4)
    wait_until(lambda: queue.sleepers == 4, message="all sleep")

    queue.put(runs(100))
    queue.wake(1)

    wait_until(lambda: len(takers.all()) == 100, message="one thread has taken all")
    assert sorted(len(taken) for taken in takers.taken) == [0, 0, 0, 100]
    queue.close()
    takers.join()


def test_everything_is_taken_once_by_threads_that_fall_asleep_all_the_time() -> None:
    queue = RunQueue()
    takers = Takers(queue, 8)

    for number in runs(5000):
        queue.put([number])
        queue.wake(1 if number % 3 else 8)

    wait_until(lambda: len(takers.all()) == 5000, message="everything is taken")
    assert takers.all() == runs(5000)
    queue.close()
    takers.join()


def test_the_end_comes_after_what_is_still_there() -> None:
    queue = RunQueue()
    queue.put(runs(3))
    queue.close()

    takers = Takers(queue, 2)

    takers.join()
    assert takers.all() == runs(3)
