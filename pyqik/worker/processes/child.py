"""One child of `pyqik work`: one Sidekiq process in the Web UI's eyes. It imports the user's modules and runs the jobs.

Its main thread, once everything is started, has these tasks:
1. obey the supervisor (quiet, stop, dump) and signals sent to this process itself;
2. report to the supervisor each second; what runs stands on a board that both see. The supervisor writes it to Redis,
   so that C code which holds the GIL for minutes makes a job look busy and not dead;
3. at the stop's deadline, interrupt what still runs;
4. should the supervisor be gone: let the jobs be given back and end, in the middle of those that cannot be interrupted
   (what is left then is the guardian's);
5. should a thread of the engine die, or this process have been declared dead, which only a freeze or a cut cable
   explains: interrupt the jobs, whose outcomes nobody could write, and end;
6. should this process have grown too large: end after its jobs, of which the long ones go on elsewhere.
Started as `python -m pyqik.worker.processes.child CHANNEL BOARD STACKS`, three file descriptors.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

import structlog

from pyqik.core.clock import SystemClock
from pyqik.core.config import Config
from pyqik.core.errors import StoreError
from pyqik.core.events import events
from pyqik.jobs import process
from pyqik.jobs.registry import registry
from pyqik.worker import logs
from pyqik.worker.engine.capsules import Capsules
from pyqik.worker.hooks import Hooks
from pyqik.worker.processes.channel import Channel, Message
from pyqik.worker.processes.obituary import tell_of_death
from pyqik.worker.processes.signals import MEANINGS, SignalInbox
from pyqik.worker.processes.stack_file import write_stacks_to
from pyqik.worker.store_check import check_store
from pyqik.worker.upkeep.heartbeat import resident_kb
from pyqik.worker.upkeep.suspects import Death

log = structlog.get_logger("pyqik")

#: Seconds between two reports.
REPORT_INTERVAL: Final = 1.0
#: Seconds of CPU time after which Python hands the GIL on. Beside ten CPU-bound threads a pushed job starts after 40 ms
#: at the median and 120 at the 99th percentile with 0.5 ms, after 20 and 70 with this; Python's default is 5 ms. The
#: threads themselves lose about a twentieth to the switching.
SWITCH_INTERVAL: Final = 0.0002
#: Seconds without a round of a fetcher after which this child does not answer: Redis may take half of it.
SILENT: Final = 30.0
#: Seconds that the last message has to be sent: the supervisor may be busy.
LAST_WORDS: Final = 1.0
#: What a child exits with: everything was finished or given back; it could not start; its engine died; it was declared
#: dead.
EXIT_OK, EXIT_START_FAILED, EXIT_ENGINE_DIED, EXIT_SUPERSEDED = 0, 2, 3, 4
#: Seconds that interrupted jobs have to end when the supervisor is gone.
ORPHAN_PATIENCE: Final = 2.0
#: Seconds that hooks and threads of the jobs' own have after that.
LAST_HOOKS: Final = 3.0


class Child:
    """See the module's docstring."""

    def __init__(
        self, channel: Channel, inbox: SignalInbox, identity: str, config: Config, board_fileno: int, custody: str
    ) -> None:
        self._channel = channel
        self._inbox = inbox
        self._identity = identity
        self._config = config
        self._deadline: float | None = None
        self._orphaned_at: float | None = None
        self._ended = threading.Event()
        self._clean = False
        self._hooks = Hooks()
        self._capsules = Capsules(config, identity, registry, SystemClock(), self._on_end, board_fileno, custody)

    def run(self, early: Sequence[Message]) -> int:
        """Run until told to stop; the exit status. `early` are orders that came during the start."""
        try:
            self._hooks.startup()
        except BaseException:
            return EXIT_START_FAILED
        for message in early:
            self._obey(message)
        self._wait(0.0)  # What came while the hooks ran: a stop, for instance, and then no job is taken.
        self._capsules.start()
        self._channel.send("ready", config=self._config.to_dict())
        next_report = 0.0
        while not self._ended.is_set():
            now = time.monotonic()
            if now >= next_report:
                self._report()
                self._look_for_lost_threads()
                self._look_at_memory()
                next_report = now + REPORT_INTERVAL
            until = next_report if self._deadline is None else min(next_report, self._deadline)
            self._wait(until - now)
            self._check_deadline()
        status = EXIT_OK if self._clean else EXIT_SUPERSEDED if self._capsules.superseded else EXIT_ENGINE_DIED
        ended = self._capsules.join(1.0) if self._clean else self.unwind()
        self._report(LAST_WORDS)
        self._channel.send("bye")
        self._channel.flush(LAST_WORDS)
        self._hooks.shutdown()
        if not ended and not self._clean:
            log.error("ending in the middle of jobs", running=len(self._capsules.running()))
            os._exit(status)
        return status

    def _wait(self, timeout: float) -> None:
        watched: list[Channel | SignalInbox] = [self._inbox] if self._channel.closed else [self._channel, self._inbox]
        ready, _, _ = select.select(watched, [], [], max(timeout, 0.0))
        if self._channel in ready:
            for message in self._channel.receive():
                self._obey(message)
        if self._channel.closed and self._orphaned_at is None:
            self._become_an_orphan()
        if self._inbox in ready:
            for name in self._inbox.receive():
                self._obey({"kind": MEANINGS.get(name, "")})

    def _obey(self, message: Message) -> None:
        match message["kind"]:
            case "quiet":
                self._quiet()
            case "stop":
                self._stop(message.get("timeout", self._config.timeout))
            case "dump":
                self._capsules.dump_stacks()
            case "superseded":
                self._capsules.probe()
            case "died":
                death = Death(**{name: value for name, value in message.items() if name != "kind"})
                # The author's code, which may take its time: this thread has to report.
                handlers = self._capsules.handlers
                handlers.aside(lambda: tell_of_death(death, self._config.redis, handlers))

    def _quiet(self) -> None:
        if not self._capsules.is_quiet:
            log.info("quiet: no new jobs; those that run go on")
            self._capsules.quiet()
            self._hooks.quiet()
        self._report()

    def _stop(self, timeout: float) -> None:
        if self._deadline is None:
            self._quiet()
            running = len(self._capsules.running())
            log.info("stop: waiting for running jobs", running=running, timeout=timeout)
            self._deadline = time.monotonic() + timeout
            self._capsules.finish()
            self._channel.send("stopping")

    def _check_deadline(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline and not self._ended.is_set():
            log.warning("the stop timeout is over; interrupting jobs", running=len(self._capsules.running()))
            self._deadline = time.monotonic() + 1.0  # A job that swallowed the first one hears a second one.
            self._capsules.interrupt()
        if self._orphaned_at is not None and time.monotonic() >= self._orphaned_at + ORPHAN_PATIENCE:
            log.error("ending in the middle of jobs; they are given back", running=len(self._capsules.running()))
            os._exit(EXIT_OK)

    def _become_an_orphan(self) -> None:
        """Nobody is there who would kill this process at a deadline, so it has none: its jobs are given back now."""
        log.error("the supervisor is gone; giving the jobs back")
        self._orphaned_at = time.monotonic()
        # Neither a hook on the way out nor a thread that a job has left behind may keep what nobody looks after.
        last = threading.Timer(ORPHAN_PATIENCE + LAST_HOOKS, os._exit, [EXIT_OK])
        last.daemon = True
        last.start()
        self._stop(0.0)

    def unwind(self) -> bool:
        """Interrupt what runs: nobody could write its outcome any more. Whether all of it has ended."""
        if self._capsules.superseded:
            events.emit("process.superseded", identity=self._identity)
            self._channel.send("superseded")
        return self._capsules.unwind()

    def _look_for_lost_threads(self) -> None:
        slots = self._capsules.lost_slots()
        if slots or self._capsules.lost_the_loop():
            log.error("a thread that runs jobs has died; this process cannot go on", slots=slots)
            self._channel.send("lost", slots=slots)
            self._ended.set()

    def _look_at_memory(self) -> None:
        """A process that has grown too large makes room for a new one; long jobs go on there."""
        limit = self._config.max_memory
        if limit is None or self._capsules.is_quiet:
            return
        megabytes = resident_kb(os.getpid()) // 1024
        if megabytes > limit:
            log.warning("this process has grown too large; it ends after its jobs", megabytes=megabytes, limit=limit)
            self._capsules.free_memory()
            self._capsules.finish()
            self._hooks.quiet()

    def _report(self, patience: float = 0.0) -> None:
        if not self._channel.flush(patience):
            return  # The supervisor reads nothing. What has been executed since is told when it does.
        self._channel.send(
            "report",
            answers=self._capsules.silence < SILENT,
            executions=self._capsules.drain_executions().to_wire(),
            quiet=self._capsules.is_quiet,
            connected=self._capsules.connected,
        )

    def _on_end(self, clean: bool) -> None:
        self._clean = clean
        self._ended.set()
        self._inbox.wake()


def start(message: Message, early: Sequence[Message], channel: Channel, inbox: SignalInbox, board_fileno: int) -> int:
    """Configure this process, import the modules that register jobs, and run; the exit status."""
    given = Config.from_dict(message["config"])
    logs.configure(given.log_level, given.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL)
    with contextlib.suppress(FileNotFoundError):  # A deploy has removed it: what is installed can be imported.
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
    try:
        for module in given.require:
            importlib.import_module(module)
    except BaseException:
        log.exception("could not import a module that registers jobs", module=module)
        return EXIT_START_FAILED
    configured = process.configured()
    if not registry.names():
        log.warning("no job is registered, so every job will fail; name the modules that register jobs with -r")
    config = given if configured is None else given.over(configured)
    process.use(config)
    if message["is_first"]:
        # Later ones are started by a process whose other jobs run: they can do without it.
        try:
            check_store(config.files)
        except StoreError as error:
            log.error("the files of jobs cannot be kept where the configuration says", error=str(error))
            return EXIT_START_FAILED
    child = Child(channel, inbox, message["identity"], config, board_fileno, message["custody"])
    try:
        return child.run(early)
    except BaseException:
        log.exception("the main thread died; this process cannot go on")
        child.unwind()
        # No job is to blame for that, so it must not look like a crash.
        channel.send("bye")
        return EXIT_ENGINE_DIED


def main() -> int:
    """Wait for the supervisor's first message, and start."""
    end = socket.socket(fileno=int(sys.argv[1]))
    board_fileno, stacks_fileno = int(sys.argv[2]), int(sys.argv[3])
    for fileno in (end.fileno(), board_fileno, stacks_fileno):
        os.set_inheritable(fileno, False)
    write_stacks_to(stacks_fileno)
    channel = Channel(end)
    inbox = SignalInbox()
    while not channel.closed:
        select.select([channel], [], [])
        if messages := channel.receive():
            return start(messages[0], messages[1:], channel, inbox, board_fileno)
    return EXIT_START_FAILED


if __name__ == "__main__":
    status = main()
    # Python looks for garbage once more as it ends: with a model in memory for longer than the deadline lets it live.
    gc.freeze()
    sys.exit(status)
