"""Doing the same with many things, a few at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Final, TypeVar

A = TypeVar("A")
R = TypeVar("R")

#: Seconds that are granted to threads whose work is done.
_MOMENT: Final = 1.0


def each_of(call: Callable[[A], R], arguments: Iterable[A], count: int) -> Iterator[R]:
    """What `call` returns for each argument, in their order; `count` at a time. Raises: what the first of them raises.

    Unlike those of an executor its threads hold up neither whoever is interrupted in here nor the end of the process.
    """
    waiting: SimpleQueue[tuple[Future[R], A] | None] = SimpleQueue()
    coming: deque[Future[R]] = deque()
    threads: list[threading.Thread] = []
    try:
        for argument in arguments:
            coming.append(Future())
            waiting.put((coming[-1], argument))
            if len(threads) < count:
                threads.append(threading.Thread(target=_work, args=(call, waiting), name="pyqik-store", daemon=True))
                threads[-1].start()
            if len(coming) == count:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        for _ in threads:
            waiting.put(None)
    for thread in threads:
        thread.join(_MOMENT)


def _work(call: Callable[[A], R], waiting: SimpleQueue[tuple[Future[R], A] | None]) -> None:
    while (given := waiting.get()) is not None:
        future, argument = given
        try:
            future.set_result(call(argument))
        except BaseException as error:
            future.set_exception(error)
