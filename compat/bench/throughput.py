"""How many jobs a second pyqik runs, beside Sidekiq on the same Redis server; and that every job runs.

    python -m compat.bench.throughput [--jobs 100000] [--rounds 3] [--only pyqik] [--log warning] [--json FILE]
    python -m compat.bench.throughput --bulk      jobs a second that `perform_bulk` enqueues
    python -m compat.bench.throughput --kill      a child and then the supervisor are killed amid the jobs
    python -m compat.bench.throughput --only pyqik --checkout DIR --python PYTHON      another checkout of pyqik

Each side is one process with ten threads that runs jobs with an integer, a string and a small hash, through one
middleware that does nothing; pyqik has its supervisor besides. The sides take turns (A B C A B C), ratios are those of
the medians. A round: the process starts, runs 1,000 jobs and is idle again; all jobs appear in its queue at once, by
RENAME; the clock runs from there until the last of them has run and Redis has none on record any more. Which jobs ran
is counted by the jobs themselves, in memory that this script shares: each exactly once, or the script fails.
Server, this script and the process share the machine: compare rows of one run, never seconds of two machines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from compat.bench import machine  # noqa: E402  # needs the path
from compat.bench.ledger import Ledger  # noqa: E402
from compat.bench.proc import cpu_seconds  # noqa: E402
from compat.bench.running import end_in_order, output_of, redis_server, wait_for, worked  # noqa: E402
from compat.bench.sides import LOGGING, QUEUE, Side, pyqik_side, sidekiq_side  # noqa: E402
from compat.processes import RunningProgram  # noqa: E402

#: Jobs that a process runs before the clock starts.
WARM_UP = 1000
SIDEKIQS = ("7.3", "8.1")
#: Jobs a second that the slowest side must reach not to be taken for stuck.
SLOWEST = 500
QUEUE_KEY = f"queue:{QUEUE}"


@dataclass(frozen=True, slots=True)
class Bench:
    """What all rounds share."""

    url: str
    client: redis.Redis
    server: RunningProgram
    ledger: Ledger
    jobs: int


def main() -> None:
    """Measure and print."""
    options = _arguments()
    end_in_order()
    sides = _sides(options)
    with (
        redis_server(options.server) as (server, url),
        redis.Redis.from_url(url) as client,
        Ledger(options.jobs + WARM_UP) as ledger,
    ):
        versions = [side.name.removeprefix("Sidekiq ") for side in sides if side.name != "pyqik"]
        described = machine.describe(client, options.python, versions)
        machine.announce(f"Throughput: {options.jobs:,} jobs, median of {options.rounds}", described)
        bench = Bench(url, client, server, ledger, options.jobs)
        if options.bulk:
            rows = compare_bulk(bench, sides, options.rounds)
        else:
            fill(bench)
            settings = [options.log] if options.log else LOGGING
            rows = [row for logging in settings for row in compare(bench, sides, logging, options.rounds)]
    machine.write_json(options.json, machine=described, rows=rows)


def compare(bench: Bench, sides: list[Side], logging: str, rounds: int) -> list[machine.Row]:
    """The sides in turn, `rounds` times, and a table of the medians."""
    measured: dict[str, list[machine.Row]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            row = run_round(bench, side, logging)
            measured[side.name].append(row)
            print(f"  round {number + 1}, logging {logging}, {side.name}: {json.dumps(row)}", flush=True)
    rows = [{"side": name, "logging": logging, **_medians(of_side)} for name, of_side in measured.items()]
    _add_ratios(rows)
    print()
    machine.show(
        rows,
        {
            "side": "side",
            "logging": "logging",
            "jobs/s": "jobs_per_second",
            "least": "least",
            "most": "most",
            "CPU µs a job": "cpu_us",
            "Redis CPU µs a job": "redis_us",
            **_ratio_columns(rows),
        },
    )
    return rows


def run_round(bench: Bench, side: Side, logging: str) -> machine.Row:
    """One process of `side` runs all jobs. Raises: AssertionError unless each ran exactly once; Stalled."""
    bench.ledger.clear()
    processed = _processed(bench)
    environment = side.told(bench.url, bench.ledger.path, logging)
    with worked(side, environment, bench.client) as program:
        bench.client.copy("warm-up", "ready")
        bench.client.rename("ready", QUEUE_KEY)
        wait_for(lambda: bench.ledger.ran(bench.jobs, bench.jobs + WARM_UP), 60, f"{side.name} is warm", program)
        wait_for(lambda: _idle_again(bench, side), 60, f"{side.name} is idle again", program)
        seconds, cpu, redis_cpu = _timed(bench, side, program)
    counts = bench.ledger.missing(), bench.ledger.repeated(), _processed(bench) - processed
    assert counts == (0, 0, bench.jobs + WARM_UP), f"{side.name}: missing, repeated, stat:processed are {counts}"
    return {
        "jobs_per_second": round(bench.jobs / seconds),
        "cpu_us": round(cpu / bench.jobs * 1e6, 1),
        "redis_us": round(redis_cpu / bench.jobs * 1e6, 1),
    }


def _timed(bench: Bench, side: Side, program: RunningProgram) -> tuple[float, float, float]:
    """Seconds from the jobs' appearance to the end of the last; CPU seconds of the side's processes; those of Redis."""
    bench.client.copy("staged", "ready")
    cpu, redis_cpu = cpu_seconds(program.pid), cpu_seconds(bench.server.pid)
    began = time.monotonic()
    bench.client.rename("ready", QUEUE_KEY)
    # While jobs run, only memory is polled; Redis is asked when all of them have run.
    timeout = 30 + bench.jobs / SLOWEST
    wait_for(lambda: bench.ledger.ran(0, bench.jobs), timeout, "all jobs have run", program)
    ended = wait_for(lambda: not _on_record(bench.client), timeout, "all jobs are settled", program, interval=0.001)
    return ended - began, cpu_seconds(program.pid) - cpu, cpu_seconds(bench.server.pid) - redis_cpu


def compare_bulk(bench: Bench, sides: list[Side], rounds: int) -> list[machine.Row]:
    """`perform_bulk` of all jobs, a new process each time, and a table of the medians."""
    rates: dict[str, list[machine.Row]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            bench.client.delete(QUEUE_KEY)
            told = side.told(bench.url, bench.ledger.path, "warning", BENCH_JOBS=str(bench.jobs))
            seconds = float(output_of(side, told))
            length = bench.client.llen(QUEUE_KEY)
            assert length == bench.jobs + 1, f"{side.name} enqueued {length} jobs, not {bench.jobs + 1}"
            rates[side.name].append({"jobs_per_second": round(bench.jobs / seconds)})
    rows = [{"side": name, **_medians(of_side)} for name, of_side in rates.items()]
    _add_ratios(rows)
    columns = {"side": "side", "perform_bulk, jobs/s": "jobs_per_second", "least": "least", "most": "most"}
    machine.show(rows, {**columns, **_ratio_columns(rows)})
    return rows


def fill(bench: Bench) -> None:
    """Put the jobs of a round, and those to warm up with, under names that no process reads."""
    for name, first, count in (("staged", 0, bench.jobs), ("warm-up", bench.jobs, WARM_UP)):
        payloads = _payloads(first, count)
        while batch := [payload for _, payload in zip(range(1000), payloads, strict=False)]:
            bench.client.lpush(name, *batch)
    bench.client.sadd("queues", QUEUE)


def _payloads(first: int, count: int) -> Iterator[str]:
    """What Sidekiq 8's client writes; 7 reads it as well."""
    now = int(time.time() * 1000)
    for index in range(first, first + count):
        job: dict[str, Any] = {
            "retry": True,
            "queue": QUEUE,
            "class": "Bench::Noop",
            "args": [index, f"customer-{index}@example.com", {"shop": index % 100}],
            "jid": f"{index:024x}",
            "created_at": now,
            "enqueued_at": now,
        }
        yield json.dumps(job, separators=(",", ":"))


