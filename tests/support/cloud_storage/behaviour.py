"""What a test may ask of the fake."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.cloud_storage.faults import FaultFunction


@dataclass(eq=False)
class Behaviour:
    """Each counts from the next request on."""

    #: Asked before each operation, in the thread of its connection; it may also change objects.
    fault: FaultFunction = lambda operation: None
    #: What stands behind "Bearer" in each request, or it is answered with 401.
    token: str | None = None
    #: Whether a second write to the same name within one second is refused, as Cloud Storage does.
    one_write_a_second: bool = False
    #: Says what second it is, for that.
    clock: Callable[[], float] = time.monotonic
    #: Objects of a list that are given at once, at most.
    page_size: int = 1000
    #: Bytes that one request rewrites, at most; None: as many as there are.
    rewrite_chunk: int | None = None
    #: Bytes a second, of each connection; None: as fast as it goes.
    bandwidth: float | None = None
    #: Seconds before each answer.
    latency: float = 0.0
