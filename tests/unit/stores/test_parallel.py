"""Doing the same with many things, a few at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from pyqik.stores.parallel import each_of


def test_results_come_in_the_order_of_the_arguments_and_only_a_few_are_taken_ahead() -> None:
    taken: list[int] = []

    def arguments() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    got = []
    for number, result in enumerate(each_of(lambda argument: argument * 2, arguments(), 4)):
        got.append(result)
        assert len(taken) <= number + 4
    assert got == [number * 2 for number in range(50)]
    assert list(each_of(str, [], 4)) == []


def test_as_many_as_were_said_are_at_work() -> None:
    together = threading.Barrier(4)
    assert sorted(each_of(lambda _: together.wait(10), range(4), 4)) == [0, 1, 2, 3]


def test_what_is_raised_comes_where_its_result_would() -> None:
    def call(number: int) -> int:
        if number == 3:
            raise ConnectionError(number)
        return number

    results = each_of(call, range(10), 2)
    assert [next(results), next(results), next(results)] == [0, 1, 2]
    with pytest.raises(ConnectionError, match="3"):
        next(results)


def test_what_hangs_holds_up_no_end_of_the_process() -> None:
    code = """
import threading
from pyqik.stores.parallel import each_of
begun = threading.Event()
def hang(_):
    begun.set()
    threading.Event().wait()
caller = threading.Thread(target=lambda: list(each_of(hang, range(9), 3)), daemon=True)
caller.start()
begun.wait(10)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
