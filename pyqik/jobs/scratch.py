"""Where this process has the local files of its jobs. What processes that were killed have left there is removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Final

#: Held by a process as long as it lives, beside its directory: `name` and `name.lock`.
_LOCK: Final = ".lock"

_guard: Final = threading.Lock()
_mine: Path | None = None


def scratch_directory() -> Path:
    """A new directory, for one run. Raises: OSError."""
    global _mine
    with _guard:
        if _mine is None or not _mine.is_dir():
            _mine = _claim(Path(tempfile.gettempdir(), f"pyqik-files-{os.getuid()}"))
        return Path(tempfile.mkdtemp(dir=_mine))


def _claim(root: Path) -> Path:
    root.mkdir(mode=0o700, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise PermissionError(f"{root} belongs to another user; remove it, or set TMPDIR")
    _remove_abandoned(root)
    mine = Path(tempfile.mkdtemp(dir=root))
    # Never closed: the lock ends with the process, however that ends.
    lock = os.open(mine.with_name(mine.name + _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return mine


def _remove_abandoned(root: Path) -> None:
    for path in root.glob(f"*{_LOCK}"):
        try:
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.with_name(path.name.removesuffix(_LOCK)), ignore_errors=True)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # Its process lives.
        finally:
            os.close(lock)
