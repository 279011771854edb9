"""The demo: jobs as Rails enqueues them, a real `pyqik work`, a `kill -9` in the middle, and a deploy.

Exits 0 only if the counts at the end are those that pyqik promises. Nothing that it starts outlives it.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import redis

from pyqik.worker.processes.embedded import EmbeddedServer

HERE: Final = Path(__file__).parent
RECEIPTS: Final = 120
REPORTS: Final = 80
TOTAL: Final = RECEIPTS + REPORTS
#: Seconds that `pyqik work` gives its jobs when it is told to stop, and that the demo waits for anything at most.
TIMEOUT: Final = 2
PATIENCE: Final = 30.0
COMMAND: Final = f"work -r demo_jobs -q receipts -q reports --processes 2 -c 5 -t {TIMEOUT}"


def main() -> int:
    """Run the demo; the exit status."""
    server = EmbeddedServer()
    url = server.start()
    try:
        with redis.Redis.from_url(url, decode_responses=True) as client, tempfile.TemporaryFile() as log:
            version = client.info("server").get("valkey_version", "")
            say(f"pyqik demo: Rails enqueues, Python runs. The Redis is a private Valkey {version}; there is no Ruby.")
            enqueue(client)
            worker = start_worker(url, log)
            try:
                return Demo(client, worker, log).run()
            finally:
                if worker.poll() is None:
                    worker.terminate()
                worker.wait()
    finally:
        server.stop()


def enqueue(client: redis.Redis) -> None:
    """Write what Sidekiq's client writes, without any of pyqik's code."""
    receipts = [sidekiq_7("Billing::SendReceipt", "receipts", [number], retry=5) for number in range(RECEIPTS)]
    reports = [sidekiq_8("Reports::Build", "reports", [number, "2027-01"]) for number in range(REPORTS)]
    troubles = [
        sidekiq_8("Billing::Charge", "receipts", [1]),
        sidekiq_8("Billing::Charge", "receipts", [2], retry=0),
        sidekiq_7("Billing::Refund", "receipts", [3]),
        '{"class":"Billing::SendReceipt","args":[4',
    ]
    client.sadd("queues", "receipts", "reports")
    client.lpush("queue:receipts", *troubles, *receipts)
    client.lpush("queue:reports", *reports)
    headline("Rails enqueues")
    say(
        f"  LPUSH queue:receipts  {RECEIPTS} jobs as Sidekiq 7 writes them, and {len(troubles)} that will fail",
        f"  LPUSH queue:reports   {REPORTS} jobs as Sidekiq 8 writes them",
    )


def start_worker(url: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A real `pyqik work`, without settings of the surroundings that are meant for another one."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("PYQIK_", "REDIS_", "RAILS_"))}
    headline(f"pyqik {COMMAND}")
    return subprocess.Popen(
        [sys.executable, "-m", "pyqik", *COMMAND.split(), "--port", "0", "--log-format", "json"],
        cwd=HERE,
        env={**mine, "REDIS_URL": url},
        stdout=log,
        stderr=subprocess.STDOUT,
    )


class Demo:
    """What happens to the worker and its jobs, told step by step."""

    def __init__(self, client: redis.Redis, worker: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._redis = client
        self._worker = worker
        self._log = log
        self._wrong: list[str] = []

    def run(self) -> int:
        """Run every step; the exit status."""
        try:
            self._wait_for_children()
            self._kill_a_child()
            self._wait_for_every_job()
            self._show_failures()
            self._deploy()
        except Exception:
            headline("The demo failed. The end of the worker's log:")
            say(*self._log_lines()[-20:], "")
            raise
        headline("Some counts are not as promised:" if self._wrong else "Every count is as promised.")
        say(*(f"  {wrong}" for wrong in self._wrong))
        return 1 if self._wrong else 0

    # The steps.

    def _wait_for_children(self) -> None:
        started = time.monotonic()
        self._wait_for(lambda: len(self._children()) == 2, "two processes in Sidekiq's list of processes")
        say(f"  two processes are on Sidekiq's Busy page after {time.monotonic() - started:.1f} s")

    def _kill_a_child(self) -> None:
        self._wait_for(lambda: self._redis.hlen("demo:finished") >= TOTAL // 4, "a quarter of the jobs")
        victim = self._wait_for(self._busy_child, "a child in the middle of its jobs")
        killed_at = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        cut_off = len(self._in_hand(victim))
        given_back = self._wait_for(self._given_back, "the dead child's jobs where others find them")
        took = time.monotonic() - killed_at
        headline(f"kill -9 {victim}")
        say(
            f"  one of the two died in the middle of {cut_off} jobs",
            f"  {given_back} jobs were on their way to others after {took:.2f} s: each runs alone next, as any of them",
            "  may have killed the child",
        )

    def _wait_for_every_job(self) -> None:
        self._wait_for(lambda: self._redis.hlen("demo:finished") >= TOTAL and not self._waiting(), "every job")
        starts = [int(count) for count in self._redis.hvals("demo:started")]
        twice = sum(count > 1 for count in starts)
        finished, given_back = int(self._redis.hlen("demo:finished")), self._given_back()
        headline("Every job ran")
        say(
            f"  {finished} of {TOTAL} jobs finished; {twice} of them were started twice: the kill cut them off",
            "  (at least once is the promise, so a job should bear being run again)",
        )
        self._expect(finished == TOTAL, f"{finished} jobs finished, not {TOTAL}")
        self._expect(0 < twice <= given_back, f"{twice} jobs were started twice, {given_back} were given back")
        self._expect(max(starts) <= 2, f"a job was started {max(starts)} times")

    def _show_failures(self) -> None:
        headline("What could not succeed is kept where Sidekiq's Web UI shows it")
        for key, expected in (("retry", 2), ("dead", 2)):
            entries: list[tuple[str, float]] = list(self._redis.zscan_iter(key))
            for raw, score in entries:
                due = f", again in {score - time.time():.0f} s" if key == "retry" else ""
                say(f"  {key:5}  {described(raw)}{due}")
            self._expect(len(entries) == expected, f"{len(entries)} entries in {key}, not {expected}")

    def _deploy(self) -> None:
        job = sidekiq_8("Reports::Yearly", "reports", [7])
        self._redis.lpush("queue:reports", job)
        self._wait_for(lambda: self._redis.hexists("demo:in-hand", "yearly report 7"), "the yearly report")
        told_at = time.monotonic()
        self._worker.send_signal(signal.SIGTERM)
        status = self._worker.wait(PATIENCE)
        took = time.monotonic() - told_at
        left = [str(raw) for raw in self._redis.lrange("queue:reports", 0, -1)]
        headline("A deploy: kill -TERM while a job of one minute runs")
        say(
            f"  exit status {status} after {took:.1f} s ({TIMEOUT} s are granted); the job is "
            f"{'back at the front of its queue, unchanged' if left == [job] else 'NOT in its queue'}",
        )
        self._expect(status == 0, f"the exit status is {status}")
        self._expect(left == [job], f"queue:reports holds {left}")
        self._expect(took <= TIMEOUT + 5, f"the stop took {took:.1f} seconds")
        self._expect(not self._children(), "a process is still listed")

    def _wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """The first truthy value of `condition()`. Raises: RuntimeError if the worker ends or time runs out before."""
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            if self._worker.poll() is not None:
                raise RuntimeError(f"pyqik work ended with status {self._worker.returncode} before there was {what}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {PATIENCE:g} seconds in vain for {what}")
            time.sleep(0.01)
        return value

    # What Redis and the log say.

    def _children(self) -> list[int]:
        return [int(str(identity).split(":")[-2]) for identity in self._redis.smembers("processes")]

    def _in_hand(self, pid: int) -> list[str]:
        return [str(name) for name, owner in self._redis.hgetall("demo:in-hand").items() if int(owner) == pid]

    def _busy_child(self) -> int | None:
        return next((pid for pid in self._children() if len(self._in_hand(pid)) >= 3), None)

    def _waiting(self) -> int:
        return int(self._redis.llen("queue:receipts") + self._redis.llen("queue:reports"))

    def _given_back(self) -> int:
        told = ("gave back", "runs alone next")
        return sum(int(json.loads(line)["count"]) for line in self._log_lines() if any(text in line for text in told))

    def _log_lines(self) -> list[str]:
        # Without what follows the last newline: it may be the first half of a line.
        return os.pread(self._log.fileno(), 10_000_000, 0).decode(errors="replace").split("\n")[:-1]

    def _expect(self, fits: bool, wrong: str) -> None:
        if not fits:
            self._wrong.append(wrong)


def sidekiq_7(job_class: str, queue: str, args: list[Any], retry: bool | int = True) -> str:
    """The text that Sidekiq 7's client pushes: times are seconds."""
    return payload(job_class, queue, args, retry, time.time())


def sidekiq_8(job_class: str, queue: str, args: list[Any], retry: bool | int = True) -> str:
    """The text that Sidekiq 8's client pushes: times are milliseconds."""
    return payload(job_class, queue, args, retry, int(time.time() * 1000))


def payload(job_class: str, queue: str, args: list[Any], retry: bool | int, now: float) -> str:
    """A job's hash, in the order of Sidekiq's fields and as compact as Ruby writes JSON."""
    fields = {"retry": retry, "queue": queue, "args": args, "class": job_class, "jid": secrets.token_hex(12)}
    return json.dumps({**fields, "created_at": now, "enqueued_at": now}, separators=(",", ":"))


def described(raw: str) -> str:
    """An entry of the retry or the dead set in a few words."""
    try:
        job = json.loads(raw)
    except ValueError:
        return f"not JSON, kept as it is: {raw}"
    return f"{job['class']} {job['args']}: {job['error_class']}: {job['error_message'].partition(';')[0]}"


def headline(text: str) -> None:
    """Begin a step."""
    say(f"\n{text}")


def say(*lines: str) -> None:
    """Write lines at once, also into a pipe."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
