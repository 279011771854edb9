"""The demo: a long import over which deploys and a `kill -9` come; then short jobs, as Rails enqueues them.

Exits 0 only if every result and every count is what pyqik promises. Nothing that it starts outlives it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import redis
from demo_stage import COMMAND, Stage, headline, say, sidekiq_7, sidekiq_8

from pyqik.worker.processes.embedded import EmbeddedServer

CUSTOMERS: Final = 250
RECEIPTS: Final = 60
REPORTS: Final = 40
TOTAL: Final = RECEIPTS + REPORTS


def main() -> int:
    """Run the demo; the exit status."""
    server = EmbeddedServer()
    url = server.start()
    try:
        with (
            redis.Redis.from_url(url, decode_responses=True) as client,
            tempfile.TemporaryDirectory() as folder,
            tempfile.TemporaryFile() as log,
            closing(sqlite3.connect(Path(folder) / "customers.sqlite3", isolation_level=None)) as database,
        ):
            version = client.info("server").get("valkey_version", "")
            say(f"pyqik demo: Rails enqueues, Python runs. The Redis is a private Valkey {version}; there is no Ruby.")
            stage = Stage(client, url, Path(folder) / "customers.sqlite3", log)
            try:
                return run(stage, Imports(stage, Path(folder) / "customers.csv", database), ShortJobs(stage))
            finally:
                stage.stop_worker()
    finally:
        server.stop()


def run(stage: Stage, imports: Imports, short_jobs: ShortJobs) -> int:
    """Run every part; the exit status."""
    try:
        imports.run()
        short_jobs.run()
        stage.stop_worker()
    except Exception:
        headline("The demo failed. The end of the worker's log:")
        say(*stage.log_lines()[-20:], "")
        raise
    headline("Some things are not as promised:" if stage.wrong else "Everything is as promised.")
    say(*(f"  {wrong}" for wrong in stage.wrong))
    return 1 if stage.wrong else 0


class Imports:
    """One file, imported three times: undisturbed, over two deploys, and over a `kill -9`."""

    def __init__(self, stage: Stage, path: Path, database: sqlite3.Connection) -> None:
        self._stage = stage
        self._path = path
        self._database = database

    def run(self) -> None:
        """All three of them."""
        self._write_file()
        self._undisturbed()
        self._deployed_over()
        self._killed()

    def _write_file(self) -> None:
        with self._path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "name", "address"])
            for number in range(CUSTOMERS):
                rows.writerow([number, f"Zoë {number}", f"{number} High Street\nSpringfield"])
        # Several processes write, one after the other, and nothing of it has to survive the machine.
        self._database.execute("PRAGMA journal_mode = WAL")

    def _undisturbed(self) -> None:
        pid = self._stage.start_worker()
        headline(f"pyqik {COMMAND}\n  process {pid}")
        self._push("undisturbed")
        self._wait_until_imported("undisturbed")
        headline(f"A long job: {CUSTOMERS} customers from a CSV file, undisturbed")
        say(f"  {self._summary('undisturbed')}")

    def _deployed_over(self) -> None:
        headline("The same, and two deploys come: kill -TERM, and a new process")
        jid = self._push("deployed_over")
        for share in (1, 2):
            self._wait_for_rows("deployed_over", CUSTOMERS * share // 3)
            took = self._stage.stop_worker()
            state = self._stage.redis.hgetall(f"it-{jid}")
            done = json.loads(state["counters"])["imported"]
            waits = self._stage.redis.llen("queue:imports")
            self._stage.expect(waits == 1, f"{waits} imports wait after the stop")
            say(f"  TERM: gone after {took:.2f} s, with {done} rows done; process {self._stage.start_worker()} goes on")
        self._wait_until_imported("deployed_over")
        say(f"  {self._summary('deployed_over')}")
        self._compare("deployed_over", runs=3, exactly_once=True)

    def _killed(self) -> None:
        headline("The same, and in the middle of it: kill -9")
        self._push("killed")
        self._wait_for_rows("killed", CUSTOMERS // 2)
        (victim,) = self._runs("killed")
        os.kill(victim, signal.SIGKILL)
        killed_at, done = time.monotonic(), self._rows("killed")
        self._stage.wait_for(lambda: len(self._runs("killed")) > 1, "another process at the import")
        took = time.monotonic() - killed_at
        say(f"  killed with {done} rows done; {took:.2f} s later process {self._runs('killed')[-1]} goes on")
        self._wait_until_imported("killed")
        say(f"  {self._summary('killed')}")
        self._compare("killed", runs=2, exactly_once=False)

    # What it takes.

    def _push(self, table: str) -> str:
        self._database.execute(
            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT, address TEXT, writes INTEGER)",
        )
        job = sidekiq_8("Customers::Import", "imports", [str(self._path), table])
        self._stage.redis.sadd("queues", "imports")
        self._stage.redis.lpush("queue:imports", job)
        jid: str = json.loads(job)["jid"]
        return jid

    def _wait_for_rows(self, table: str, count: int) -> None:
        self._stage.wait_for(lambda: self._rows(table) >= count, f"{count} rows")

    def _wait_until_imported(self, table: str) -> None:
        self._stage.wait_for(lambda: self._stage.redis.exists(f"demo:imported:{table}"), "the end of the import")

    def _rows(self, table: str) -> int:
        (count,) = self._database.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)

    def _writes(self, table: str) -> int:
        (count,) = self._database.execute(f"SELECT sum(writes) FROM {table}").fetchone()
        return int(count)

    def _runs(self, table: str) -> list[int]:
        """The processes that the import has run in, in turn."""
        return [int(pid) for pid in self._stage.redis.lrange(f"demo:runs:{table}", 0, -1)]

    def _digest(self, table: str) -> str:
        rows = self._database.execute(f"SELECT id, name, address FROM {table} ORDER BY id").fetchall()
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]

    def _summary(self, table: str) -> str:
        rows, again, runs = self._rows(table), self._writes(table) - self._rows(table), len(self._runs(table))
        digest = self._digest(table)
        same = "" if table == "undisturbed" else ", the same" if digest == self._digest("undisturbed") else ", ANOTHER"
        written = "each written once" if not again else f"{again} written twice, which an upsert does not mind"
        return f"{rows} rows in {runs} run{'s' if runs > 1 else ''}, {written}; the table's digest is {digest}{same}"

    def _compare(self, table: str, *, runs: int, exactly_once: bool) -> None:
        expect, counted = self._stage.expect, int(self._stage.redis.get(f"demo:imported:{table}") or 0)
        expect(self._digest(table) == self._digest("undisturbed"), f"the table {table} is not as if undisturbed")
        expect(counted == CUSTOMERS, f"pyqik.counters says {counted} customers of {table}, not {CUSTOMERS}")
        expect(len(self._runs(table)) == runs, f"{table} took {len(self._runs(table))} runs, not {runs}")
        if exactly_once:
            expect(self._writes(table) == CUSTOMERS, f"{self._writes(table)} rows of {table} were written")


class ShortJobs:
    """Jobs as Sidekiq 7 and 8 write them, some of which must fail, and a `kill -9` in the middle."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._redis = stage.redis
        self._logged_before = 0

    def run(self) -> None:
        """Enqueue them, kill, and count."""
        self._logged_before = len(self._stage.log_lines())
        self._enqueue()
        self._kill_a_child()
        self._wait_for_every_job()
        self._show_failures()

    def _enqueue(self) -> None:
        receipts = [sidekiq_7("Billing::SendReceipt", "receipts", [number], retry=5) for number in range(RECEIPTS)]
        reports = [sidekiq_8("Reports::Build", "reports", [number, "2027-01"]) for number in range(REPORTS)]
        troubles = [
            sidekiq_8("Billing::Charge", "receipts", [1]),
            sidekiq_8("Billing::Charge", "receipts", [2], retry=0),
            sidekiq_7("Billing::Refund", "receipts", [3]),
            '{"class":"Billing::SendReceipt","args":[4',
        ]
        self._redis.sadd("queues", "receipts", "reports")
        self._redis.lpush("queue:receipts", *troubles, *receipts)
        self._redis.lpush("queue:reports", *reports)
        headline("Short jobs")
        say(
            f"  LPUSH queue:receipts  {RECEIPTS} jobs as Sidekiq 7 writes them, and {len(troubles)} that will fail",
            f"  LPUSH queue:reports   {REPORTS} jobs as Sidekiq 8 writes them",
        )

    def _kill_a_child(self) -> None:
        victim = self._stage.wait_for(self._busy_child, "a child in the middle of its jobs")
        os.kill(victim, signal.SIGKILL)
        cut_off = len(self._in_hand(victim))
        self._stage.wait_for(self._given_back, "the dead child's jobs where others find them")
        say(f"  kill -9 {victim}, in the middle of {cut_off} jobs")

    def _wait_for_every_job(self) -> None:
        self._stage.wait_for(lambda: self._redis.hlen("demo:finished") >= TOTAL and not self._waiting(), "every job")
        starts = [int(count) for count in self._redis.hvals("demo:started")]
        twice = sum(count > 1 for count in starts)
        finished, given_back = int(self._redis.hlen("demo:finished")), self._given_back()
        say(f"  {finished} of {TOTAL} jobs finished; {twice} of them were started twice: the kill cut them off")
        self._stage.expect(finished == TOTAL, f"{finished} jobs finished, not {TOTAL}")
        self._stage.expect(0 < twice <= given_back, f"{twice} jobs were started twice, {given_back} were given back")
        self._stage.expect(max(starts) <= 2, f"a job was started {max(starts)} times")

    def _show_failures(self) -> None:
        headline("What could not succeed is kept where Sidekiq's Web UI shows it")
        for key, expected in (("retry", 2), ("dead", 2)):
            entries: list[tuple[str, float]] = list(self._redis.zscan_iter(key))
            for raw, score in entries:
                due = f", again in {score - time.time():.0f} s" if key == "retry" else ""
                say(f"  {key:5}  {described(raw)}{due}")
            self._stage.expect(len(entries) == expected, f"{len(entries)} entries in {key}, not {expected}")

    # What Redis and the log say.

    def _in_hand(self, pid: int) -> list[str]:
        return [str(name) for name, owner in self._redis.hgetall("demo:in-hand").items() if int(owner) == pid]

    def _busy_child(self) -> int | None:
        return next((pid for pid in self._stage.processes() if len(self._in_hand(pid)) >= 3), None)

    def _waiting(self) -> int:
        return int(self._redis.llen("queue:receipts") + self._redis.llen("queue:reports"))

    def _given_back(self) -> int:
        told = ("gave back", "runs alone next")
        lines = self._stage.log_lines()[self._logged_before :]
        return sum(int(json.loads(line)["count"]) for line in lines if any(text in line for text in told))


def described(raw: str) -> str:
    """An entry of the retry or the dead set in a few words."""
    try:
        job = json.loads(raw)
    except ValueError:
        return f"not JSON, kept as it is: {raw}"
    return f"{job['class']} {job['args']}: {job['error_class']}: {job['error_message'].partition(';')[0]}"


if __name__ == "__main__":
    sys.exit(main())
