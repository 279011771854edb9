"""The state of a long job, `it-<jid>`: where it is, in the fields that Sidekiq reads and writes, and pyqik's own.

Source: sidekiq/job/iterable.rb at 7.3 and 8.1. `ex` counts starts, `c` is the cursor of the item that comes next, `rt`
the seconds that ended runs took, `cancelled` when somebody cancelled the job (epoch seconds). pyqik adds `owner`, the
run that may write; `loops`, what `c` cannot say; `counters`; `items`, how many it has done; `stops`, when it was
interrupted lately; and `beside`, the keys of further hashes that belong to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import redis
import redis.asyncio

from pyqik.core.errors import InvalidCursor, InvalidJob
from pyqik.wire import keys
from pyqik.wire.payload import check_json
from pyqik.wire.replies import real, whole
from pyqik.wire.state_requests import STATE_TTL, Fields

#: The loop without a name, whose cursor Sidekiq reads.
UNNAMED: Final = ""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Loop:
    """Where one loop or step of a job is. `cursor` is its JSON text; None before its first item."""

    cursor: bytes | None = None
    #: It has come to its end.
    done: bool = False
    #: The item at the cursor is done; the next one was not known yet.
    behind: bool = False
    #: What the author's code said that its cursors mean.
    version: int = 0
    #: What the source said beside the cursor.
    bookmark: Any = None


@dataclass(slots=True)
class State:
    """A state as it was read, or as it is to be written."""

    #: Starts before this one.
    executions: int = 0
    #: Seconds that earlier runs took.
    runtime: float = 0.0
    #: Epoch seconds; 0 if nobody has cancelled the job.
    cancelled: int = 0
    loops: dict[str, Loop] = field(default_factory=dict)
    counters: dict[str, int | float] = field(default_factory=dict)
    #: When a process that stopped interrupted it (epoch seconds); the recent ones, the oldest first.
    stops: list[float] = field(default_factory=list)
    #: Items that all of its runs have done.
    items: int = 0
    #: The hashes beside it, and for how many seconds each is kept after the job's end (0: not at all).
    beside: dict[str, int] = field(default_factory=dict)


def read_state(fields: Mapping[bytes, bytes], key: str) -> State:
    """The state that a hash holds; one that holds nothing but `cancelled`, as Ruby leaves it, is fresh.

    Raises: InvalidCursor naming `key` if somebody has written there what is no state.
    """
    state = State(whole(fields.get(b"ex")), real(fields.get(b"rt")), whole(fields.get(b"cancelled")))
    try:
        state.loops = _read_loops(fields.get(b"loops"))
        state.counters = _read_counters(fields.get(b"counters"))
        state.stops = [float(at) for at in _json(fields.get(b"stops")) or []]
        state.items = whole(fields.get(b"items"))
        state.beside = _read_beside(fields.get(b"beside"), key.removeprefix("it-"))
        cursor = fields.get(b"c", b"null")
        _decode(cursor)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidCursor(
            f"{key} holds no state of a job: {error}; remove that key to begin from the start"
        ) from None
    if all(name == UNNAMED for name in state.loops):
        _hear_sidekiq(state, None if cursor == b"null" else cursor)
    return state


def _hear_sidekiq(state: State, cursor: bytes | None) -> None:
    """`c` says where the unnamed loop is: a Ruby process may have moved it since pyqik wrote what it knows beside."""
    known = state.loops.get(UNNAMED)
    if known is not None and not _same(known.cursor, cursor):
        state.loops[UNNAMED] = Loop(cursor, version=known.version, bookmark=known.bookmark)
    elif known is None and cursor is not None:
        state.loops[UNNAMED] = Loop(cursor)


def write_state(state: State, latest: str) -> Fields:
    """The fields of `state`; an empty value stands for a field that goes. `latest` is the loop that is shown."""
    loops = state.loops
    alone = all(name == UNNAMED for name in loops)
    unnamed = loops.get(UNNAMED)
    if alone:
        cursor = (unnamed.cursor if unnamed else None) or b"null"
    else:
        # Only to be looked at: `loops` says where each of them is.
        shown = loops.get(latest)
        cursor = _encode({latest.rstrip("/"): msgspec.Raw((shown.cursor if shown else None) or b"null")})
    plain = alone and (unnamed is None or unnamed == Loop(unnamed.cursor))
    return [
        ("ex", b"%d" % state.executions),
        ("c", cursor),
        ("rt", repr(state.runtime).encode()),
        ("loops", b"" if plain else _encode({name: _plain(loop) for name, loop in loops.items()})),
        ("counters", _encode(state.counters) if state.counters else b""),
        ("stops", _encode(state.stops) if state.stops else b""),
        ("items", b"%d" % state.items if state.items else b""),
        ("beside", _encode(state.beside) if state.beside else b""),
    ]


def encode_cursor(cursor: Any, what: str) -> bytes:
    """The JSON text of a cursor. Raises: InvalidCursor if it would not come back as it was."""
    if type(cursor) is int:
        return b"%d" % cursor
    if cursor is None:
        raise InvalidCursor(f"the cursor of {what} is None, which stands for the beginning; give each item one")
    try:
        check_json(cursor, f"the cursor of {what}")
    except InvalidJob as error:
        raise InvalidCursor(f"{error}, or give a codec, such as pyqik.enumerators.DATE") from None
    return _encode(cursor)


def decode_cursor(text: bytes) -> Any:
    """The cursor that stands in a state, which `read_state` has found readable."""
    return _decode(text)


def cancel(client: redis.Redis, jid: str) -> int:
    """Have the job end at its next item, or when it starts; since when that is asked (epoch seconds).

    The other three fields are for Ruby, which fails on a hash without them. Raises: redis.RedisError.
    """
    with client.pipeline(transaction=True) as pipe:
        _cancel(pipe, jid)
        return whole(pipe.execute()[1])


async def cancel_async(client: redis.asyncio.Redis, jid: str) -> int:
    """The same, for asyncio."""
    async with client.pipeline(transaction=True) as pipe:
        _cancel(pipe, jid)
        return whole((await pipe.execute())[1])


def _cancel(pipe: Any, jid: str) -> None:  # Any: the two kinds of pipelines have no type in common
    key = keys.iteration(jid)
    pipe.hsetnx(key, "cancelled", int(time.time()))
    pipe.hget(key, "cancelled")
    for name, value in (("ex", "0"), ("c", "null"), ("rt", "0")):
        pipe.hsetnx(key, name, value)
    pipe.expire(key, STATE_TTL)


def _read_loops(text: bytes | None) -> dict[str, Loop]:
    loops = {}
    for name, entry in _object(text).items():
        cursor = entry.get("cursor")
        loops[name] = Loop(
            None if cursor is None else _encode(cursor),
            entry.get("done") is True,
            entry.get("behind") is True,
            whole(str(entry.get("version", 0)).encode()),
            entry.get("bookmark"),
        )
    return loops


def _read_counters(text: bytes | None) -> dict[str, int | float]:
    counters = _object(text)
    for name, value in counters.items():
        if type(value) not in (int, float):
            raise TypeError(f"the counter {name!r} is no number")
    return counters


def _read_beside(text: bytes | None, jid: str) -> dict[str, int]:
    beside = _object(text)
    for key, kept in beside.items():
        # What is not the job's own would be removed with it.
        if not (key.startswith(f"{jid}/") or key.endswith(f"/{jid}")):
            raise ValueError(f"{key!r} does not belong to the job")
        if type(kept) is not int or not 0 <= kept <= STATE_TTL:
            raise TypeError(f"{key!r} is to be kept for {kept!r}")
    return beside


def _plain(loop: Loop) -> dict[str, Any]:
    """What is worth writing of a loop."""
    entry: dict[str, Any] = {"cursor": msgspec.Raw(loop.cursor or b"null")}
    marks: Iterable[tuple[str, Any]] = (
        ("done", loop.done),
        ("behind", loop.behind),
        ("version", loop.version),
        ("bookmark", loop.bookmark),
    )
    return entry | {name: value for name, value in marks if value}


def _same(ours: bytes | None, theirs: bytes | None) -> bool:
    return ours == theirs or (ours is not None and theirs is not None and _decode(ours) == _decode(theirs))


def _json(text: bytes | None) -> Any:
    return None if text is None else _decode(text)


def _object(text: bytes | None) -> dict[str, Any]:
    value = _json(text)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} where an object was expected")
    return value
