"""How much memory `pyqik work` takes, and whether that stays so.

    python -m compat.bench.memory [--batches 20] [--jobs 50000] [--log default] [--json FILE]

First the supervisor and its one idle child, with ten threads, together; then after each of 20 batches of 50,000 jobs
that do nothing. PSS divides a page among the processes that map it: other Pythons on the machine make it smaller, so
the private memory (what would be free if these processes ended) and RSS stand beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from compat.bench import machine  # noqa: E402  # needs the path
from compat.bench.arena import STAGED, Arena, arena  # noqa: E402
from compat.bench.proc import memory, tree  # noqa: E402
from compat.bench.running import end_in_order, wait_for, worked  # noqa: E402
from compat.bench.sides import LOGGING, Checkout  # noqa: E402
from compat.processes import RunningProgram  # noqa: E402

#: MB, of all processes of `pyqik work` with one idle child.
TARGET = 75.0
#: MB by which the memory may differ after the first batch.
FLAT = 2.0
#: Seconds after the start until the idle memory is measured: heartbeats and reports have been written by then.
SETTLED = 15.0
#: Seconds for a batch.
TIMEOUT = 120.0


def main() -> None:
    """Measure and print."""
    options = _arguments()
    end_in_order()
    side = Checkout(options.checkout, options.python).side()
    with arena(options.server, options.jobs) as place:
        described = machine.describe(place.client, options.python)
        machine.announce(f"Memory: idle, and over {options.batches} batches of {options.jobs:,} jobs", described)
        place.fill()
        with worked(side, side.told(place.url, place.ledger.path, options.log), place.client) as program:
            time.sleep(SETTLED)
            rows = [_sample("idle", program)]
            for number in range(1, options.batches + 1):
                _run_batch(place, program)
                rows.append(_sample(f"{number * options.jobs:,} jobs", program))
    headings = ("PSS", "of the supervisor", "of child and guardian", "private", "RSS")
    machine.show(rows, {"after": "after", **{f"{heading}, MB": heading for heading in headings}})
    _judge(rows)
    machine.write_json(options.json, machine=described, rows=rows)


def _run_batch(place: Arena, program: RunningProgram) -> None:
    """The same jobs each time, so that the ledger stays as small as it is. Raises: Stalled."""
    place.ledger.clear()
    place.prepare(STAGED)
    place.release()
    wait_for(lambda: place.ledger.ran(0, place.jobs), TIMEOUT, "the batch has run", program)
    wait_for(place.is_empty, TIMEOUT, "the batch is settled", program)


def _sample(after: str, program: RunningProgram) -> machine.Row:
    supervisor, *children = [memory(pid) for pid in tree(program.pid)]
    every = [supervisor, *children]
    row = {
        "after": after,
        "PSS": sum(one["Pss"] for one in every),
        "of the supervisor": supervisor["Pss"],
        "of child and guardian": sum(one["Pss"] for one in children),
        "private": sum(one["Private_Clean"] + one["Private_Dirty"] for one in every),
        "RSS": sum(one["Rss"] for one in every),
    }
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in row.items()}


def _judge(rows: list[machine.Row]) -> None:
    idle, *later = [row["PSS"] for row in rows]
    print(f"idle: {idle} MB, {'below' if idle < TARGET else 'NOT below'} {TARGET:g} MB")
    if later:
        drift = max(abs(pss - later[0]) for pss in later)
        flat = "flat" if drift <= FLAT else "NOT flat"
        print(
            f"after the first batch: {later[0]} MB, then at most {drift:.1f} MB away from that: {flat} (±{FLAT:g} MB)"
        )
        # A leak would go on as it began; what Python's allocators keep for ten threads comes to an end.
        growth = rows[-1]["private"] - rows[(len(rows) + 1) // 2]["private"]
        print(f"private memory in the second half of the batches: {growth:+.1f} MB")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=50_000, help="jobs of a batch")
    parser.add_argument("--log", choices=LOGGING, default="warning")
    machine.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
