"""Moving due jobs from `retry` and `schedule` to their queues.

Source: sidekiq/scheduled.rb. Sidekiq pops and pushes in two steps, and a crash between them loses the job; here the
entry is read first, and one script moves it if it is still there. Neither Ruby's nor Python's client middleware runs.
"""

from __future__ import annotations

from typing import Final

import redis

from pyqik.core.errors import InvalidPayload
from pyqik.wire import keys
from pyqik.wire.connection import Script
from pyqik.wire.payload import dead_entry, decode, patch

PROMOTE: Final = Script("promote")
#: Entries that are moved in one round trip.
BATCH: Final = 100
#: The order in which Sidekiq looks at them.
SORTED_SETS: Final = (keys.RETRY, keys.SCHEDULE)


def promote(client: redis.Redis, sorted_set: str, now: float) -> tuple[int, int]:
    """Move up to `BATCH` entries of `sorted_set` that are due at `now`.

    Returns how many were due, and how many of these this call moved. What is not a job goes to the dead set.
    Raises: redis.RedisError; after a lost reply it may be called again.
    """
    due: list[bytes] = client.execute_command("ZRANGE", sorted_set, "-inf", _text(now), "BYSCORE", "LIMIT", 0, BATCH)
    if not due:
        return 0, 0
    arguments: list[bytes | str] = []
    for member in due:
        arguments += (member, *_destination(member, now))
    moved = PROMOTE.run(client, (sorted_set, keys.QUEUES, keys.DEAD), arguments)
    return len(due), int(moved)


def _destination(member: bytes, now: float) -> tuple[str, bytes, str]:
    """Queue, payload to push, and score for the dead set; an empty queue: the payload is for the dead set."""
    try:
        payload = decode(member)
    except InvalidPayload as error:
        return "", dead_entry(member, error, "default", now), _text(now)
    # Float seconds: the only form that Sidekiq 6, 7 and 8 all read.
    return payload.queue, patch(member, {"enqueued_at": now}), ""


def _text(moment: float) -> str:
    return repr(moment)
