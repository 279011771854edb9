"""Custody in Redis: where the suspects of a crash wait to run alone, and how often a job has crashed its process.

A custody looks like a process that has an identity, a lease and landing lists. So whoever recovers processes gives back
what waits in it, too, should the supervisor whose custody it is be gone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Final

import redis

from pyqik.wire import keys
from pyqik.wire.broker import DeadLimits, Place, UnitOfWork, recover
from pyqik.wire.connection import Script
from pyqik.wire.presence import Running

BIND: Final = Script("bind")
CHARGE: Final = Script("charge")
DETAIN: Final = Script("detain")
TEND: Final = Script("tend")

#: Crashes that are too many, and the seconds for which one counts.
CRASH_LIMIT: Final = 3
CRASH_WINDOW: Final = 72 * 3600
#: The fields of `it-<jid>` of which another value means progress: a job that gets on is worth another start.
PROGRESS_FIELDS: Final = ("c", "loops")

#: The take number in the tokens of units that had none when their process died: larger than that of any take.
_LANDED: Final = 2**53 - 1


class Custody:
    """The custody of one supervisor, used by one thread. Every method raises redis.RedisError, and may be repeated."""

    def __init__(self, client: redis.Redis, identity: str, lease: float, limits: DeadLimits) -> None:
        self.identity = identity
        self._client = client
        self.lease = lease
        self._limits = limits
        self._in_flight = keys.in_flight(identity)
        self._lists = keys.landings(identity)

    def suspects(self, process: str, tokens: Collection[bytes], unnamed: int) -> list[UnitOfWork]:
        """The units of the dead `process` that were running, the oldest first: those that it held under `tokens`, and
        what may have been any of its `unnamed` ones, which had not heard of their tokens.
        """
        wanted = set(tokens)
        if unnamed:
            landed, last_taken = BIND.run(self._client, (keys.in_flight(process),), (keys.landings(process), _LANDED))
            wanted.update(landed)
            if len(landed) < unnamed:
                # Some had their tokens in Redis already: the take that gave them is the last one.
                wanted.update(last_taken)
        units = self.held(process, list(wanted))
        return sorted(units, key=lambda unit: unit.order)

    def held(self, process: str, tokens: Sequence[bytes]) -> list[UnitOfWork]:
        """The units that a process, alive or dead, holds under `tokens`."""
        if not tokens:
            return []
        records: list[bytes | None] = self._client.execute_command("HMGET", keys.in_flight(process), *tokens)
        found = []
        for token, record in zip(tokens, records, strict=True):
            if record is not None:
                queue, _, raw = record.partition(b"\n")
                found.append(UnitOfWork(token, queue.decode(), raw))
        return found

    def unit_of(self, process: str, running: Running) -> UnitOfWork | None:
        """The unit that the living `process` runs there. One that has not heard of its token yet, as C code holds the
        GIL, is what the last heartbeat shows; None if none has come since.
        """
        if running.token:
            return next(iter(self.held(process, [running.token])), None)
        entry: bytes | None = self._client.execute_command("HGET", keys.work(process), running.tid)
        try:
            shown = json.loads(entry or b"{}")
            return UnitOfWork(b"", shown["queue"], shown["payload"].encode())
        except (ValueError, LookupError, TypeError, AttributeError):
            return None  # Nothing, or not what a heartbeat writes.

    def charge(self, process: str, unit: UnitOfWork, job: str, dead: Place) -> int:
        """Charge the crash of `process` to `unit`, a run of the job with the jid `job`; how many now count.

        At the `CRASH_LIMIT`th the unit is moved to `dead`. 0 if the process does not hold it any more.
        """
        return int(
            CHARGE.run(
                self._client,
                (keys.in_flight(process), keys.crashes(job), keys.iteration(job), keys.DEAD),
                (
                    *(unit.token, f"{process} {unit.token.decode()}", CRASH_WINDOW, CRASH_LIMIT),
                    *(dead.score, dead.payload, dead.score - self._limits.max_age, self._limits.most_entries),
                    *PROGRESS_FIELDS,
                ),
            )
        )

    def has_died(self, dead: Place) -> bool:
        """Whether `charge` has moved a unit to `dead`."""
        return self._client.zscore(keys.DEAD, dead.payload) is not None

    def detain(self, process: str, units: Sequence[UnitOfWork]) -> int:
        """Take `units` out of the record of the dead `process`, into this custody; how many were there."""
        return int(
            DETAIN.run(
                self._client,
                (keys.in_flight(process), self._in_flight, keys.LEASES),
                (self.identity, self._lists, self.lease, *[unit.token for unit in units]),
            )
        )

    def tend(self) -> int:
        """Renew the lease while anything waits here; how many units wait."""
        return int(TEND.run(self._client, (self._in_flight, keys.LEASES), (self.identity, self._lists, self.lease)))

    def release(self) -> int:
        """Give everything back to the front of its queue; how many units."""
        count = recover(self._client, self.identity)
        self.tend()
        return count


def dead_entries_at(client: redis.Redis, score: float) -> list[bytes]:
    """The entries of the dead set that died at `score`. Raises: redis.RedisError."""
    entries: list[bytes] = client.execute_command("ZRANGEBYSCORE", keys.DEAD, repr(score), repr(score))
    return entries
