"""How a process is named, and what Sidekiq's Web UI shows of it that does not change."""

from __future__ import annotations

import os
import platform
import secrets
import socket
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from pyqik.core.config import Config
from pyqik.wire.presence import CapsuleInfo, ProcessInfo

VERSION: Final = f"pyqik {metadata.version('pyqik')} (Python {platform.python_version()})"


def make_identity(pid: int) -> str:
    """`<hostname>:<pid>:<12 hex digits>`, as Sidekiq's processes are named (component.rb)."""
    return f"{_hostname()}:{pid}:{secrets.token_hex(6)}"


def process_info(config: Config, identity: str, pid: int, started_at: float, *, embedded: bool = False) -> ProcessInfo:
    """What the Web UI shows of a process that runs with `config`."""
    return ProcessInfo(
        identity=identity,
        hostname=_hostname(),
        pid=pid,
        started_at=started_at,
        concurrency=config.total_concurrency,
        capsules=[
            CapsuleInfo(each.name, each.concurrency, each.queue_mode, each.weights) for each in config.all_capsules
        ],
        tag=config.tag or _directory(),
        labels=list(config.labels),
        version=VERSION,
        embedded=embedded,
    )


@cache
def _directory() -> str:
    """The name of the working directory, which a deploy may have removed by the time of a later heartbeat."""
    try:
        return Path.cwd().name
    except OSError:
        return ""


def _hostname() -> str:
    return os.environ.get("DYNO") or socket.gethostname()
