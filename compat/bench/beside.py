"""What is kept beside the cursor costs: the ids of `pyqik.processed`, and the failed rows of `pyqik.rows`.

    python -m compat.bench.beside [--items 1000000] [--rounds 2] [--server valkey] [--json FILE]

In a real worker each job goes twice over the same items, without and with it, in turns; every round has a worker of its
own. Ids: numbers in a row, random numbers of 60 bits, texts. Rows: those of a CSV file with three columns, of which one
in a hundred fails, with two messages. All µs are those of one item, until the last write is answered, and the medians
of the rounds. "more" is what it costs: with it, less without it. CPU is that of the job's thread; then that of all of
the worker's process; then that of Redis. The worker imports this module, too, for its jobs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import redis  # noqa: E402  # needs the path

import pyqik  # noqa: E402
from compat.bench import machine  # noqa: E402
from compat.bench.proc import memory  # noqa: E402
from compat.bench.running import end_in_order, redis_server, wait_for, worked  # noqa: E402
from compat.bench.sides import Checkout  # noqa: E402
from pyqik import enumerators  # noqa: E402
from pyqik.wire import keys  # noqa: E402

QUEUE = "beside"
MB = 1024 * 1024
#: Seconds for one job.
TIMEOUT = 170.0

#: What a million may cost at most: µs of a loop with `processed` for each id, of which a busy machine makes more, and
#: its CPU µs; CPU µs that `rows` adds to a row, and MB of its hashes in Redis.
IDS_US = 10.0
ROWS_US = 3.0
ROWS_MB = 5.0

IDS: dict[str, Callable[[int], list[Any]]] = {
    "numbers in a row": lambda count: list(range(count)),
    "random numbers": lambda count: [random.getrandbits(60) for _ in range(count)],
    "texts": lambda count: [f"customer-{number:08d}" for number in range(count)],
}

# The jobs.


class Meter:
    """What two loops over the same items cost, and what the second one leaves in Redis."""

    def __init__(self, items: int) -> None:
        self._client = redis.Redis.from_url(os.environ["REDIS_URL"])
        self._items = items
        self.found: machine.Row = {}

    def run(self, turn: int, without: Callable[[], None], with_it: Callable[[], None]) -> None:
        """Each of them once, the first one first if `turn` is even."""
        loops = [("without", without), ("with", with_it)]
        for name, loop in loops if turn % 2 == 0 else reversed(loops):
            with self._measured(name):
                loop()

    def tell(self, **hashes: str) -> None:
        """Tell the benchmark, also how much memory Redis has for these keys."""
        sizes = {name: (self._client.memory_usage(key, samples=0) or 0) / MB for name, key in hashes.items()}
        self._client.rpush("results", json.dumps({**self.found, **sizes}))

    @contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        began = self._now()
        yield
        for figure, now in self._now().items():
            each = now - began[figure] if figure in ("writes", "rss") else (now - began[figure]) / self._items * 1e6
            self.found[f"{name}: {figure}"] = each

    def _now(self) -> dict[str, float]:
        used, of_redis = resource.getrusage(resource.RUSAGE_SELF), self._client.info("cpu")
        scripts = self._client.info("commandstats").get("cmdstat_evalsha", {})
        return {
            "redis": of_redis["used_cpu_user"] + of_redis["used_cpu_sys"],
            "writes": scripts.get("calls", 0),
            "rss": memory(os.getpid())["Rss"],
            "process": used.ru_utime + used.ru_stime,
            "thread": time.thread_time(),
            "wall": time.perf_counter(),
        }


@pyqik.job("Bench::Processed")
def process(kind: str, count: int, turn: int) -> None:
    """A loop over ids."""
    ids = IDS[kind](count)

    def without() -> None:
        for _ in ids:
            pyqik.raise_if_stopping()
        pyqik.checkpoint(1, flush=True)

    def with_it() -> None:
        done = pyqik.processed("id")
        for item_id in ids:
            pyqik.raise_if_stopping()
            if item_id not in done:
                done.add(item_id)
        pyqik.checkpoint(2, flush=True)

    meter = Meter(count)
    meter.run(turn, without, with_it)
    meter.tell(hash=keys.processed(pyqik.current().jid, "id"))


@pyqik.job("Bench::Rows")
def import_rows(path: str, count: int, turn: int) -> None:
    """A loop over the rows of a file; the end of a loop is written before it is left."""

    def without() -> None:
        for row in pyqik.each(enumerators.csv_rows(path), name="without"):
            _problems(row)

    def with_it() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(path), name="with"):
            problems = _problems(row)
            if problems:
                rows.fail(*problems)
        assert rows.failed_count == count // 100

    meter = Meter(count)
    meter.run(turn, without, with_it)
    jid = pyqik.current().jid
    meter.tell(rows=keys.rows(jid), errors=keys.errors(jid))


def _problems(row: dict[str, str]) -> list[str]:
    if row["email"]:
        return []
    return ["email is missing", f"customer {row['number']} cannot be written to"]


def _write_table(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.write("number,name,email\n")
        for number in range(1, count + 1):
            email = "" if number % 100 == 0 else f"customer.{number}@example.org"
            file.write(f"{number},{random.getrandbits(64):016x},{email}\n")


# The benchmark.


class Bench:
    """Runs jobs, each in a new worker, and shows what they tell."""

    def __init__(self, url: str, client: redis.Redis, options: argparse.Namespace) -> None:
        self._url = url
        self._client = client
        self._items: int = options.items
        self._rounds: int = options.rounds
        self._side = Checkout(options.checkout, options.python).worked("beside", "-c", "1", "-q", QUEUE)

    def ids(self) -> list[machine.Row]:
        """A row for each kind of ids."""
        rows = [{"items": kind, **self._medians("Bench::Processed", kind)} for kind in IDS]
        sizes = {"MB in Redis": "hash", "MB of RSS": "with: rss", "writes": "with: writes"}
        self._show("id", rows, sizes)
        for row in rows:
            _judge(f"{row['items']}: µs of the loop", row["with: wall"], IDS_US)
            _judge(f"{row['items']}: CPU µs of the worker's process", row["with: process"], IDS_US)
        print()
        return rows

    def rows(self) -> list[machine.Row]:
        """One for an import."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "table.csv")
            _write_table(path, self._items)
            row = {"items": "rows of a file", **self._medians("Bench::Rows", str(path))}
        sizes = {
            "MB of rows/<jid>": "rows",
            "of errors/<jid>": "errors",
            "of RSS": "with: rss",
            "writes": "with: writes",
        }
        self._show("row", [row], sizes)
        _judge("rows: CPU µs more", row["more: thread"], ROWS_US)
        _judge("rows: MB in Redis", row["rows"] + row["errors"], ROWS_MB)
        return [row]

    def _medians(self, job_class: str, argument: str) -> machine.Row:
        rounds = [self._round(job_class, argument, turn) for turn in range(self._rounds)]
        for found in rounds:
            found["ratio"] = found["with: wall"] / found["without: wall"]
            for figure in ("wall", "thread", "process", "redis"):
                found[f"more: {figure}"] = found[f"with: {figure}"] - found[f"without: {figure}"]
        return {figure: round(statistics.median(found[figure] for found in rounds), 2) for figure in rounds[0]}

    def _round(self, job_class: str, argument: str, turn: int) -> machine.Row:
        """Raises: Stalled."""
        self._client.flushall()
        job = {"class": job_class, "args": [argument, self._items, turn], "queue": QUEUE, "retry": False}
        job |= {"jid": f"{turn:024x}", "created_at": time.time(), "enqueued_at": time.time()}
        with worked(self._side, self._side.told(self._url, "", "warning"), self._client) as program:
            self._client.lpush(keys.queue(QUEUE), json.dumps(job))
            wait_for(lambda: self._client.llen("results") > 0, TIMEOUT, f"{job_class} of {argument}", program, 0.05)
        results: Any = self._client.lrange("results", 0, 0)
        result: machine.Row = json.loads(results[0])
        return result

    def _show(self, item: str, rows: list[machine.Row], sizes: dict[str, str]) -> None:
        times = {f"µs a{'n' * (item == 'id')} {item}": "with: wall", "without": "without: wall", "ratio": "ratio"}
        more = {"more": "more: wall", "more CPU": "more: thread", "process": "more: process", "Redis": "more: redis"}
        machine.show(rows, {"items": "items", **times, **more, **sizes})


def _judge(what: str, figure: float, bar: float) -> None:
    print(f"{what}: {figure:g}, {'ok' if figure < bar else 'OVER'} (bar: {bar:g})")


def main() -> None:
    """Measure and print."""
    options = _arguments()
    end_in_order()
    with redis_server(options.server) as (_, url), redis.Redis.from_url(url) as client:
        described = machine.describe(client, options.python)
        machine.announce(f"Beside the cursor: {options.items:,} items, {options.rounds} rounds", described)
        bench = Bench(url, client, options)
        rows = [*bench.ids(), *bench.rows()]
    print(f"load average at the end: {os.getloadavg()[0]:.2f}")
    machine.write_json(options.json, machine=described, rows=rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="ids of each kind, and rows")
    parser.add_argument("--rounds", type=int, default=2)
    machine.add_options(parser)
    parser.set_defaults(server="valkey")
    return parser.parse_args()


if __name__ == "__main__":
    main()
