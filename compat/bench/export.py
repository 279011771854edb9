"""What an export into Cloud Storage costs: against writing and uploading alone, at a stop, and at the next start.

    python -m compat.bench.export [--size 1024] [--rounds 3] [--stops 6] [--bandwidth 60] [--json FILE]

The worker is a real one, its store a fake of Cloud Storage in a process of its own, which takes `bandwidth` MB a second
from each connection. A round writes `size` MB of CSV rows into a file that nobody keeps, uploads as many bytes, and
then does both as one export. At last one export is stopped by TERM again and again, and one file is restored.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import redis  # noqa: E402  # needs the path

import pyqik  # noqa: E402
from compat.bench import machine  # noqa: E402
from compat.bench.running import end_in_order, redis_server, wait_for  # noqa: E402
from compat.processes import RunningProgram  # noqa: E402

MB = 1024 * 1024
#: Seconds for one job.
TIMEOUT = 600.0


class Cloud:
    """The fake, in its process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url: str = self._answer()["url"]

    def counters(self, command: str = "") -> dict[str, Any]:
        """What it has received and sent until now."""
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def cloud(bandwidth: float) -> Iterator[Cloud]:
    """A fake, empty at first."""
    command = [sys.executable, "-m", "compat.bench.cloud_server"]
    if bandwidth:
        command += ["--bandwidth", str(bandwidth * MB)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Cloud(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


class Bench:
    """A worker, and what its jobs have measured."""

    def __init__(self, url: str, cloud: Cloud, results: Path, size: int) -> None:
        self._client = pyqik.Client(url)
        self._results = results
        self._environment = {
            "REDIS_URL": url,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'compat' / 'bench'}",
            "PYQIK_FILES": "gs://parts/scratch",
            "STORAGE_EMULATOR_HOST": cloud.url,
            "EXPORT_RESULTS": str(results),
            "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true",
        }
        self.cloud = cloud
        self.size = size

    @contextmanager
    def worker(self) -> Iterator[RunningProgram]:
        """It runs one job at a time. It is stopped at the end."""
        line = [sys.executable, "-m", "pyqik", "work", "-r", "export_jobs", "-q", "export", "-c", "1", "--port", "0"]
        with RunningProgram("worker", [*line, "--log-level", "warning"], self._environment, own_group=True) as program:
            yield program
            program.terminate()
            assert program.wait(60) == 0, program.log()[-3000:]

    def push(self, job: str, *args: Any) -> None:
        """Have it run."""
        self._client.push(job, *args, queue="export")

    def run(self, program: RunningProgram, job: str, *args: Any) -> dict[str, Any]:
        """Run a job to its end; what it has measured."""
        known = len(self.results())
        self.push(job, *args)
        wait_for(lambda: len(self.results()) > known, TIMEOUT, job, program)
        return self.results()[known]

    def wait_until_it_goes_on(self, program: RunningProgram) -> None:
        """Until the next part is stored."""
        before = self.cloud.counters()["received"]
        wait_for(lambda: bool(self.cloud.counters()["received"] > before), TIMEOUT, "it goes on", program)

    def results(self) -> list[dict[str, Any]]:
        """What all jobs have measured."""
        return [json.loads(line) for line in self._results.read_text().splitlines()]


def main() -> None:
    """Measure and print."""
    options = _arguments()
    end_in_order()
    with (
        redis_server(options.server) as (_, url),
        redis.Redis.from_url(url) as client,
        cloud(options.bandwidth) as fake,
        tempfile.NamedTemporaryFile() as results,
    ):
        described = machine.describe(client)
        machine.announce(f"Exports of {options.size} MB, {options.bandwidth:g} MB/s a connection", described)
        bench = Bench(url, fake, Path(results.name), options.size * MB)
        rows = [*_rounds(bench, options.rounds), _stops(bench, options.stops), _restore(bench)]
        for row in rows:
            print(json.dumps(row))
        machine.write_json(options.json, machine=described, rows=rows)


def _rounds(bench: Bench, rounds: int) -> list[machine.Row]:
    found: list[machine.Row] = []
    with bench.worker() as program:
        bench.run(program, "Bench::Warm")
        for number in range(rounds):
            written = bench.run(program, "Bench::Write", bench.size)["seconds"]
            uploaded = bench.run(program, "Bench::Upload", bench.size)["seconds"]
            export = bench.run(program, "Bench::Export", bench.size, f"gs://exports/{number}.csv")
            found.append(
                {
                    "write_s": round(written, 2),
                    "upload_s": round(uploaded, 2),
                    "export_s": round(export["seconds"], 2),
                    "ratio": round(export["seconds"] / max(written, uploaded), 3),
                    "memory_mb": round(export["memory"], 1),
                }
            )
            bench.cloud.counters(f"forget {number}.csv")
    found.append({"median_ratio": statistics.median(row["ratio"] for row in found), "at_most": 1.3})
    return found


def _stops(bench: Bench, stops: int) -> machine.Row:
    """One export through so many TERMs: what is uploaded after each, and in all."""
    exports = [result["seconds"] for result in bench.results() if result["what"] == "export"]
    pause = statistics.median(exports) / (stops + 2)
    before, known = bench.cloud.counters()["received"], len(bench.results())
    bench.push("Bench::Export", bench.size, "gs://exports/stopped.csv")
    after: list[float] = []
    seconds: list[float] = []
    for _ in range(stops):
        with bench.worker() as program:
            bench.wait_until_it_goes_on(program)
            time.sleep(pause)
            told, received = time.perf_counter(), bench.cloud.counters()["received"]
            program.terminate()
            assert program.wait(60) == 0
            seconds.append(time.perf_counter() - told)
            after.append((bench.cloud.counters()["received"] - received) / MB)
    with bench.worker() as program:
        wait_for(lambda: len(bench.results()) > known, TIMEOUT, "the export", program)
    counters = bench.cloud.counters()
    size = counters["exports"]["stopped.csv"]
    return {
        "stops": stops,
        "uploaded_after_term_mb": [round(each, 1) for each in after],
        "stop_s": [round(each, 2) for each in seconds],
        "received_of_size": round((counters["received"] - before) / size, 4),
        "at_most": 1.05,
        "parts_left": counters["parts"],
    }


def _restore(bench: Bench) -> machine.Row:
    with bench.worker() as program:
        known = len(bench.results())
        bench.push("Bench::Restore", bench.size)
        wait_for(lambda: len(bench.results()) > known + 1, TIMEOUT, "the file is back", program)
    restored, fetched = bench.results()[known:]
    return {
        "restore_s": round(restored["seconds"], 2),
        "fetch_s": round(fetched["seconds"], 2),
        "ratio": round(restored["seconds"] / fetched["seconds"], 2),
        "memory_mb": round(restored["memory"], 1),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    machine.add_options(parser)
    parser.add_argument("--size", type=int, default=1024, help="MB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stops", type=int, default=6)
    parser.add_argument("--bandwidth", type=float, default=60.0, help="MB a second, of each connection; 0: no limit")
    return parser.parse_args()


if __name__ == "__main__":
    main()
