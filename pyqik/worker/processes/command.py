"""The command `pyqik work`, once its configuration has been read."""

from __future__ import annotations

import gc
import os

from pyqik.core.config import Config
from pyqik.worker import logs
from pyqik.worker.processes.embedded import EmbeddedServer
from pyqik.worker.processes.supervisor import Supervisor


def run(config: Config) -> int:
    """Run `pyqik work` until it is stopped; the exit status: 0 if every job was finished or given back."""
    _fill_closed_streams()
    logs.configure(config.log_level, config.log_format)
    server = EmbeddedServer() if config.embedded else None
    try:
        if server is not None:
            config = Config(redis=server.start()).over(config)
        return Supervisor(config).run()
    finally:
        if server is not None:
            server.stop()
        # Python looks for garbage once more as it ends, which on a busy machine takes a second that the stop has not.
        gc.freeze()


def _fill_closed_streams() -> None:
    """If whoever started this has closed stdin, stdout or stderr, a pipe or a socket would get its number, and children
    would print into that.
    """
    for fileno in range(3):
        try:
            os.fstat(fileno)
        except OSError:
            # It gets the lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
