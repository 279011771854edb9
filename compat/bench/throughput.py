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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from compat.bench import machine  # noqa: E402  # needs the path
from compat.bench.arena import QUEUE_KEY, STAGED, STAGED_WARM_UP, WARM_UP, Arena, arena  # noqa: E402
from compat.bench.kill import run_kills  # noqa: E402
from compat.bench.proc import cpu_seconds  # noqa: E402
from compat.bench.running import Stalled, blocked_clients, end_in_order, output_of, stacks_of, wait_for, worked  # noqa: E402
from compat.bench.sides import LOGGING, Checkout, Side, sidekiq_side  # noqa: E402
from compat.processes import RunningProgram  # noqa: E402

SIDEKIQS = ("7.3", "8.1")
#: Jobs a second that the slowest side must reach not to be taken for stuck.
SLOWEST = 1000
#: What the table shows: heading → field. Ratios follow.
COLUMNS = {
    "side": "side",
    "logging": "logging",
    "jobs/s": "jobs_per_second",
    "least": "least",
    "most": "most",
    "CPU µs a job": "cpu_us",
    "of Redis": "redis_us",
}


def main() -> None:
    """Measure and print."""
    options = _arguments()
    end_in_order()
    sides = _sides(options)
    with arena(options.server, options.jobs) as place:
        versions = [side.name.removeprefix("Sidekiq ") for side in sides if side.name != "pyqik"]
        described = machine.describe(place.client, options.python, versions)
        machine.announce(f"Throughput: {options.jobs:,} jobs, {options.rounds} rounds", described)
        rows = _measure(place, sides, options)
    machine.write_json(options.json, machine=described, rows=rows)


def _measure(place: Arena, sides: list[Side], options: argparse.Namespace) -> list[machine.Row]:
    if options.bulk:
        return compare_bulk(place, sides, options.rounds)
    place.fill()
    if options.kill:
        return run_kills(place, Checkout(options.checkout, options.python).side(), options.rounds)
    settings = [options.log] if options.log else LOGGING
    return [row for logging in settings for row in compare(place, sides, logging, options.rounds)]


def compare(place: Arena, sides: list[Side], logging: str, rounds: int) -> list[machine.Row]:
    """The sides in turn, `rounds` times, and a table of the medians."""
    measured: dict[str, list[machine.Row]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            row = run_round(place, side, logging)
            measured[side.name].append(row)
            print(f"  round {number + 1}, logging {logging}, {side.name}: {json.dumps(row)}", flush=True)
    rows = [{"side": name, "logging": logging, **_medians(of_side)} for name, of_side in measured.items()]
    print()
    machine.show(rows, {**COLUMNS, **_add_ratios(rows)})
    return rows


def run_round(place: Arena, side: Side, logging: str) -> machine.Row:
    """One process of `side` runs all jobs. Raises: AssertionError unless each ran exactly once; Stalled."""
    jobs, everything = place.jobs, place.jobs + WARM_UP
    place.ledger.clear()
    before = place.processed()
    with worked(side, side.told(place.url, place.ledger.path, logging), place.client) as program:
        place.prepare(STAGED_WARM_UP)
        place.release()
        wait_for(lambda: place.ledger.ran(jobs, everything), 60, f"{side.name} is warm", program)
        wait_for(lambda: _idle_again(place, side), 60, f"{side.name} is idle again", program)
        seconds, cpu, redis_cpu = _timed(place, side, program)
    ledger = place.ledger
    counts = ledger.missing(everything), ledger.repeated(everything), place.processed() - before
    assert counts == (0, 0, everything), f"{side.name}: missing, repeated, stat:processed are {counts}"
    return {
        "jobs_per_second": round(jobs / seconds),
        "cpu_us": round(cpu / jobs * 1e6, 1),
        "redis_us": round(redis_cpu / jobs * 1e6, 1),
    }


def _timed(place: Arena, side: Side, program: RunningProgram) -> tuple[float, float, float]:
    """Seconds from the jobs' appearance to the end of the last; CPU seconds of the side's processes; those of Redis."""
    place.prepare(STAGED)
    cpu, redis_cpu = cpu_seconds(program.pid), cpu_seconds(place.server.pid)
    began = place.release()
    # While jobs run, only memory is polled; Redis is asked when all of them have run.
    timeout = 30 + place.jobs / SLOWEST
    try:
        wait_for(lambda: place.ledger.ran(0, place.jobs), timeout, f"{side.name} has run all jobs", program)
        ended = wait_for(place.is_empty, timeout, f"{side.name} has settled all jobs", program, interval=0.001)
    except Stalled as error:
        error.add_note(f"{place.state()}\n{stacks_of(program)}")
        raise
    return ended - began, cpu_seconds(program.pid) - cpu, cpu_seconds(place.server.pid) - redis_cpu


def compare_bulk(place: Arena, sides: list[Side], rounds: int) -> list[machine.Row]:
    """`perform_bulk` of all jobs, a new process each time, and a table of the medians."""
    rates: dict[str, list[machine.Row]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            place.client.delete(QUEUE_KEY)
            told = side.told(place.url, place.ledger.path, "warning", BENCH_JOBS=str(place.jobs))
            seconds = float(output_of(side, told).splitlines()[-1])  # Ruby may have logged something before.
            length = place.client.llen(QUEUE_KEY)
            assert length == place.jobs + 1, f"{side.name} enqueued {length} jobs, not {place.jobs + 1}"
            rates[side.name].append({"jobs_per_second": round(place.jobs / seconds)})
    rows = [{"side": name, **_medians(of_side)} for name, of_side in rates.items()]
    columns = {"side": "side", "perform_bulk, jobs/s": "jobs_per_second", "least": "least", "most": "most"}
    machine.show(rows, {**columns, **_add_ratios(rows)})
    return rows


def _idle_again(place: Arena, side: Side) -> bool:
    return place.is_empty() and blocked_clients(place.client) >= side.waiting


def _medians(rows: list[machine.Row]) -> machine.Row:
    medians = {field: statistics.median(row[field] for row in rows) for field in rows[0]}
    medians["jobs_per_second"] = round(medians["jobs_per_second"])
    rates = [row["jobs_per_second"] for row in rows]
    return {**medians, "least": min(rates), "most": max(rates), "rounds": rows}


def _add_ratios(rows: list[machine.Row]) -> dict[str, str]:
    """Add each side's rate as a multiple of each Sidekiq's to its row; the columns of these."""
    others = [row for row in rows if row["side"] != "pyqik"]
    for row in rows:
        row |= {f"by {other['side']}": round(row["jobs_per_second"] / other["jobs_per_second"], 2) for other in others}
    return {f"÷ {other['side']}": f"by {other['side']}" for other in others}


def _sides(options: argparse.Namespace) -> list[Side]:
    """Those that take part, pyqik first. Raises: TreeUnavailable."""
    wanted = options.only or ["pyqik", *(f"sidekiq-{version}" for version in SIDEKIQS)]
    ours = [Checkout(options.checkout, options.python).side()] if "pyqik" in wanted else []
    return [*ours, *(sidekiq_side(version) for version in SIDEKIQS if f"sidekiq-{version}" in wanted)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("pyqik", *(f"sidekiq-{version}" for version in SIDEKIQS))
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs of a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side")
    parser.add_argument("--only", action="append", choices=names, help="one side; may be repeated")
    parser.add_argument("--log", choices=LOGGING, help="one setting of the logs instead of both")
    parser.add_argument("--bulk", action="store_true", help="measure perform_bulk instead")
    parser.add_argument("--kill", action="store_true", help="kill processes amid the jobs and count instead")
    machine.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
