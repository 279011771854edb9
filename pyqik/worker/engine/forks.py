"""Jobs that fork: the forked process is no worker, so where the job's code ends in it, it ends.

Otherwise it would go on as a job thread, with jobs that are on record nowhere, and write on its parent's board.
"""

from __future__ import annotations

import os
import sys
import traceback

_forked = False


def end_if_forked() -> None:
    """End this process, as Python would, if a job has forked it; called where the job's code has returned or raised."""
    if not _forked:
        return
    error = sys.exc_info()[1]
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # There is none, or nobody reads it.
    os._exit(status)


def _note() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_note)
