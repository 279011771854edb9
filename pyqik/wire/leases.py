"""Leases: until when each process counts as alive, on Redis's own clock. A sorted set, identity → epoch seconds.

Heartbeats renew them (`presence.beat`), the first take of a process writes its first one. Here they are read, and a
process whose lease has ended is declared dead. Who may do that, and when, is decided in `worker.upkeep.rescue`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.exceptions import RedisError

from pyqik.wire import keys
from pyqik.wire.connection import Call, Line, Script

LOOK: Final = Script("look")
DECLARE_DEAD: Final = Script("declare_dead")


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the leases shows: Redis's time, the server's `run_id` (empty if it does not tell), and the end of
    each lease that has ended or soon will. Times are epoch seconds.
    """

    now: float
    run_id: str
    ends: Mapping[str, float]


class Verdict(enum.Enum):
    """What came of declaring a process dead."""

    #: It was heard of in the last moment, or has been cleared away.
    NOT_SO = 0
    DEAD = 1
    #: Somebody else had declared it dead.
    DEAD_ALREADY = 2


class Leases:
    """One connection, used by one thread. It never breaks unnoticed: whatever goes wrong is raised and closes it."""

    def __init__(self, client: redis.Redis) -> None:
        self._line = Line(client)

    def look(self, ahead: float) -> Look:
        """The leases that have ended or will within `ahead` seconds, in one round trip.

        Raises: redis.RedisError, also where Redis would refuse a heartbeat.
        """
        reply, info = self._run(LOOK.call((keys.LEASES,), (ahead,)), Call(("INFO", "server")))
        now, *flat = reply
        ends = {flat[i].decode("utf-8", "replace"): float(flat[i + 1]) for i in range(0, len(flat), 2)}
        return Look(float(now), _run_id(info), ends)

    def declare_dead(self, identity: str, end: float) -> Verdict:
        """Declare `identity` dead if its lease still ends at `end`, and that is past. Raises: redis.RedisError."""
        names = (keys.LEASES, keys.in_flight(identity))
        (reply,) = self._run(DECLARE_DEAD.call(names, (identity, repr(end))))
        return Verdict(reply)

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self._line.close()

    def _run(self, *calls: Call) -> list[Any]:
        """The replies to a script and to what follows it; only the script's must be no error."""
        try:
            replies = self._line.run(*calls)
            if isinstance(replies[0], RedisError):
                raise replies[0]
        except BaseException:
            self._line.close()
            raise
        return replies


def _run_id(info: object) -> str:
    """From the reply to `INFO server`, which may be an error: an ACL may forbid it."""
    if not isinstance(info, bytes):
        return ""
    lines = [line for line in info.decode("utf-8", "replace").splitlines() if line.startswith("run_id:")]
    return lines[0].removeprefix("run_id:") if lines else ""
