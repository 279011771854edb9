"""What long jobs cost: an item, against a bare loop and Sidekiq's own iteration; and a stop, for many at once.

    python -m compat.bench.iteration [--items 10000000] [--rounds 3] [--stop 200] [--json FILE]

Each side runs its jobs in real processes with their states in Redis, written every five seconds; µs are those of one
item, without what a call of an empty method costs there. `--stop N` puts N jobs into one child and stops it: one of ten
computes, the others sleep 50 ms in each item. The clock runs from the moment at which the last of them has asked for
its next item, until all are back in Redis with that very item as their cursor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import redis  # noqa: E402  # needs the path

from compat.bench import machine  # noqa: E402
from compat.bench.iteration_stop import run_stops  # noqa: E402
from compat.bench.ledger import Ledger  # noqa: E402
from compat.bench.running import end_in_order, redis_server, wait_for, worked  # noqa: E402
from compat.bench.sides import HERE, Checkout, Side  # noqa: E402
from compat.processes import RunningProgram  # noqa: E402
from compat.trees import program  # noqa: E402

SIDEKIQS = ("7.3", "8.1")
QUEUE = "iteration"
#: Items of Ruby's jobs: its arrays are larger, and its loops slower.
RUBY_ITEMS = 1_000_000
#: Seconds for one job.
TIMEOUT = 300.0


def main() -> None:
    """Measure and print."""
    options = _arguments()
    end_in_order()
    with (
        redis_server(options.server) as (_, url),
        redis.Redis.from_url(url) as client,
        Ledger(max(options.stop, 1) * 16) as ledger,
    ):
        sidekiqs = () if options.stop else SIDEKIQS
        described = machine.describe(client, options.python, sidekiqs)
        checkout = Checkout(options.checkout, options.python)
        if options.stop:
            machine.announce(f"A stop of {options.stop} long jobs in one child", described)
            rows = run_stops(checkout, url, client, ledger, options.stop, options.rounds)
        else:
            machine.announce(f"Iteration over {options.items:,} items (Ruby: {RUBY_ITEMS:,})", described)
            rows = _compare(checkout, url, client, ledger, options)
        machine.write_json(options.json, machine=described, rows=rows)


def _compare(
    checkout: Checkout, url: str, client: redis.Redis, ledger: Ledger, options: argparse.Namespace
) -> list[machine.Row]:
    ours = checkout.worked("iteration_jobs", "-c", "1", "-q", QUEUE)
    measured: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for _ in range(options.rounds):
        for side, classes, items in (
            (ours, ("Bare", "Each", "Iterable"), options.items),
            *((_sidekiq(version), ("Bare", "Iterable"), RUBY_ITEMS) for version in SIDEKIQS),
        ):
            told = side.told(url, ledger.path, "warning")
            with worked(side, told, client) as running:
                for job_class in classes:
                    for style, us, rss_kb in _run(client, running, f"Bench::{job_class}", items):
                        measured.setdefault((side.name, style), []).append((us, rss_kb))
    rows = [_row(side, style, figures, measured) for (side, style), figures in measured.items()]
    machine.show(
        rows,
        {"side": "side", "loop": "loop", "µs an item": "us", "the engine's µs": "own", "least": "least", "most": "most"}
        | {"MB": "mb"},
    )
    return rows


def _run(client: redis.Redis, running: RunningProgram, job_class: str, items: int) -> list[list[Any]]:
    """Run one job; what it tells. Raises: Stalled."""
    client.delete("results")
    job = {"class": job_class, "args": [items], "jid": f"{time.time_ns():024x}", "queue": QUEUE, "retry": False}
    client.lpush(f"queue:{QUEUE}", json.dumps({**job, "created_at": time.time(), "enqueued_at": time.time()}))
    expected = 2 if job_class == "Bench::Bare" and running.name == "pyqik" else 1
    wait_for(lambda: client.llen("results") >= expected, TIMEOUT, f"{running.name} has run {job_class}", running, 0.05)
    return [json.loads(result) for result in client.lrange("results", 0, -1)]


def _row(
    side: str, style: str, figures: list[tuple[float, int]], measured: dict[tuple[str, str], list[tuple[float, int]]]
) -> machine.Row:
    costs = [us for us, _ in figures]
    bare = measured.get((side, "bare loop" if style == "each" else "bare calls"), [])
    own = None
    if style in ("each", "IterableJob"):
        own = round(statistics.median(us - base for us, (base, _) in zip(costs, bare, strict=True)), 3)
    return {
        "side": side,
        "loop": style,
        "us": round(statistics.median(costs), 3),
        "own": own,
        "least": round(min(costs), 3),
        "most": round(max(costs), 3),
        "mb": round(max(kb for _, kb in figures) / 1024),
    }


def _sidekiq(version: str) -> Side:
    """Raises: TreeUnavailable."""
    command = program(version, "sidekiq", "-r", str(HERE / "iteration.rb"), "-e", "production")
    return Side(f"Sidekiq {version}", (*command, "-c", "1", "-q", QUEUE), waiting=1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000_000, help="items of one job")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side")
    parser.add_argument("--stop", type=int, default=0, metavar="N", help="stop N jobs at once instead")
    machine.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
