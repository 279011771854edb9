"""What the engine does with jobs in Redis: take them, settle them, give back those of a process that ended.

Each is one script and one round trip, and each may be repeated after a lost reply without losing or doubling a job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.exceptions import RedisError

from pyqik.core.errors import PyqikError
from pyqik.wire import keys
from pyqik.wire.connection import Call, Command, Line, Script
from pyqik.wire.state_requests import STATE, StateReply, StateRequest, Writes, state_arguments, words_of

TAKE: Final = Script("take")
SETTLE: Final = Script("settle", using="hashes")
RECOVER: Final = Script("recover")

#: Seconds after which a blocking move gives up on the server's side. It bounds how long a killed process can still be
#: handed a job, and what an idle process costs.
BLOCK: Final = 15.0

#: Seconds for which the record of an ended process refuses what that process may still have sent.
TOMBSTONE: Final = 86_400


class Superseded(PyqikError):
    """Somebody else gave this process's jobs back, taking it for dead: it must run none of them any more."""

    def __init__(self, identity: str) -> None:
        super().__init__(f"{identity} was declared dead and its jobs were given back")

    @staticmethod
    def check(error: RedisError, identity: str) -> None:
        """Raise it if that is what `error`, the answer of a script to the process `identity`, says."""
        if str(error).startswith("STALE"):
            raise Superseded(identity) from None


@dataclass(slots=True, eq=False)
class UnitOfWork:
    """A payload that this process holds. `token` names the take, as the same jid may exist twice.

    One that a blocking move has just landed has no token yet: it stands on the landing list, and gets its token from
    the next take. `slot` says where it runs, -1 as long as it does not.
    """

    token: bytes
    queue: str
    raw: bytes
    slot: int = -1

    @property
    def order(self) -> tuple[int, int]:
        """Sorts units by when they were taken, the oldest first. Only for those that have a token."""
        number, _, index = self.token.partition(b":")
        return int(number), int(index)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a unit of work goes when it leaves the in-flight record; and what is written of its state, if any."""

    verb: str
    key: str = ""
    score: float = 0.0
    payload: bytes = b""
    state: Writes = ()


GONE: Final = Place("drop")
#: The front of its own queue: it is the next to be taken. The bytes stay as they were.
FRONT: Final = Place("front")
#: The back of its own queue, behind everything that waits.
BACK: Final = Place("back")


@dataclass(frozen=True, slots=True)
class DeadLimits:
    """How much the dead set keeps: as in Sidekiq, one entry fewer than `most_entries`, for `max_age` seconds."""

    most_entries: int = 10_000
    max_age: float = 15_552_000.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What a take brought: the units, which of the asked queues are paused, and whether it was the answer to an
    earlier call that had got lost; and the answers to what was asked about states, in that order.
    """

    paused: tuple[str, ...] = ()
    units: Sequence[UnitOfWork] = ()
    repeated: bool = False
    states: Sequence[StateReply] = ()

    @classmethod
    def read(cls, reply: Any, states: Sequence[StateReply]) -> Taken:
        """Read the reply of `take.lua`."""
        paused, flat, repeated = reply
        parts = iter(flat)
        units = [UnitOfWork(token, queue.decode(), raw) for token, queue, raw in zip(parts, parts, parts, strict=True)]
        return cls(tuple(name.decode() for name in paused), units, repeated == b"1", states)


NOTHING: Final = Taken()
NONE_STARTED: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class Part:
    """A capsule's part of its process's in-flight record: it is the `number`th of `count` (from 0), and numbers its
    takes so that no two capsules use the same number.
    """

    capsule: str = "default"
    number: int = 0
    count: int = 1

    def holds(self, token: bytes) -> bool:
        """Whether a take of this capsule made `token`."""
        take, _, index = token.partition(b":")
        return index.isdigit() and int(take) % self.count == self.number


