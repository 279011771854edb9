"""A file without a name, in memory where the system has such, that a process shares with a child it starts."""

from __future__ import annotations

import os
import tempfile
from typing import IO


def open_shared_file(name: str) -> IO[bytes]:
    """Open one, unbuffered; `name` is for whoever looks into /proc. Its descriptor is what the child is given."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create(name), "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
