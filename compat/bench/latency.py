"""How soon a job starts that is pushed while workers are idle, and what an idle worker costs Redis.

    python -m compat.bench.latency [--workers 1,20,100] [--queues 1,20] [--jobs 300] [--json FILE]

Prints a table: for each number of idle children and queues the median and the 99th percentile of the milliseconds from
just before the push to the job's first line, the wakes of a job (blocking moves that returned, by job), beside ten
CPU-bound threads too, the share of jobs beside idle BRPOP clients, and the client commands a second of an idle child.
Server, pusher and workers share the machine: compare rows, not machines.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

import pyqik

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from compat.bench.jobs import STARTS  # noqa: E402  # needs the path
from tests.support.redis_server import RedisServer  # noqa: E402  # likewise


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,20,100", help="numbers of idle children")
    parser.add_argument("--queues", default="1,20", help="numbers of queues")
    parser.add_argument("--jobs", type=int, default=300, help="jobs of each row")
    parser.add_argument("--json", type=Path, help="where to write the rows as JSON")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for queues in map(int, options.queues.split(",")):
        for workers in map(int, options.workers.split(",")):
            rows.append(measure_idle(workers, queues, options.jobs))
            print(json.dumps(rows[-1]), flush=True)
    rows.append(measure_beside_cpu(options.jobs))
    print(json.dumps(rows[-1]), flush=True)
    for clients in (1, 10):
        rows.append(measure_share(2, clients, options.jobs))
        print(json.dumps(rows[-1]), flush=True)
    rows.append(measure_idle_cost(20, 30.0))
    print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure_idle(workers: int, queues: int, jobs: int) -> dict[str, Any]:
    """Jobs pushed one at a time, each after the one before it has started."""
    with RedisServer() as server, work(server, workers, queues) as client:
        before = calls(client, "blmove")
        latencies = push_one_by_one(server.url, jobs, lambda n: f"q{n % queues}")
        wakes = (calls(client, "blmove") - before) / jobs
        return {"measure": "idle", "workers": workers, "queues": queues, **summary(latencies), "wakes": round(wakes, 3)}


def measure_beside_cpu(jobs: int) -> dict[str, Any]:
    """The same beside ten threads of the same child that never rest."""
    with RedisServer() as server, work(server, 1, 1, "-c", "11", "-q", "burn") as client:
        with pyqik.Client(server.url) as pusher:
            pusher.push_bulk("Bench::Burn", [[600.0]] * 10, queue="burn")
        wait_for(lambda: client.llen("queue:burn") == 0)
        latencies = push_one_by_one(server.url, jobs, lambda n: "q0")
        return {"measure": "beside 10 CPU-bound threads", "workers": 1, "queues": 2, **summary(latencies)}


def measure_share(workers: int, clients: int, jobs: int) -> dict[str, Any]:
    """Which part of the jobs idle children get beside idle clients that wait as Sidekiq's threads do."""
    with RedisServer() as server, work(server, workers, 1) as client:
        taken = [0] * clients
        stop = threading.Event()

        def pop(index: int) -> None:
            own = redis.Redis.from_url(server.url)
            while not stop.is_set():
                if own.brpop(["queue:q0"], timeout=1):
                    taken[index] += 1
                    own.rpush(STARTS, 0.0)
            own.close()

        threads = [threading.Thread(target=pop, args=(index,)) for index in range(clients)]
        for thread in threads:
            thread.start()
        wait_for(lambda: blocked(client) >= workers + clients)
        push_one_by_one(server.url, jobs, lambda n: "q0")
        stop.set()
        for thread in threads:
            thread.join()
        share = 1 - sum(taken) / jobs
        return {
            "measure": "share beside idle BRPOP clients",
            "workers": workers,
            "clients": clients,
            "share": round(share, 3),
            "proportional": round(workers / (workers + clients), 3),
        }


def measure_idle_cost(queues: int, seconds: float) -> dict[str, Any]:
    """The commands that clients send (not those inside scripts) while one child idles."""
    with RedisServer() as server, work(server, 1, queues) as client:
        names: Counter[str] = Counter()
        timer = threading.Timer(seconds, client.echo, ["the end"])
        with redis.Redis.from_url(server.url) as watcher, watcher.monitor() as monitor:
            timer.start()
            while "the end" not in (command := monitor.next_command())["command"]:
                if command["client_type"] != "lua":
                    names[command["command"].split(" ")[0].upper()] += 1
        timer.join()
        return {
            "measure": "client commands a second of an idle child",
            "queues": queues,
            "commands": round(names.total() / seconds, 2),
            "by_name": dict(names),
        }


@contextmanager
def work(server: RedisServer, workers: int, queues: int, *more: str) -> Iterator[redis.Redis]:
    """`pyqik work` with so many children, idle."""
    command = [sys.executable, "-m", "pyqik", "work", "-r", "compat.bench.jobs", "--processes", str(workers)]
    command += ["--port", "0", "--log-level", "warning", "-t", "10", *more]
    for index in range(queues):
        command += ["-q", f"q{index}"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "REDIS_URL": server.url})
    client = redis.Redis.from_url(server.url)
    try:
        wait_for(lambda: client.scard("processes") == workers and blocked(client) >= workers * queues, 180)
        yield client
    finally:
        client.close()
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def push_one_by_one(url: str, jobs: int, queue: Callable[[int], str]) -> list[float]:
    """The seconds until each job's start."""
    with pyqik.Client(url) as pusher, redis.Redis.from_url(url) as client:
        client.delete(STARTS)
        for number in range(jobs):
            pusher.push("Bench::Start", time.time(), queue=queue(number))
            while client.llen(STARTS) <= number:
                time.sleep(0.0005)
            # Until the worker waits again, it is not idle.
            time.sleep(0.003)
        return [float(text) for text in client.lrange(STARTS, 0, -1)]


def summary(latencies: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    ordered = sorted(latencies)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99) - 1] * 1000, 2),
    }


def calls(client: redis.Redis, command: str) -> int:
    """How often the server has run `command`."""
    return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def blocked(client: redis.Redis) -> int:
    """How many clients wait in a blocking command."""
    return int(client.info("clients")["blocked_clients"])


def wait_for(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    """Poll until `condition` holds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the worker did not get ready")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
