"""The warning about a call that blocks while an event loop runs in the same thread."""

from __future__ import annotations

import asyncio
import sys
import warnings
from pathlib import Path
from typing import Final

_HERE: Final = str(Path(__file__).parent)
_CLIENT: Final = str(Path(__file__).with_name("client.py"))


def warn_if_loop_runs(twin: str = "") -> None:
    """Warn, once for each place that calls, if the caller's thread runs an event loop; names the form to await instead:
    `twin`, or that of the function that the author called.

    It is called from whatever blocks; the outermost function of this package is what the author called.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    frame, called, file, level = sys._getframe(1), "", "", 2
    while frame.f_code.co_filename.startswith(_HERE) and frame.f_back is not None:
        called, file = frame.f_code.co_name, frame.f_code.co_filename
        frame, level = frame.f_back, level + 1
    twin = twin or (f"pyqik.AsyncClient.{called}" if file == _CLIENT else f"a{called}")
    warnings.warn(
        f"{called} blocks the event loop until Redis has answered; write `await {twin}(...)`",
        RuntimeWarning,
        stacklevel=level,
    )
