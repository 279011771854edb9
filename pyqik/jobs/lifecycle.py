"""What the author of jobs wants done at the turning points of a process that runs jobs; `on` notes it down.

Running it is the worker's business (`pyqik.worker.hooks`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias, TypeVar, get_args

from pyqik.core.functions import name_of, runs_when_called

#: When a hook is called; `Lifecycle.on` says what each of them means.
Moment: TypeAlias = Literal["startup", "quiet", "shutdown", "heartbeat"]

Hook: TypeAlias = Callable[[], object]
H = TypeVar("H", bound=Hook)

MOMENTS: Final[tuple[Moment, ...]] = get_args(Moment)


class Lifecycle:
    """Hooks by the moment at which they are called. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hooks: dict[Moment, tuple[Hook, ...]] = {}

    def on(self, moment: Moment) -> Callable[[H], H]:
        """Call a function at a moment in the life of each process that runs jobs: a child of `pyqik work`, a Launcher.

            @pyqik.on("startup")
            def load_model() -> None: ...

        =========== ===============================================================================================
        `startup`   before the first job is taken. If it raises, the process does not start
        `quiet`     when no more jobs are taken; those that run go on meanwhile
        `shutdown`  after the last job has ended
        `heartbeat` every ten seconds, for as long as jobs may run
        =========== ===============================================================================================

        Hooks take no arguments and run one after the other: those of quiet and shutdown in the reverse order of their
        registration, the others in that order. What one of these raises, startup apart, is logged. `startup` and
        `shutdown` run in the main thread of a child, or in the thread that starts and stops a Launcher; the others in
        threads of their own. A hook that still runs two seconds after the stop's timeout ends with its process.

        Raises: ValueError for another moment; TypeError for an `async def` or a generator.
        """
        if moment not in MOMENTS:
            raise ValueError(f"there is no moment {moment!r}; write one of {', '.join(MOMENTS)}")

        def register(hook: H) -> H:
            if not callable(hook) or not runs_when_called(hook):
                raise TypeError(
                    f"{name_of(hook)} cannot be a {moment} hook: it is called, not awaited; write a plain function"
                )
            with self._lock:
                self._hooks[moment] = (*self._hooks.get(moment, ()), hook)
            return hook

        return register

    def hooks(self, moment: Moment) -> tuple[Hook, ...]:
        """The hooks of a moment, in the order in which they were registered."""
        return self._hooks.get(moment, ())

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Within the block there are no hooks; afterwards there are those that were there before. For tests."""
        before, self._hooks = self._hooks, {}
        try:
            yield
        finally:
            self._hooks = before


#: The hooks of this process.
lifecycle: Final = Lifecycle()
on: Final = lifecycle.on
