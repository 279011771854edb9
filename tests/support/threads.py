"""Finding the threads that a test left behind."""

from __future__ import annotations

import threading


def leaked_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """The live threads not in `before` that would keep the interpreter alive, and every one of pyqik's."""
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.is_alive() and (not thread.daemon or thread.name.startswith("pyqik"))
    ]
