"""Calls the author's hooks (`pyqik.on`) in one process that runs jobs.

Its tasks: `startup` and `shutdown` in the caller's thread; `quiet` in a thread of its own and `heartbeat` in another,
so that a slow hook delays neither the beats, nor the reports to the supervisor, nor signals, nor the stop's deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

import structlog

from pyqik.core.functions import name_of
from pyqik.jobs.lifecycle import Hook, Lifecycle, Moment, lifecycle
from pyqik.wire.presence import BEAT_INTERVAL

log = structlog.get_logger("pyqik")

#: Seconds that the shutdown waits for a heartbeat hook to end: one that hangs must not keep the others from running.
PATIENCE: Final = 1.0


class Hooks:
    """See the module's docstring. Each method is called once, `quiet` as often as one likes; `shutdown` is last."""

    def __init__(self, registered: Lifecycle = lifecycle, interval: float = BEAT_INTERVAL) -> None:
        self._registered = registered
        self._interval = interval
        self._over = threading.Event()
        self._heart: threading.Thread | None = None
        self._quiet: threading.Thread | None = None

    def startup(self) -> None:
        """Run the startup hooks, then begin with those of the heartbeat. Raises: what a startup hook raises."""
        for hook in self._registered.hooks("startup"):
            try:
                hook()
            except BaseException:
                log.exception("a startup hook raised; the process does not start", hook=name_of(hook))
                raise
        if self._registered.hooks("heartbeat"):
            self._heart = threading.Thread(target=self._beat, name="pyqik-heartbeat-hooks", daemon=True)
            self._heart.start()

    def quiet(self) -> None:
        """Run the quiet hooks, the first time that it is called; returns at once."""
        if self._quiet is None:
            self._quiet = threading.Thread(target=self._run_reversed, args=("quiet",), name="pyqik-quiet", daemon=True)
            self._quiet.start()

    def shutdown(self) -> None:
        """Run the shutdown hooks, once those of quiet are through."""
        self._over.set()
        self.quiet()
        assert self._quiet is not None
        self._quiet.join()
        if self._heart is not None:
            self._heart.join(PATIENCE)
        self._run_reversed("shutdown")

    def _run_reversed(self, moment: Moment) -> None:
        self._run(moment, reversed(self._registered.hooks(moment)))

    def _run(self, moment: Moment, hooks: Iterable[Hook]) -> None:
        for hook in hooks:
            try:
                hook()
            except (Exception, SystemExit):
                log.exception(f"a {moment} hook raised", hook=name_of(hook))

    def _beat(self) -> None:
        while not self._over.is_set():
            self._run("heartbeat", self._registered.hooks("heartbeat"))
            self._over.wait(self._interval)
