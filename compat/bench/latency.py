"""How soon a job starts that is pushed while processes are idle, and what an idle process costs Redis.

    python -m compat.bench.latency [--children 1,20,100] [--queues 1,20] [--jobs 300] [--json FILE]

Prints, for each number of idle children (real ones of one `pyqik work`) and queues, the median and the 99th percentile
of the milliseconds from just before the push to the job's first line; the same while ten threads of these children
compute without rest; the wakes of a job (blocking moves that returned, by job). Then the share of jobs that idle
children get beside idle clients which wait in BRPOP, and the commands a second of an idle child. All of it takes some
minutes; server, pusher and children share the machine: compare rows, not machines.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

import pyqik

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from compat.bench import machine  # noqa: E402  # needs the path
from compat.bench.latency_jobs import STARTS  # noqa: E402
from compat.bench.running import blocked_clients, end_in_order, redis_server, started, wait_for, wait_until_idle  # noqa: E402
from compat.bench.sides import Checkout  # noqa: E402
from compat.processes import RunningProgram  # noqa: E402

#: Threads that compute, in the rows with them: one for each of as many children, or all in one.
BURNING = 10
#: Jobs that a child can run at a time: all that burn, and one that is measured.
CONCURRENCY = BURNING + 1
#: Seconds until a hundred children are idle, on two cores.
START_PATIENCE = 240.0
#: Seconds for which the commands of an idle child are counted.
IDLE_SECONDS = 30.0
COLUMNS = {
    "idle children": "children",
    "queues": "queues",
    "beside": "beside",
    "median, ms": "p50_ms",
    "99th percentile, ms": "p99_ms",
    "wakes a job": "wakes",
}


@dataclass(frozen=True, slots=True)
class Idlers:
    """A `pyqik work` whose children are idle, and its Redis."""

    url: str
    client: redis.Redis
    program: RunningProgram
    children: int
    queues: int


def main() -> None:
    """Measure and print."""
    options = _arguments()
    end_in_order()
    with redis_server(options.server) as (_, url), redis.Redis.from_url(url) as client:
        described = machine.describe(client, options.python)
    machine.announce(f"Start latency: {options.jobs} jobs a row", described)
    idlers = functools.partial(_idlers, options.server, Checkout(options.checkout, options.python))
    starts: list[machine.Row] = []
    for queues in _numbers(options.queues):
        for children in _numbers(options.children):
            with idlers(children, queues) as idle:
                starts += measure_starts(idle, options.jobs)
    machine.show(starts, COLUMNS)
    shares = []
    for clients in (1, 10):
        with idlers(2, 1) as idle:
            shares.append(measure_share(idle, clients, options.jobs))
    machine.show(shares, {name.replace("_", " "): name for name in shares[0]})
    with idlers(1, 20) as idle:
        cost = measure_idle_cost(idle)
    print(f"an idle child on 20 queues sends Redis {cost['commands']} commands a second: {cost['by_name']}")
    machine.write_json(options.json, machine=described, starts=starts, shares=shares, idle=cost)


def measure_starts(idle: Idlers, jobs: int) -> list[machine.Row]:
    """Jobs pushed one at a time, each after the one before it has started; then again beside threads that compute."""
    rows = []
    for beside in ("", f"{BURNING} CPU-bound threads"):
        if beside:
            _burn(idle)
        before = _moves(idle.client)
        latencies = _push_one_by_one(idle, jobs, lambda number: f"q{number % idle.queues}")
        wakes = (_moves(idle.client) - before) / jobs
        named = {"children": idle.children, "queues": idle.queues, "beside": beside}
        rows.append({**named, **_summary(latencies), "wakes": round(wakes, 2)})
        print(f"  {rows[-1]}", flush=True)
    return rows


def measure_share(idle: Idlers, clients: int, jobs: int) -> machine.Row:
    """Which part of the jobs idle children get beside idle clients that wait as Sidekiq's threads do."""
    taken = [0] * clients
    over = threading.Event()

    def pop(index: int) -> None:
        with redis.Redis.from_url(idle.url) as own:
            while not over.is_set():
                if own.brpop(["queue:q0"], timeout=1):
                    taken[index] += 1
                    own.rpush(STARTS, 0.0)

    threads = [threading.Thread(target=pop, args=(index,), daemon=True) for index in range(clients)]
    for thread in threads:
        thread.start()
    _wait_for(idle, lambda: blocked_clients(idle.client) >= idle.children + clients, "everybody waits")
    _push_one_by_one(idle, jobs, lambda number: "q0")
    over.set()
    for thread in threads:
        thread.join()
    return {
        "idle_children": idle.children,
        "BRPOP_clients": clients,
        "share_of_the_children": round(1 - sum(taken) / jobs, 3),
        "fair_share": round(idle.children / (idle.children + clients), 3),
    }


