"""A child, as the supervisor sees it: an operating system process, what it last reported, and when it must be gone.

What its end means is for `crash` to say, and whether it is stuck for `stuck`.
"""

from __future__ import annotations

import enum
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import structlog

from pyqik.core.config import Config
from pyqik.wire.presence import ProcessInfo, Running
from pyqik.wire.statistics import Executions
from pyqik.worker.engine.board import Entry, SharedBoard
from pyqik.worker.identity import make_identity, process_info
from pyqik.worker.processes.channel import Channel, Message
from pyqik.worker.processes.oom import offer
from pyqik.worker.processes.stack_file import StackFile
from pyqik.worker.upkeep.crash import End
from pyqik.worker.upkeep.heartbeat import resident_kb
from pyqik.worker.upkeep.suspects import Death

log = structlog.get_logger("pyqik")

#: Seconds after the stop's deadline at which a child that has not ended is killed. With what follows (giving back what
#: it held, unregistering, the end of Python itself) the whole process ends within 3 seconds of the deadline, on a busy
#: machine too.
KILL_AFTER: Final = 2.0
#: Seconds that a child has to end that was declared dead.
SUPERSEDED_PATIENCE: Final = 5.0
#: Seconds by which a child that has settled everything, but does not end, is killed sooner.
KILL_SOONER: Final = 0.5


