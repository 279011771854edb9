"""The processes of all languages and what they run, as their heartbeats tell it: the reading side of `presence`.

Source: sidekiq/api.rb and sidekiq/launcher.rb at 6.4, 7.3 and 8.1; each writes its processes down a little differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import redis

from pyqik.core.errors import PyqikError
from pyqik.wire import keys
from pyqik.wire.job_record import JobRecord
from pyqik.wire.presence import send_signal
from pyqik.wire.replies import real, text, whole

_FIELDS: Final = ("info", "concurrency", "busy", "beat", "quiet", "rss", "rtt_us")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process, of Ruby or Python, as its last heartbeat (10 seconds ago at most, 5 before Sidekiq 7) told."""

    identity: str
    """`host:pid:random`."""
    hostname: str
    pid: int
    tag: str
    labels: Sequence[str]
    version: str
    """Sidekiq's or pyqik's; empty before Sidekiq 7.0.2."""
    queues: Sequence[str]
    weights: Mapping[str, int]
    """Queue → weight, 0 in strict order; empty before Sidekiq 7.0.2."""
    capsules: Mapping[str, Mapping[str, Any]]
    """Name → `concurrency`, `mode` and `weights`; empty before Sidekiq 8.0.9."""
    concurrency: int
    """Threads."""
    busy: int
    """Jobs that run."""
    stopping: bool
    """Whether it is quiet: it takes no more jobs, as it was told to quiet or stop."""
    embedded: bool
    """Whether it lives in a program of somebody else's, so that it cannot be quieted or stopped from here."""
    started_at: float
    """Epoch seconds."""
    beat: float
    """When it was heard of last, in epoch seconds."""
    rss: int
    """Memory in kilobytes."""
    rtt_us: int
    """Microseconds of its last round trip to Redis."""
    _client: redis.Redis = field(repr=False, compare=False)

    def quiet(self) -> None:
        """Have it take no more jobs, within some 10 seconds. Raises: PyqikError if it is embedded; redis.RedisError."""
        self._refuse_if_embedded("quieted")
        send_signal(self._client, self.identity, "TSTP")

    def stop(self) -> None:
        """Have it stop, within some 10 seconds. Raises: PyqikError if it is embedded; redis.RedisError."""
        self._refuse_if_embedded("stopped")
        send_signal(self._client, self.identity, "TERM")

    def dump_threads(self) -> None:
        """Have it log the stacks of its threads, within some 10 seconds. Raises: redis.RedisError."""
        send_signal(self._client, self.identity, "TTIN")

    def _refuse_if_embedded(self, done: str) -> None:
        if self.embedded:
            raise PyqikError(f"{self.identity} is embedded in another program and can only be {done} from there")


@dataclass(frozen=True, slots=True)
class Work:
    """A job that runs."""

    process_id: str
    """The identity of its process."""
    thread_id: str
    queue: str
    run_at: float
    """When it started, in epoch seconds."""
    job: JobRecord


class Processes:
    """The registered processes, read over `client`. Raises: redis.RedisError, everywhere."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    @property
    def size(self) -> int:
        """How many are registered. One that was killed may count for a minute or more; the iteration leaves it out."""
        return int(self._client.scard(keys.PROCESSES))

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Process]:
        """The living ones, by identity; two round trips."""
        identities = _identities(self._client)
        with self._client.pipeline(transaction=False) as pipe:
            for identity in identities:
                pipe.hmget(identity, _FIELDS)
            replies = pipe.execute()
        for identity, reply in zip(identities, replies, strict=True):
            # The hash of a process that died expires before somebody takes it off the list.
            if reply[0] is not None:
                yield _process(self._client, identity, reply)

    def find_process(self, identity: str) -> Process | None:
        """The living process of that identity, or None; one round trip."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.sismember(keys.PROCESSES, identity)
            pipe.hmget(identity, _FIELDS)
            registered, reply = pipe.execute()
        return _process(self._client, identity, reply) if registered and reply[0] is not None else None

    @property
    def total_concurrency(self) -> int:
        """The threads of all of them."""
        return sum(process.concurrency for process in self)

    @property
    def total_rss(self) -> int:
        """The memory of all of them, in kilobytes."""
        return sum(process.rss for process in self)

    @property
    def leader(self) -> str:
        """The identity of Sidekiq Enterprise's leader; empty without it."""
        leader: Any = self._client.get(keys.LEADER)
        return text(leader or b"")


