"""Who is compared: pyqik of some checkout, Sidekiq of some version. It says how each is started, and starts nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compat.trees import program

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: Threads of the one process on each side.
THREADS = 10
QUEUE = "bench"
#: Values of BENCH_LOG and of a side's `logging`: warnings only; or what each writes if nobody configures anything.
LOGGING = ("warning", "default")


@dataclass(frozen=True, slots=True)
class Side:
    """One program. Its processes are told the rest by REDIS_URL, BENCH_LEDGER and BENCH_LOG."""

    name: str
    #: The command that runs jobs.
    work: Sequence[str]
    #: The command that enqueues BENCH_JOBS jobs at once and prints the seconds that took.
    bulk: Sequence[str] = ()
    #: How many of its clients wait in a blocking command when it is idle, and how many processes are registered then.
    waiting: int = 1
    processes: int = 1
    directory: Path = HERE
    environment: Mapping[str, str] = field(default_factory=dict)

    def told(self, redis_url: str, ledger: str, logging: str, **more: str) -> dict[str, str]:
        """The environment of a process of this side."""
        level = {"PYQIK_LOG_LEVEL": "warning"} if logging == "warning" and self.name == "pyqik" else {}
        told = {"REDIS_URL": redis_url, "BENCH_LEDGER": ledger, "BENCH_LOG": logging, **more}
        return {**self.environment, **told, **level}


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout of pyqik, and the Python with what it needs."""

    directory: Path = ROOT
    python: str = sys.executable

    def side(self) -> Side:
        """One process of ten threads, and its supervisor."""
        # A script would have its own directory in front of the path, so this one is run as a module.
        return self.worked("noop_jobs", "-c", str(THREADS), "-q", QUEUE, bulk=(self.python, "-m", "bulk"))

    def worked(self, jobs: str, *options: str, waiting: int = 1, processes: int = 1, bulk: Sequence[str] = ()) -> Side:
        """`pyqik work` with a module of jobs that stands beside this one, and `options`."""
        # Run in the checkout, `python -m` finds its pyqik before any other; the benchmark's own jobs come from here.
        command = (self.python, "-m", "pyqik", "work", "-r", jobs, *options)
        directory = self.directory.resolve()
        return Side("pyqik", command, bulk, waiting, processes, directory, {"PYTHONPATH": str(HERE)})


def sidekiq_side(version: str) -> Side:
    """Sidekiq `version` of Debian's tree, fetched if it is not there. Raises: TreeUnavailable."""
    command = program(version, "sidekiq", "-r", str(HERE / "noop.rb"), "-e", "production")
    work = (*command, "-c", str(THREADS), "-q", QUEUE)
    bulk = program(version, "ruby", str(HERE / "bulk.rb"))
    return Side(f"Sidekiq {version}", work, bulk, waiting=THREADS)