class State(enum.Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    READY = "ready"
    QUIET = "quiet"
    STOPPING = "stopping"
    #: Declared dead by others, who run its jobs again: it must end.
    SUPERSEDED = "superseded"
    ENDED = "ended"


class ChildProcess:
    """A child. Its methods are called in the supervisor's main thread, those for the heartbeat in the heartbeat's."""

    def __init__(self, config: Config, custody: str = "", *, is_first: bool = False) -> None:
        """With `custody`, the identity of one, it runs what waits there; the first one also tries whether the files of
        jobs can be kept. Raises: OSError if it cannot be started.
        """
        self._channel, theirs = Channel.pair()
        self._board = SharedBoard()
        self.stacks = StackFile()
        try:
            with theirs:
                inherited = (theirs.fileno(), self._board.fileno(), self.stacks.fileno())
                self._popen = subprocess.Popen(
                    [sys.executable, "-m", "pyqik.worker.processes.child", *map(str, inherited)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=inherited,
                    # A process group of its own: Ctrl-C reaches the supervisor alone, which stops its children.
                    process_group=0,
                )
        except OSError:
            self._channel.close()
            self.close()
            raise
        self.pid = self._popen.pid
        offer(self.pid)
        self.identity = make_identity(self.pid)
        self.state = State.STARTING
        self.config = config
        self.started = time.monotonic()
        self._started_at = time.time()
        self.kill_at: float | None = None
        self.killed = False
        self.superseded = False
        self.connected = True
        self.is_solo = bool(custody)
        #: When it last said that all is well, and when it last said anything: seconds as `time.monotonic` has them.
        self.heard = self.spoke = self.started
        #: The job beyond its `stuck_after` for which it is to be killed: whatever ends it now, that one is blamed.
        self.overdue: Entry | None = None
        self._said_goodbye = False
        self._lost: list[Entry] = []
        self._lock = threading.Lock()
        self._executions = Executions()
        self._channel.send("start", config=config.to_dict(), identity=self.identity, custody=custody, is_first=is_first)

    # Orders.

    def quiet(self) -> None:
        """Ask it to take no new jobs."""
        if self.state in (State.STARTING, State.READY):
            self.state = State.QUIET
        self._channel.send("quiet")

    def stop(self, timeout: float) -> None:
        """Ask it to end within `timeout` seconds; it is killed if it does not."""
        self._stopping(timeout)
        self._channel.send("stop", timeout=timeout)

    def supersede(self) -> None:
        """Tell it that it was declared dead, so that it ends; it is killed if it does not."""
        if not self.superseded:
            self._be_superseded()
            self._channel.send("superseded")

    def dump(self) -> None:
        """Ask it to log its stacks."""
        self._channel.send("dump")

    def tell_of_death(self, death: Death) -> None:
        """Have it call the death handlers of a job that the supervisor has put into the dead set."""
        self._channel.send("died", **asdict(death))

    def kill(self) -> None:
        """SIGKILL. What it held is given back by the supervisor."""
        if self._popen.poll() is None:
            self.killed = True
            self._popen.kill()

    # News.

    def fileno(self) -> int:
        """The descriptor to poll for its messages."""
        return self._channel.fileno()

    def receive(self) -> bool:
        """Read its messages; whether it has just become ready."""
        ready = False
        for message in self._channel.receive():
            self.spoke = time.monotonic()
            if message.get("answers", True):
                self.heard = self.spoke
            ready |= message["kind"] == "ready"
            self._note(message)
        return ready

    @property
    def hung_up(self) -> bool:
        """Whether its end of the channel is closed: it has ended, or soon will have."""
        return self._channel.closed

    def ended(self) -> End | None:
        """How it ended, or None while it lives."""
        status = self._popen.poll()
        if status is None:
            return None
        for message in self._channel.rest():
            self._note(message)
        expected = self._said_goodbye or self.killed or self.superseded
        return End(status, expected, self.entries(), self.overdue, self._lost)

    def last_words(self) -> dict[str, str]:
        """The stacks that a child has left which crashed by a signal of its own, for the log."""
        stack = "" if self.killed else self.stacks.read()
        return {"stack": stack} if stack else {}

    def entries(self) -> list[Entry]:
        """What stands on its board."""
        return self._board.entries()

    def close(self) -> None:
        """It has ended, and nobody asks any more what it ran."""
        self._board.close()
        self.stacks.close()

    # For the heartbeat (see `heartbeat.Process`).

    @property
    def info(self) -> ProcessInfo:
        """What the Web UI shows of it."""
        return process_info(self.config, self.identity, self.pid, self._started_at)

    @property
    def is_quiet(self) -> bool:
        """Whether it takes no new work."""
        return self.state in (State.QUIET, State.STOPPING, State.SUPERSEDED, State.ENDED)

    def running(self) -> Sequence[Running]:
        """What it runs; what it ran last, once it has ended."""
        return [entry.running for entry in self._board.entries()]

    def drain_executions(self) -> Executions:
        """What it reported since the last call."""
        with self._lock:
            drained, self._executions = self._executions, Executions()
        return drained

    def rss_kb(self) -> int:
        """Its resident memory."""
        return resident_kb(self.pid)

    def _note(self, message: Message) -> None:
        match message["kind"]:
            case "ready":
                self.config = Config.from_dict(message["config"])
                if self.state is State.STARTING:
                    self.state = State.READY
            case "report":
                with self._lock:
                    self._executions.merge(Executions.from_wire(message["executions"]))
                self.connected = message["connected"]
                if message["quiet"] and self.state is State.READY:
                    self.state = State.QUIET
            case "stopping":
                self._stopping(self.config.timeout)
            case "superseded" if not self.superseded:
                self._be_superseded()
            case "lost":
                self._lost = [entry for entry in self.entries() if entry.slot in message["slots"]]
            case "bye":
                self._said_goodbye = True
                # A thread that a job has left behind keeps Python from ending. There is nothing more to lose.
                kill_at = time.monotonic() + self.config.timeout + KILL_AFTER if self.kill_at is None else self.kill_at
                self.kill_at = kill_at - KILL_SOONER

    def _be_superseded(self) -> None:
        self.superseded = True
        if self.state is not State.STOPPING:
            self.state = State.SUPERSEDED
        kill_at = time.monotonic() + SUPERSEDED_PATIENCE
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)

    def _stopping(self, timeout: float) -> None:
        if self.state is not State.STOPPING:
            self.state = State.STOPPING
            self.kill_at = time.monotonic() + timeout + KILL_AFTER
