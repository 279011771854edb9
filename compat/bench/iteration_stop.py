"""How long it takes until many long jobs are back in Redis, after one TERM."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import redis

from compat.bench import machine
from compat.bench.ledger import Ledger
from compat.bench.running import started, wait_for, wait_until_idle
from compat.bench.sides import Checkout

QUEUE = "iteration"
#: See iteration_jobs.py.
STAMP = struct.Struct("<dq")
#: One of so many jobs computes. Python itself gives a hundred computing threads no turn for minutes.
COMPUTES = 10
#: Seconds for a round.
TIMEOUT = 120.0


def run_stops(
    checkout: Checkout, url: str, client: redis.Redis, ledger: Ledger, jobs: int, rounds: int
) -> list[machine.Row]:
    """As many rounds, and their table. Raises: AssertionError unless each job is back once, with the right cursor."""
    rows = [_round(checkout, url, client, ledger, jobs) for _ in range(rounds)]
    machine.show(rows, {name.replace("_", " "): name for name in rows[0]})
    return rows


def _round(checkout: Checkout, url: str, client: redis.Redis, ledger: Ledger, jobs: int) -> machine.Row:
    client.flushdb()
    Path(ledger.path).write_bytes(bytes(jobs * STAMP.size))
    side = checkout.worked("iteration_jobs", "-c", str(jobs), "-q", QUEUE, "-t", "60")
    jids = [f"{number:024x}" for number in range(jobs)]
    with started(side, side.told(url, ledger.path, "warning")) as program:
        wait_until_idle(side, program, client)
        for number, jid in enumerate(jids):
            work = "sleeps" if number % COMPUTES else "computes"
            job = {"class": "Bench::Stopped", "args": [number, work], "jid": jid, "queue": QUEUE, "retry": True}
            client.lpush(f"queue:{QUEUE}", json.dumps(job))
        wait_for(lambda: all(item >= 2 for _, item in _stamps(ledger)), TIMEOUT, "every job is at its work", program)
        told_at = time.time()
        program.terminate()
        wait_for(lambda: client.llen(f"queue:{QUEUE}") == jobs, TIMEOUT, "every job is back", program, 0.001)
        back_at = time.time()
        assert program.wait(TIMEOUT) == 0, program.log()[-3000:]
        stamps = _stamps(ledger)
        cursors = [json.loads(client.hget(f"it-{jid}", "c") or b"null") for jid in jids]
    assert cursors == [item for _, item in stamps], "a cursor is not that of the item that comes next"
    last = max(at for at, _ in stamps)
    return {
        "jobs": jobs,
        "to_the_last_item_ms": round((last - told_at) * 1e3),
        "then_ms": round((back_at - last) * 1e3),
    }


def _stamps(ledger: Ledger) -> list[tuple[float, int]]:
    return list(STAMP.iter_unpack(Path(ledger.path).read_bytes()))