def _on_record(client: redis.Redis) -> bool:
    """Whether Redis has jobs: in the queue, or (pyqik) in flight."""
    records = [key for key in client.scan_iter("pyqik:in-flight:*")]
    return bool(client.exists(QUEUE_KEY)) or any(_held(client, key) for key in records)


def _held(client: redis.Redis, key: bytes) -> bool:
    return any(b":" in field for field in client.hkeys(key))


def _idle_again(bench: Bench, side: Side) -> bool:
    return not _on_record(bench.client) and bench.client.info("clients")["blocked_clients"] >= side.waiting


def _processed(bench: Bench) -> int:
    return int(bench.client.get("stat:processed") or 0)


def _medians(rows: list[machine.Row]) -> machine.Row:
    medians = {field: statistics.median(row[field] for row in rows) for field in rows[0]}
    rates = [row["jobs_per_second"] for row in rows]
    return {**medians, "least": min(rates), "most": max(rates), "rounds": rows}


def _add_ratios(rows: list[machine.Row]) -> None:
    """Each side's rate as a multiple of each Sidekiq's."""
    for other in rows:
        for row in rows:
            if other["side"] != "pyqik":
                row[f"by {other['side']}"] = round(row["jobs_per_second"] / other["jobs_per_second"], 2)


def _ratio_columns(rows: list[machine.Row]) -> dict[str, str]:
    return {f"÷ {row['side']}": f"by {row['side']}" for row in rows if row["side"] != "pyqik"}


def _sides(options: argparse.Namespace) -> list[Side]:
    every = {"pyqik": lambda: pyqik_side(options.checkout, options.python)}
    every |= {f"sidekiq-{version}": lambda v=version: sidekiq_side(v) for version in SIDEKIQS}
    return [make() for name, make in every.items() if name in (options.only or list(every))]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs of a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side")
    parser.add_argument("--only", action="append", help="pyqik, sidekiq-7.3 or sidekiq-8.1; may be repeated")
    parser.add_argument("--log", choices=LOGGING, help="one setting of the logs instead of both")
    parser.add_argument("--server", choices=("redis-7", "redis-8", "valkey"), default="redis-7")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="the pyqik to run")
    parser.add_argument("--python", default=sys.executable, help="the Python to run it with")
    parser.add_argument("--bulk", action="store_true", help="measure perform_bulk instead")
    parser.add_argument("--json", type=Path, help="where to write everything as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
