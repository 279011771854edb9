"""How the block of a `with` is skipped, which Python has no word for: a step that is finished is not done again.

As the block begins, Python's tracing calls back, and what is raised there leaves it before its first instruction. A
debugger's or a coverage tool's own tracing is put back at once.
"""

from __future__ import annotations

import dis
import sys
from types import FrameType
from typing import Any, Final

from pyqik.core.errors import PyqikError

#: What of an `async with` still belongs to awaiting its `__aenter__`.
_AWAITING: Final = {
    dis.opmap[name]
    for name in ("SEND", "END_SEND", "YIELD_VALUE", "RESUME", "JUMP_BACKWARD_NO_INTERRUPT", "CACHE")
    if name in dis.opmap
}


class Skipped(BaseException):
    """Leaves a block that is not to be run; the context manager swallows it."""

    def __init__(self, frame: FrameType) -> None:
        super().__init__("this step is finished")
        self._before = (frame, frame.f_trace, frame.f_trace_opcodes, sys.gettrace())

    def restore_tracing(self) -> None:
        """Not before the block is left: Python ends all tracing when something is raised out of it."""
        frame, trace, opcodes, all_frames = self._before
        frame.f_trace, frame.f_trace_opcodes = trace, opcodes
        sys.settrace(all_frames)


def skip_block(frame: FrameType) -> Skipped:
    """Have the block of the `with` in `frame` be left before it begins, by the `Skipped` that this returns. Called last
    in `__enter__`; `__exit__` calls its `restore_tracing`, whether it has come or not.

    Raises: PyqikError if `frame` is not that of a `with` statement.
    """
    if frame.f_globals.get("__name__") == "contextlib":
        raise PyqikError(
            "a step is finished and its block must be skipped, which needs a `with pyqik.step(...)` of its own; "
            "an ExitStack cannot do it"
        )
    skipped, begins = Skipped(frame), frame.f_lasti

    def leave(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_lasti <= begins or frame.f_code.co_code[frame.f_lasti] in _AWAITING:
            return leave
        raise skipped

    frame.f_trace, frame.f_trace_opcodes = leave, True
    sys.settrace(_nothing)
    return skipped


def _nothing(frame: FrameType, event: str, argument: Any) -> None:
    """Tracing has to be on for a frame to be traced."""
