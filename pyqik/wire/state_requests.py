"""What a running long job asks of Redis: to open its state, to write it and the hashes beside it, to read one of these.

Hashes beside the state are for what may be large: they are written with it, in one command, by the run that owns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pyqik.wire.connection import Script

STATE: Final = Script("iteration", using="hashes")

#: Seconds for which a state is kept after it was last written: 30 days, as in Sidekiq.
STATE_TTL: Final = 2_592_000

#: Seconds for which a stop of a process counts as part of a deploy that may still be going on.
DEPLOY: Final = 600

Fields = list[tuple[str, bytes]]
Words = list[str | bytes | int]


@dataclass(frozen=True, slots=True)
class HashWrite:
    """What is written of the hash `key`; an empty value removes its field. `kept` are the seconds for which the hash is
    kept from now on; 0 removes it.
    """

    key: str
    fields: Sequence[tuple[str, bytes]] = ()
    kept: int = STATE_TTL


#: The writes of one command: that of the state, then those of the hashes beside it.
Writes = Sequence[HashWrite]


def words_of(writes: Writes) -> Words:
    """What the scripts read of `writes`."""
    words: Words = []
    for write in writes:
        words += (write.key, write.kept, len(write.fields))
        for pair in write.fields:
            words += pair
    return words


@dataclass(frozen=True, slots=True)
class Open:
    """Read all of the state, and own it from now on."""

    verb = "open"

    def words(self) -> Words:
        """What the script reads of it."""
        return []


@dataclass(frozen=True, slots=True)
class Save:
    """Write the state, and hashes beside it."""

    writes: Writes
    verb = "save"

    def words(self) -> Words:
        """What the script reads of it."""
        return words_of(self.writes)


@dataclass(frozen=True, slots=True)
class Read:
    """Read a part of a hash beside the state, from `position` on."""

    key: str
    position: bytes = b"0"
    verb = "read"

    def words(self) -> Words:
        """What the script reads of it."""
        return [self.key, self.position]


Question = Open | Save | Read


class StateRequest(Protocol):
    """What the job in hand `token` asks of the state at `key`."""

    @property
    def token(self) -> bytes:
        """The take token of the job's unit of work."""
        ...

    @property
    def key(self) -> str:
        """The key of the state."""
        ...

    @property
    def question(self) -> Question:
        """What it asks."""
        ...


@dataclass(frozen=True, slots=True)
class StateReply:
    """The answer to a request.

    `verdict` is "ok"; "lost", as the job or its state is another run's now; "later", as a younger process should have
    the job; or "broken", for which `why` is the reason. `fields` are those of a state that was opened or of a hash that
    was read, which goes on at `position` unless that is "0"; `cancelled` says whether somebody has cancelled the job.
    """

    verdict: str
    fields: Mapping[bytes, bytes] = field(default_factory=dict)
    cancelled: bool = False
    why: str = ""
    position: bytes = b"0"

    @classmethod
    def read(cls, reply: Sequence[Any]) -> StateReply:
        """Read one reply of `iteration.lua`."""
        verdict = reply[0].decode()
        if verdict == "broken":
            return cls(verdict, why=reply[1].decode("utf-8", "replace"))
        if verdict == "ok" and isinstance(reply[1], list):
            fields = dict(zip(reply[1][::2], reply[1][1::2], strict=True))
            return cls(verdict, fields, position=reply[2] if len(reply) > 2 else b"0")
        return cls(verdict, cancelled=verdict == "ok" and reply[1] != b"")


def state_arguments(identity: str, requests: Sequence[StateRequest]) -> list[str | bytes | int | float]:
    """The arguments of the script for these requests of the process `identity`."""
    arguments: list[str | bytes | int | float] = [identity, STATE_TTL, DEPLOY]
    for request in requests:
        words = request.question.words()
        arguments += (request.token, request.key, request.question.verb, len(words), *words)
    return arguments
