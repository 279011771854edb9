"""Whether the files of jobs can be kept where the configuration says: known before a job is taken, not amid one."""

from __future__ import annotations

import errno
import threading
from typing import Final

import structlog

from pyqik.core.errors import StoreError
from pyqik.jobs.storage import ConfiguredStorage
from pyqik.stores.store import Refused, Store

log = structlog.get_logger("pyqik")

#: Seconds that the store has to answer.
PATIENCE: Final = 10.0

#: What a directory answers until somebody changes it.
_LASTING: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


def check_store(files: str) -> None:
    """Try the store `files`, if that names one. One that is merely away is logged: other jobs can run.

    Raises: StoreError if it will not be there before somebody changes something: a package, a permission, an address.
    """
    store = ConfiguredStorage(files).store
    if store is None:
        return
    failed: list[Exception] = []
    # A directory of a server that is away answers nothing, for as long as that is.
    thread = threading.Thread(target=_try, args=(store, failed), name="pyqik-store-check", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        log.warning("the store for files of jobs does not answer; going on", store=store.name, seconds=PATIENCE)
    for error in failed:
        if _lasts(error):
            raise error
        log.warning("the store for files of jobs is away; going on", store=store.name, error=str(error))


def _try(store: Store, failed: list[Exception]) -> None:
    try:
        store.check()
    except Exception as error:
        failed.append(error)


def _lasts(error: Exception) -> bool:
    cause = error.__cause__
    return isinstance(error, Refused) or (
        isinstance(error, StoreError) and isinstance(cause, OSError) and cause.errno in _LASTING
    )
