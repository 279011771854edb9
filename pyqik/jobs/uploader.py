"""What stores the pieces of a job's files while the job runs: one thread a run, or none at all in tests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

#: Something to do, in its turn.
Task = Callable[[], None]


class Uploads(Protocol):
    """Does tasks one after the other. One that raises ends it: what waits hears of that, and no other one is done."""

    #: Why it has ended, if it has.
    failed: BaseException | None

    def do(self, task: Task, otherwise: Callable[[BaseException], None]) -> None:
        """In its turn; or `otherwise`, with the reason why not."""
        ...

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when it is so, which is looked at after each task. Raises: the reason why it will not be."""
        ...

    def stop(self) -> None:
        """What waits for its turn is left out; returns when what is being done is over, or nobody waits any longer."""
        ...

    def give_up(self, reason: BaseException) -> None:
        """Nothing waits any longer; from any thread."""
        ...

    def close(self) -> None:
        """Nothing more comes; a task that is being done may outlast this."""
        ...


class AtOnce:
    """Does each task in the moment in which it is given: for tests."""

    def __init__(self) -> None:
        self.failed: BaseException | None = None

    def do(self, task: Task, otherwise: Callable[[BaseException], None]) -> None:
        """See `Uploads`."""
        if self.failed is None:
            try:
                task()
                return
            except Exception as error:
                self.failed = error
        otherwise(self.failed)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """See `Uploads`."""
        if self.failed is not None:
            raise self.failed

    def stop(self) -> None:
        """See `Uploads`."""

    def give_up(self, reason: BaseException) -> None:
        """See `Uploads`."""

    def close(self) -> None:
        """See `Uploads`."""


class UploadThread:
    """Does them in a thread of its own, which begins with the first one."""

    def __init__(self) -> None:
        self.failed: BaseException | None = None
        self._tasks: deque[tuple[Task, Callable[[BaseException], None]]] = deque()
        self._changed: Final = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        #: Whether a task is being done.
        self._busy = False

    def do(self, task: Task, otherwise: Callable[[BaseException], None]) -> None:
        """See `Uploads`."""
        with self._changed:
            failed = self.failed
            if failed is None:
                self._tasks.append((task, otherwise))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="pyqik-upload", daemon=True)
                    self._thread.start()
                self._changed.notify_all()
        if failed is not None:
            otherwise(failed)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """See `Uploads`."""
        with self._changed:
            while not condition():
                if self.failed is not None:
                    raise self.failed
                self._changed.wait()

    def stop(self) -> None:
        """See `Uploads`."""
        with self._changed:
            self._tasks.clear()
            while self._busy and self.failed is None:
                self._changed.wait()

    def give_up(self, reason: BaseException) -> None:
        """See `Uploads`."""
        with self._changed:
            self.failed = self.failed or reason
            waiting = list(self._tasks)
            self._tasks.clear()
            self._changed.notify_all()
        for _, otherwise in waiting:
            otherwise(reason)

    def close(self) -> None:
        """See `Uploads`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._tasks and not self._closed:
                    self._changed.wait()
                if not self._tasks:
                    return
                task, otherwise = self._tasks.popleft()
                self._busy = True
            try:
                task()
            except BaseException as error:
                otherwise(error)
                self.give_up(error)
            with self._changed:
                self._busy = False
                self._changed.notify_all()
