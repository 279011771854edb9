"""Fields that Sidekiq Pro, Enterprise and gems write into payloads, where ignoring them in silence would do harm.

All other fields that pyqik does not know are just kept; README.md has the table.
"""

from __future__ import annotations

import threading

import structlog

from pyqik.core.errors import WrongArguments
from pyqik.wire.payload import Payload

log = structlog.get_logger("pyqik")

_lock = threading.Lock()
_warned: set[str] = set()


def heed_foreign_fields(payload: Payload) -> None:
    """Warn, once for each class, of a batch that will not hear of its job.

    Raises: WrongArguments if Sidekiq Enterprise has encrypted an argument: the job would run with the cipher text.
    """
    if payload.get("encrypt") is True:
        raise WrongArguments(
            f"{payload.job_class}: its last argument is encrypted by Sidekiq Enterprise (encrypt: true), "
            f"which only Ruby can read; push it from Ruby without that option"
        )
    if payload.get("bid") is not None and _is_new(payload.job_class):
        log.warning(
            "a job of a batch: pyqik does not tell its batch that it has run, so the batch never completes",
            **{"class": payload.job_class, "bid": payload["bid"]},
        )


def _is_new(name: str) -> bool:
    with _lock:
        new = name not in _warned
        _warned.add(name)
    return new