class Broker:
    """The in-flight record of one process, or a capsule's part of it, reached over one connection by one thread.

    With `custody`, the identity of one, units come from there instead of the queues. `lease`: seconds of the lease that
    the first take writes; 0 for a process without one.
    """

    def __init__(
        self,
        client: redis.Redis,
        identity: str,
        limits: DeadLimits,
        part: Part = Part(),
        *,
        lease: float = 0.0,
        custody: str = "",
    ) -> None:
        self.identity = identity
        #: Whether something that was settled last was not on record: it was settled before, or has been given back.
        self.refused = False
        self._lease = lease
        self._custody = custody
        self._part = part
        self._client = client
        self._limits = limits
        self._line = Line(client)
        self._in_flight = keys.in_flight(identity)
        self._settle_keys = (self._in_flight, keys.QUEUES, keys.DEAD)
        self._take_number = part.number
        self._take_unanswered = False

    def exchange(
        self,
        endings: Sequence[tuple[UnitOfWork, Place]],
        count: int,
        queues: Sequence[str],
        *,
        adopt: bool,
        now: float,
        started: Mapping[str, int] = NONE_STARTED,
        states: Sequence[StateRequest] = (),
    ) -> Taken:
        """Settle `endings`, read and write `states`, and take up to `count` units from `queues`, in that order, in one
        round trip.

        Of the jobs that blocking moves have landed, the oldest `started` ones of each queue come first, whatever the
        count. With `adopt` others follow, up to `count`, and the rest goes back to the front. After an error the same
        call may be repeated with the same or more endings: nothing happens twice.

        Raises: redis.RedisError, of which the connection errors leave open what has run; Superseded.
        """
        calls: list[Call] = []
        gone = [unit.token for unit, place in endings if place is GONE]
        moved = [(unit, place) for unit, place in endings if place is not GONE]
        if gone:
            calls.append(Call(("HDEL", self._in_flight, *gone)))
        if moved:
            calls.append(SETTLE.call(self._settle_keys, self._settle_arguments(moved, now)))
        if states:
            calls.append(STATE.call((self._in_flight, keys.LEASES), state_arguments(self.identity, states)))
        taking = bool(queues) and (count > 0 or adopt or bool(started) or self._take_unanswered)
        if taking:
            if not self._take_unanswered:
                self._take_number += self._part.count
                self._take_unanswered = True
            arguments: list[bytes | str | int | float] = [self._part.capsule, self._take_number, count, int(adopt)]
            arguments += (self.identity, self._lease)
            for queue in queues:
                arguments += (queue, started.get(queue, 0))
            calls.append(TAKE.call(self._take_keys(queues), arguments))
        if not calls:
            return NOTHING
        replies = self._run(calls)
        taken = replies.pop() if taking else None
        answers = [StateReply.read(reply) for reply in replies.pop()] if states else ()
        self.refused = sum(reply if isinstance(reply, int) else sum(reply) for reply in replies) < len(endings)
        if not taking:
            return Taken(states=answers) if states else NOTHING
        self._take_unanswered = False
        return Taken.read(taken, answers)

    def connect(self) -> None:
        """Open the connection, if it is closed, and teach the server the scripts. Raises: redis.RedisError.

        A script that the server does not know would run after those that were sent behind it: what goes back to the
        front would find that others have been taken before it.
        """
        if not self._line.connected:
            self._line.call(*[("SCRIPT", "LOAD", script.text) for script in (SETTLE, STATE, TAKE)])

    def probe(self) -> None:
        """Ask whether this process still counts as alive. Raises: redis.RedisError; Superseded if it does not."""
        if self._call("HEXISTS", self._in_flight, "ended"):
            raise Superseded(self.identity)
        self.refused = False

    def held(self) -> list[bytes]:
        """The tokens of every unit in its part of the record. Raises: redis.RedisError."""
        return [field for field in self._call("HKEYS", self._in_flight) if self._part.holds(field)]

    def unblock(self, waiters: Sequence[Waiter]) -> bool:
        """End the blocking moves of `waiters`; each then gets its reply, empty or not.

        False if the server refuses the command, as an ACL may have it. Raises: redis.RedisError.
        """
        if not all(waiter.client_id for waiter in waiters):
            return False
        replies = self._line.call(*[("CLIENT", "UNBLOCK", waiter.client_id) for waiter in waiters])
        return not any(isinstance(reply, RedisError) for reply in replies)

    def waiter(self, queue: str) -> Waiter:
        """A connection of its own that waits for a job of `queue`."""
        return Waiter(Line(self._client), queue, self._source(queue), self._landing(queue))

    @property
    def serves_custody(self) -> bool:
        """Whether units come from a custody. Nothing is moved into it by a process that takes from it: so no blocking
        move may land more than there is room for.
        """
        return bool(self._custody)

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self._line.close()

    def _call(self, *command: bytes | str | int | float) -> Any:
        return self._run([Call(command)])[0]

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        replies = self._line.run(*calls)
        for reply in replies:
            if isinstance(reply, RedisError):
                Superseded.check(reply, self.identity)
                raise reply
        return replies

    def _settle_arguments(self, moved: Sequence[tuple[UnitOfWork, Place]], now: float) -> Command:
        arguments: list[bytes | str | int | float] = [now - self._limits.max_age, self._limits.most_entries]
        arguments.append(self.identity)
        for unit, place in moved:
            words = words_of(place.state)
            arguments += (unit.token, place.verb, place.key, place.score, place.payload, len(words), *words)
        return arguments

    def _take_keys(self, queues: Sequence[str]) -> list[str]:
        names = [self._in_flight, keys.PAUSED]
        for queue in queues:
            names += (self._source(queue), self._landing(queue))
        return [*names, keys.LEASES]

    def _source(self, queue: str) -> str:
        return keys.custody(self._custody, queue) if self._custody else keys.queue(queue)

    def _landing(self, queue: str) -> str:
        return keys.landing(self.identity, self._part.capsule, queue)


class Waiter:
    """One connection that blocks on one queue. The job that wakes it stands on this process's landing list from the
    same instant; the next take adopts it from there.
    """

    def __init__(self, line: Line, queue: str, source: str, landing: str) -> None:
        self.queue = queue
        self.line = line
        self.armed = False
        self.armed_at = 0.0
        #: The server's number for this connection; 0 if it does not tell.
        self.client_id = 0
        self._command: Command = ("BLMOVE", source, landing, "RIGHT", "LEFT", BLOCK)

    def arm(self, now: float) -> int:
        """Start waiting; the descriptor to poll for the reply. Raises: redis.RedisError."""
        if not self.line.connected:
            self.line.connect()
            reply = self.line.call(("CLIENT", "ID"))[0]
            self.client_id = 0 if isinstance(reply, RedisError) else int(reply)
        self.line.send(self._command)
        self.armed, self.armed_at = True, now
        return self.line.fileno()

    def landed(self) -> UnitOfWork | None:
        """Read the reply; the job that has landed, if any, still without a token. Raises: redis.RedisError."""
        self.armed = False
        raw = self.line.receive()
        return None if raw is None else UnitOfWork(b"", self.queue, raw)

    def answered(self, timeout: float) -> bool:
        """Whether the reply is there, or comes within `timeout` seconds. Raises: redis.ConnectionError."""
        return self.line.readable(timeout)

    def close(self) -> None:
        """Close the connection."""
        self.armed = False
        self.line.close()


def recover(client: redis.Redis, identity: str) -> int:
    """Give back everything that the ended process `identity` held; how many units. Raises: redis.RedisError."""
    return int(RECOVER.run(client, (keys.in_flight(identity), keys.QUEUES), (keys.landings(identity), TOMBSTONE)))