class RunningWork:
    """The jobs that run, read over `client`, as the last heartbeats told. Raises: redis.RedisError, everywhere."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    @property
    def size(self) -> int:
        """How many run."""
        return sum(process.busy for process in Processes(self._client))

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Work]:
        """Each of them, the longest-running first; two round trips."""
        identities = _identities(self._client)
        with self._client.pipeline(transaction=False) as pipe:
            for identity in identities:
                pipe.hgetall(keys.work(identity))
                pipe.hgetall(keys.workers(identity))
            replies = pipe.execute()
        # Sidekiq up to 6.4.1 writes the second hash alone; pyqik writes both.
        of_process = [work or workers for work, workers in zip(replies[::2], replies[1::2], strict=True)]
        found = [
            _work(identity, text(thread), entry)
            for identity, entries in zip(identities, of_process, strict=True)
            for thread, entry in entries.items()
        ]
        return iter(sorted(found, key=lambda work: work.run_at))

    def find_work(self, jid: str) -> Work | None:
        """The one that runs the job with that jid, or None. It reads them all."""
        return next((work for work in self if work.job.jid == jid), None)


def _identities(client: redis.Redis) -> list[str]:
    return sorted({text(identity) for identity in client.sscan_iter(keys.PROCESSES, count=1000)})


def _process(client: redis.Redis, identity: str, reply: Sequence[bytes | None]) -> Process:
    info_text, concurrency, busy, beat, quiet, rss, rtt_us = reply
    info = _object(info_text)
    capsules = {name: capsule for name, capsule in _mapping(info.get("capsules")).items() if isinstance(capsule, dict)}
    weights = _weights(info, capsules)
    queues = list(weights) if capsules else info.get("queues")
    return Process(
        identity=identity,
        hostname=str(info.get("hostname") or identity.partition(":")[0]),
        pid=_number(info.get("pid")),
        tag=str(info.get("tag") or ""),
        labels=_texts(info.get("labels")),
        version=str(info.get("version") or ""),
        queues=_texts(queues),
        weights=weights,
        capsules=capsules,
        # In the hash since 8.1.2, in the info before.
        concurrency=whole(concurrency) or _number(info.get("concurrency")),
        busy=whole(busy),
        stopping=quiet == b"true",
        embedded=bool(info.get("embedded")),
        started_at=float(_number(info.get("started_at"))),
        beat=real(beat),
        rss=whole(rss),
        rtt_us=whole(rtt_us),
        _client=client,
    )


def _weights(info: Mapping[str, Any], capsules: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """One object for each capsule: inside the capsules since 8.0.9, in a list since 7.0.3, alone in 7.0.2."""
    told = info.get("weights")
    parts = [capsule.get("weights") for capsule in capsules.values()] or (told if isinstance(told, list) else [told])
    return {queue: _number(weight) for part in parts for queue, weight in _mapping(part).items()}


def _work(identity: str, thread: str, entry: bytes) -> Work:
    fields = _object(entry)
    payload = fields.get("payload")
    # Since Sidekiq 6 a text inside the text; readers of its own accept an object, too.
    raw = payload.encode("utf-8", "replace") if isinstance(payload, str) else msgspec.json.encode(payload)
    queue = str(fields.get("queue") or "")
    return Work(identity, thread, queue, float(_number(fields.get("run_at"))), JobRecord(raw, queue or None))


def _object(reply: bytes | None) -> dict[str, Any]:
    try:
        return _mapping(msgspec.json.decode(reply or b"{}"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _number(value: object) -> Any:
    return value if isinstance(value, (int, float)) else 0
