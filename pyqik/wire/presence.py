"""How a process is seen in Sidekiq's Web UI and API: its heartbeat, what it runs, its remote signals, deploy marks.

Source: sidekiq/launcher.rb `to_data` and `beat`, sidekiq/api.rb, sidekiq/deploy.rb at 6.4, 7.3 and 8.1. What is written
is the superset that every one of them shows correctly.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import redis
from redis.exceptions import ResponseError

from pyqik.wire import keys
from pyqik.wire.broker import Superseded
from pyqik.wire.connection import Script

BEAT: Final = Script("beat")
#: Seconds between heartbeats, and for which a process without one is still shown.
BEAT_INTERVAL: Final = 10.0
BEAT_TTL: Final = 60
#: Seconds for which one process cleans up dead ones on behalf of all.
CLEANUP_INTERVAL: Final = 60
#: Seconds that a day's deploy marks live, and for which a second process with the same label adds none.
MARKS_TTL: Final = 7_776_000
MARK_LOCK_TTL: Final = 60


@dataclass(frozen=True, slots=True)
class Running:
    """One running job: the slot that runs it, its unit's take token, and when it started (whole epoch seconds)."""

    tid: str
    token: bytes
    run_at: int


@dataclass(frozen=True, slots=True)
class CapsuleInfo:
    """Queues that share threads: `queues` maps names to weights, `mode` is strict, random or weighted."""

    name: str
    concurrency: int
    mode: str
    queues: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """What does not change while a process lives. `concurrency` is that of all capsules together."""

    identity: str
    hostname: str
    pid: int
    started_at: float
    concurrency: int
    capsules: Sequence[CapsuleInfo]
    tag: str
    labels: Sequence[str]
    version: str
    embedded: bool = False

    def to_json(self) -> str:
        """The `info` field. `embedded` hides the Web UI's Quiet and Stop buttons."""
        capsules = {
            each.name: {"concurrency": each.concurrency, "mode": each.mode, "weights": dict(each.queues)}
            for each in self.capsules
        }
        info: dict[str, Any] = {
            "hostname": self.hostname,
            "started_at": self.started_at,
            "pid": self.pid,
            "tag": self.tag,
            "concurrency": self.concurrency,
            "capsules": capsules,
            "queues": list(dict.fromkeys(name for each in self.capsules for name in each.queues)),
            "weights": [dict(each.queues) for each in self.capsules],
            "labels": list(self.labels),
            "identity": self.identity,
            "version": self.version,
            "embedded": self.embedded,
        }
        return json.dumps(info, ensure_ascii=False, separators=(",", ":"))


def beat(
    client: redis.Redis,
    info: ProcessInfo,
    running: Sequence[Running],
    *,
    now: float,
    quiet: bool,
    rss_kb: int,
    lease: float,
) -> str | None:
    """Write a heartbeat, and renew the lease; the remote signal that was waiting, if any: `TSTP`, `TERM` or `TTIN`.

    Raises: redis.RedisError; Superseded if the process was declared dead: it is then not shown again.
    """
    started = time.perf_counter()
    client.ping()
    rtt_us = int((time.perf_counter() - started) * 1_000_000)
    fields: list[str | int | float] = [
        *("info", info.to_json(), "busy", len(running), "beat", now, "rtt_us", rtt_us),
        *("quiet", "true" if quiet else "false", "rss", rss_kb, "concurrency", info.concurrency),
    ]
    arguments: list[bytes | str | int | float] = [
        *(info.identity, BEAT_TTL, lease, keys.landings(info.identity), len(fields)),
        *fields,
    ]
    for job in running:
        arguments += (job.tid, job.token, job.run_at)
    identity = info.identity
    names = (
        *(keys.PROCESSES, identity, keys.work(identity), keys.workers(identity), keys.signals(identity)),
        *(keys.in_flight(identity), keys.LEASES),
    )
    try:
        signal = BEAT.run(client, names, arguments)
    except ResponseError as error:
        Superseded.check(error, identity)
        raise
    return None if signal is None else signal.decode()


def leave(client: redis.Redis, identity: str, *, keep_lease: bool = False) -> None:
    """Unregister a process that has ended and holds nothing any more. Its hash expires by itself, as Sidekiq's.

    What may still hold a job must keep its lease, which is what others find it by. Raises: redis.RedisError.
    """
    with client.pipeline(transaction=True) as pipe:
        pipe.srem(keys.PROCESSES, identity)
        pipe.unlink(keys.work(identity), keys.workers(identity), keys.signals(identity))
        if not keep_lease:
            pipe.zrem(keys.LEASES, identity)
        pipe.execute()


def count_processes(client: redis.Redis) -> int:
    """How many processes, Ruby's included, share the work of polling. Raises: redis.RedisError."""
    return int(client.scard(keys.PROCESSES))


def clean_up(client: redis.Redis) -> int:
    """Remove processes whose hash has expired, unless another process did so within a minute; how many.

    Raises: redis.RedisError.
    """
    if not client.set(keys.PROCESS_CLEANUP, "1", nx=True, ex=CLEANUP_INTERVAL):
        return 0
    identities = list(client.sscan_iter(keys.PROCESSES))
    with client.pipeline(transaction=False) as pipe:
        for identity in identities:
            pipe.hexists(identity, "info")
        alive = pipe.execute()
    dead = [identity for identity, there in zip(identities, alive, strict=True) if not there]
    return int(client.srem(keys.PROCESSES, *dead)) if dead else 0


def send_signal(client: redis.Redis, identity: str, signal: str) -> None:
    """Leave `signal` (`TSTP`, `TERM` or `TTIN`) for a process, as the Web UI's buttons do. Raises: redis.RedisError."""
    with client.pipeline(transaction=True) as pipe:
        pipe.lpush(keys.signals(identity), signal)
        pipe.expire(keys.signals(identity), BEAT_TTL)
        pipe.execute()


def mark_deploy(client: redis.Redis, label: str, now: float) -> bool:
    """Mark a deploy called `label` on the metrics pages; False if another process just did.

    Raises: redis.RedisError.
    """
    moment = datetime.fromtimestamp(now, UTC)
    stamp = moment.strftime("%Y-%m-%dT%H:%M:00Z")
    if not client.set(keys.deploy_lock(label), stamp, nx=True, ex=MARK_LOCK_TTL):
        return False
    marks = keys.deploy_marks(moment.strftime("%Y%m%d"))
    with client.pipeline(transaction=True) as pipe:
        pipe.hsetnx(marks, stamp, label)
        pipe.expire(marks, MARKS_TTL)
        pipe.execute()
    return True
