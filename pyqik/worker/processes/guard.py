"""The supervisor's side of its guardian: starts it, tells it of each child, and starts another one should it die."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Final

import structlog

from pyqik.core.config import Config
from pyqik.worker.processes import guardian
from pyqik.worker.processes.aftermath import settings_line

log = structlog.get_logger("pyqik")

#: Seconds between two starts of a guardian, and for it to end after a word.
RESTART_INTERVAL: Final = 1.0
LAST_WORD: Final = 1.0

_AFTERMATH: Final = (sys.executable, "-m", "pyqik.worker.processes.aftermath")


class Guard:
    """See the module's docstring. All of it is called in the supervisor's main thread, and nothing blocks."""

    def __init__(self, config: Config, custody: str) -> None:
        self._custody = custody
        self._settings = f"settings {settings_line(config, custody)}"
        self._children: dict[int, str] = {}
        self._start()

    def use(self, config: Config) -> None:
        """From now on jobs are where `config` says."""
        self._settings = f"settings {settings_line(config, self._custody)}"
        self._tell(self._settings)

    @property
    def pid(self) -> int:
        """The guardian's process id."""
        return self._popen.pid

    def watch(self, pid: int, identity: str) -> None:
        """A child has been started."""
        self._children[pid] = f"child {pid} {guardian.birth(pid)} {identity}"
        self._tell(self._children[pid])

    def forget(self, pid: int) -> None:
        """A child has ended, and what it held was given back."""
        self._children.pop(pid, None)
        self._tell(f"gone {pid}")

    def keep(self) -> None:
        """Start another guardian if this one has died, or does not listen."""
        if self._popen.poll() is None and not self._unheard:
            return
        if time.monotonic() >= self._started + RESTART_INTERVAL:
            log.warning("the guardian has died; starting another one", guardian=self._popen.pid)
            self._dismiss()
            try:
                self._start()
            except OSError as error:
                log.error("could not start a guardian yet", error=str(error))

    def end(self, *, in_order: bool) -> None:
        """The supervisor ends. Unless `in_order`, the guardian does what it is there for."""
        if in_order:
            self._tell("end")
            try:
                self._popen.wait(LAST_WORD)
            except subprocess.TimeoutExpired:
                self._dismiss()
        self._hang_up()

    def _start(self) -> None:
        self._started = time.monotonic()
        self._unheard = True
        reading, self._writing = os.pipe()
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__, str(reading), *_AFTERMATH],
                stdin=subprocess.DEVNULL,
                pass_fds=(reading,),
                # A process group of its own: what is sent to the supervisor's does not reach it.
                process_group=0,
            )
        finally:
            os.close(reading)
        os.set_blocking(self._writing, False)
        self._unheard = False
        log.info("guardian started", guardian=self._popen.pid)
        for line in (self._settings, *self._children.values()):
            self._tell(line)

    def _tell(self, line: str) -> None:
        if self._unheard:
            return
        try:
            os.write(self._writing, f"{line}\n".encode())
        except OSError:
            # It has ended, or is frozen; `keep` starts another one. Until then the pipe stays open: a frozen one that
            # wakes must not take this for the supervisor's end.
            self._unheard = True

    def _hang_up(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    def _dismiss(self) -> None:
        """It must not act on what it was told: this supervisor lives."""
        self._popen.kill()
        self._popen.wait()
        self._hang_up()