def measure_idle_cost(idle: Idlers) -> machine.Row:
    """The commands that clients send (not those inside scripts) while one child idles."""
    names: Counter[str] = Counter()
    timer = threading.Timer(IDLE_SECONDS, idle.client.echo, ["the end"])
    timer.daemon = True
    with redis.Redis.from_url(idle.url) as watcher, watcher.monitor() as monitor:
        timer.start()
        while "the end" not in (command := monitor.next_command())["command"]:
            if command["client_type"] != "lua":
                names[command["command"].split(" ")[0].upper()] += 1
    timer.join()
    return {"queues": idle.queues, "commands": round(names.total() / IDLE_SECONDS, 2), "by_name": dict(names)}


@contextmanager
def _idlers(kind: str, checkout: Checkout, children: int, queues: int) -> Iterator[Idlers]:
    options = ["--processes", str(children), "-c", str(CONCURRENCY), "--port", "0", "-t", "1"]
    for index in range(queues):
        options += ["-q", f"q{index}"]
    side = checkout.worked("latency_jobs", *options, waiting=children * queues, processes=children)
    with (
        redis_server(kind) as (_, url),
        redis.Redis.from_url(url) as client,
        # A hundred children on two cores do not end in time, nor is that measured here: what is left is killed.
        started(side, side.told(url, "", "warning")) as program,
    ):
        wait_until_idle(side, program, client, START_PATIENCE)
        yield Idlers(url, client, program, children, queues)


def _burn(idle: Idlers) -> None:
    """Start the jobs that compute until they are interrupted."""
    with pyqik.Client(idle.url) as pusher:
        pusher.push_bulk("Bench::Burn", [[]] * BURNING, queue="q0")
    _wait_for(idle, lambda: idle.client.llen("queue:q0") == 0, "the CPU-bound jobs run")


def _push_one_by_one(idle: Idlers, jobs: int, queue: Callable[[int], str]) -> list[float]:
    """The seconds until each job's start."""
    client, all_wait = idle.client, idle.children * idle.queues
    with pyqik.Client(idle.url) as pusher:
        client.delete(STARTS)
        for number in range(jobs):
            pusher.push("Bench::Start", time.time(), queue=queue(number))
            _wait_for(idle, lambda after=number: client.llen(STARTS) > after, f"job {number} has started")  # type: ignore[misc] # lambda defaults
            _wait_for(idle, lambda: blocked_clients(client) >= all_wait, "the children are idle again")
    return [float(text) for text in client.lrange(STARTS, 0, -1)]


def _wait_for(idle: Idlers, condition: Callable[[], bool], what: str) -> None:
    wait_for(condition, 30, what, idle.program, interval=0.0005)


def _summary(latencies: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    ordered = sorted(latencies)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99) - 1] * 1000, 2),
    }


def _moves(client: redis.Redis) -> int:
    """How many blocking moves the server has answered."""
    return int(client.info("commandstats").get("cmdstat_blmove", {"calls": 0})["calls"])


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", default="1,20,100", help="numbers of idle children")
    parser.add_argument("--queues", default="1,20", help="numbers of queues")
    parser.add_argument("--jobs", type=int, default=300, help="jobs of each row")
    machine.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
