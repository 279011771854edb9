"""The same long job in every style: it does the items from 0 up to the number that is its argument."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeAlias

import pytest

import pyqik
from pyqik import enumerators
from pyqik.testing import Performable

#: What a job of six items does.
ITEMS: Final = list(range(6))

#: Declares the job; what it does with each item is the argument.
Style: TypeAlias = Callable[[Callable[[int], Any]], Performable]


def numbers(count: int) -> Callable[[int | None], Iterator[tuple[int, int]]]:
    """A generator function for `each`."""

    def opened(cursor: int | None) -> Iterator[tuple[int, int]]:
        for number in range(cursor or 0, count):
            yield number, number

    return opened


def array(do: Callable[[int], Any]) -> Performable:
    @pyqik.job("Long", queue="low")
    def long(count: int) -> None:
        for item in pyqik.each(enumerators.array(range(count))):
            do(item)

    return long


def generator(do: Callable[[int], Any]) -> Performable:
    @pyqik.job("Long", queue="low")
    def long(count: int) -> None:
        for item in pyqik.each(numbers(count)):
            do(item)

    return long


def iterable(do: Callable[[int], Any]) -> Performable:
    class Long(pyqik.IterableJob, queue="low"):
        def build_enumerator(self, count: int, *, cursor: int | None) -> pyqik.Source[int, int]:
            return enumerators.array(range(count))

        def each_iteration(self, item: int, count: int) -> None:
            do(item)

    return Long


def checkpoints(do: Callable[[int], Any]) -> Performable:
    @pyqik.job("Long", queue="low")
    def long(count: int) -> None:
        for item in range(pyqik.resume(0), count):
            do(item)
            pyqik.checkpoint(item + 1)

    return long


def async_array(do: Callable[[int], Any]) -> Performable:
    @pyqik.job("Long", queue="low")
    async def long(count: int) -> None:
        async for item in pyqik.each(enumerators.array(range(count))):
            do(item)

    return long


def async_generator(do: Callable[[int], Any]) -> Performable:
    def pairs(count: int) -> Any:
        async def opened(cursor: int | None) -> AsyncIterator[tuple[int, int]]:
            for number in range(cursor or 0, count):
                yield number, number

        return opened

    @pyqik.job("Long", queue="low")
    async def long(count: int) -> None:
        async for item in pyqik.each(pairs(count)):
            do(item)

    return long


def async_iterable(do: Callable[[int], Any]) -> Performable:
    class Long(pyqik.IterableJob, queue="low"):
        def build_enumerator(self, count: int, *, cursor: int | None) -> pyqik.Source[int, int]:
            return enumerators.array(range(count))

        async def each_iteration(self, item: int, count: int) -> None:
            do(item)

    return Long


def async_checkpoints(do: Callable[[int], Any]) -> Performable:
    @pyqik.job("Long", queue="low")
    async def long(count: int) -> None:
        for item in range(await pyqik.aresume(0), count):
            do(item)
            await pyqik.acheckpoint(item + 1)

    return long


def steps(do: Callable[[int], Any]) -> Performable:
    @pyqik.job("Long", queue="low")
    def long(count: int) -> None:
        with pyqik.step("first"):
            do(0)
        with pyqik.step("checkpoints") as step:
            for item in range(step.resume(1), count - 2):
                do(item)
                step.checkpoint(item + 1)
        with pyqik.step("loop"):
            for item in pyqik.each(enumerators.array(range(count - 2, count))):
                do(item)

    return long


def async_steps(do: Callable[[int], Any]) -> Performable:
    @pyqik.job("Long", queue="low")
    async def long(count: int) -> None:
        async with pyqik.step("first"):
            do(0)
        async with pyqik.step("checkpoints") as step:
            for item in range(await step.aresume(1), count - 2):
                do(item)
                await step.acheckpoint(item + 1)
        async with pyqik.step("loop"):
            async for item in pyqik.each(enumerators.array(range(count - 2, count))):
                do(item)

    return long


STYLES = [
    *(array, generator, iterable, checkpoints),
    *(async_array, async_generator, async_iterable, async_checkpoints),
]
each_style = pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
#: With steps, whose cursors and numbers of items are others.
each_style_and_steps = pytest.mark.parametrize("style", [*STYLES, steps, async_steps], ids=lambda style: style.__name__)
