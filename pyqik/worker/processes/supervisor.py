"""`pyqik work`: starts the children, keeps them running, and stops them. It runs no user code.

Its tasks, all in the main thread, in one poll that nothing can block:
1. signals: quiet, stop and dump go to every child; what Sidekiq's Web UI asks of one child goes to that one;
2. children that end: their jobs are given back, and another child is started, unless this one was told to stop;
3. the suspects of a crash: solo children run them, one at a time;
4. children that do not answer, and jobs that run for longer than they may;
5. the stop: children that have not ended in time are killed; the heartbeat and the leases end last.
Redis is spoken to by its parts, each in a thread of its own: heartbeat, recovery, rescuer, poller. Should this process
be killed, its guardian does what is left to do.
"""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, ParamSpec

import structlog

from pyqik.core.config import Config
from pyqik.core.config.redis_url import redacted
from pyqik.worker.engine import stacks
from pyqik.worker.engine.board import Entry
from pyqik.worker.identity import make_identity
from pyqik.worker.processes.child import EXIT_START_FAILED
from pyqik.worker.processes.child_process import KILL_AFTER, ChildProcess, State
from pyqik.worker.processes.death_notices import DeathNotices
from pyqik.worker.processes.guard import Guard
from pyqik.worker.processes.oom import OomWatch, find_counter
from pyqik.worker.processes.parts import Parts
from pyqik.worker.processes.probes import Probes, Tally
from pyqik.worker.processes.reaper import is_first_process, reap
from pyqik.worker.processes.restarts import Restarts
from pyqik.worker.processes.signals import MEANINGS, SignalInbox
from pyqik.worker.processes.solo import SoloChildren, solo_config
from pyqik.worker.processes.stuck import Stuck
from pyqik.worker.upkeep.crash import End
from pyqik.worker.upkeep.suspects import Death

log = structlog.get_logger("pyqik")

Arguments = ParamSpec("Arguments")

#: Seconds between two looks at the clock: for restarts and kills, and for `/healthz`.
TICK: Final = 0.2
#: Seconds for giving back after the last child was killed, and then for unregistering: the process ends anyway.
LAST_WORDS: Final = 0.5
#: The same for each of many children.
LAST_WORD_EACH: Final = 0.05
#: What `pyqik work` exits with when something could not be given back, and when a bug ended one of its own threads.
EXIT_NOT_GIVEN_BACK, EXIT_PART_DIED = 1, 3


class Supervisor:
    """See the module's docstring."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._inbox = SignalInbox(signal.SIGCHLD)
        self._news: deque[Callable[[], None]] = deque()
        self._children: list[ChildProcess] = []
        self._unrecovered: set[str] = set()
        self._restarts = Restarts()
        self._quiet = False
        self._stop_deadline: float | None = None
        #: When a child last ended: seconds as `time.monotonic` has them.
        self._last_end = 0.0
        self._exit_status = 0
        self._custody = make_identity(os.getpid())
        self._solo: SoloChildren[ChildProcess] = SoloChildren()
        self._deaths = DeathNotices()
        self._oom = OomWatch(find_counter())
        self._stuck = Stuck(self._describe)
        self._tally = Tally()
        self._probes = Probes(lambda: list(self._children), self._stuck, self._tally)
        self._parts: Parts | None = None
        self._http = self._probes.serve(config)
        self._guard = Guard(config, self._custody)
        threading.excepthook = self._on_thread_died

    def run(self) -> int:
        """Start, run until the last child has ended, and leave; the exit status."""
        log.info("starting", redis=redacted(self._config.redis), queues=list(self._config.all_queues))
        try:
            self._start_child()
            while not self._finished():
                self._wait()
                self._tick()
        finally:
            self._leave()
        log.info("stopped", status=self._exit_status)
        return self._exit_status

    # The loop.

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._inbox, select.POLLIN)
        by_descriptor = {child.fileno(): child for child in self._children if not child.hung_up}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(self._until_due() * 1000):
            if descriptor in by_descriptor:
                self._listen(by_descriptor[descriptor])
        for name in self._inbox.receive():
            self._on_signal(name)
        while self._news:
            self._news.popleft()()

    def _listen(self, child: ChildProcess) -> None:
        before = child.state
        if child.receive():
            self._on_ready(child)
        elif child.state is not before:
            self._poke()

    def _tick(self) -> None:
        now = time.monotonic()
        self._probes.tick(now)
        self._oom.look()
        for child in list(self._children):
            if (end := child.ended()) is not None:
                self._on_ended(child, end)
            elif child.kill_at is not None and now >= child.kill_at and not child.killed:
                log.warning("the child did not end in time; killing it", pid=child.pid, running=len(child.running()))
                child.kill()
        for _ in range(self._restarts.take_due(now)):
            self._start_child()
        self._stuck.look(self._children, now)
        self._mind_suspects(now)
        self._guard.keep()
        if is_first_process():
            reap({self._guard.pid, *(child.pid for child in self._children)})

    def _until_due(self) -> float:
        """Seconds until the next tick, kill or restart, or until giving up on Redis."""
        due = [child.kill_at for child in self._children if not child.killed]
        due += [self._restarts.next_at, self._give_up_at]
        now = time.monotonic()
        return max(0.0, min([TICK, *(at - now for at in due if at is not None)]))

    def _finished(self) -> bool:
        if self._children or self._restarts:
            return False
        return not self._unrecovered or time.monotonic() >= self._give_up_at

    @property
    def _give_up_at(self) -> float:
        """When to end although Redis has not taken everything back; never, unless told to stop."""
        if self._stop_deadline is None:
            return math.inf
        # Whatever kept the last child from ending in time, the machine itself perhaps: its jobs get theirs.
        latest = max(self._stop_deadline + KILL_AFTER, self._last_end)
        return latest + max(LAST_WORDS, LAST_WORD_EACH * self._config.processes)

    # Signals.

    def _on_signal(self, name: str) -> None:
        meaning = MEANINGS.get(name)
        if meaning is None:
            return
        log.info("signal", signal=name, meaning=meaning)
        if meaning == "dump":
            stacks.dump({}, ())
            for child in self._children:
                self._stuck.dump(child, time.monotonic())
        elif meaning == "quiet":
            self._go_quiet()
        elif self._stop_deadline is None:
            self._stop()
        else:
            log.warning("a second stop: ending now")
            self._stop_deadline = time.monotonic() - KILL_AFTER
            for child in self._children:
                child.kill()

    def _on_remote_signal(self, identity: str, name: str) -> None:
        """A button of the Web UI, which means one process, that is one child."""
        for child in self._children:
            if child.identity == identity:
                match MEANINGS.get(name):
                    case "quiet":
                        child.quiet()
                    case "stop":
                        child.stop(child.config.timeout)
                    case "dump":
                        self._stuck.dump(child, time.monotonic())
                self._poke()

    def _on_superseded(self, identity: str) -> None:
        """Others took it for dead, as this process was frozen or cut off, and run its jobs again."""
        for child in self._children:
            if child.identity == identity:
                log.error("the child was taken for dead; ending it", child=child.pid, identity=identity)
                child.supersede()

    def _go_quiet(self) -> None:
        self._quiet = True
        self._restarts.clear()
        if self._parts is not None:
            self._parts.quiet()
            self._release_suspects(self._parts)
        for child in self._children:
            child.quiet()
        self._poke()

    def _stop(self) -> None:
        self._stop_deadline = time.monotonic() + self._config.timeout
        self._stop_children()

    def _stop_children(self) -> None:
        self._go_quiet()
        for child in self._children:
            child.stop(self._config.timeout)

    # Children.

    def _start_child(self, *, solo: bool = False) -> None:
        try:
            if solo:
                child = ChildProcess(solo_config(self._config), self._custody)
            else:
                child = ChildProcess(self._config, is_first=self._parts is None)
        except OSError as error:  # Too many processes or files, too little memory: that may pass.
            log.error("could not start a child; trying again", error=str(error), solo=solo)
            if solo:
                self._solo.ended(False, time.monotonic())
            else:
                self._restarts.add(0.0, time.monotonic())
            return
        self._children.append(child)
        self._guard.watch(child.pid, child.identity)
        log.info("child started", child=child.pid, identity=child.identity, solo=solo)

    def _on_ready(self, child: ChildProcess) -> None:
        log.info("child ready", child=child.pid, seconds=round(time.monotonic() - child.started, 3))
        if self._parts is None:
            # Only now is it known what the user's modules configure: the supervisor itself imports none of them.
            self._config = child.config
            self._guard.use(child.config)
            self._parts = Parts(
                child.config,
                self._custody,
                on_signal=self._told(self._on_remote_signal),
                on_superseded=self._told(self._on_superseded),
                on_waiting=self._told(self._on_waiting),
                on_death=self._told(self._on_death),
            )
            self._parts.start()
            if self._quiet:
                self._parts.quiet()
                self._release_suspects(self._parts)
            for _ in range(0 if self._quiet else child.config.processes - 1):
                self._start_child()
        self._parts.heartbeat.add(child)
        self._deaths.tell(self._children)

    def _on_ended(self, child: ChildProcess, end: End) -> None:
        self._children.remove(child)
        self._last_end = time.monotonic()
        was, child.state = child.state, State.ENDED
        told_to = was is State.STOPPING
        crash = end.crash(self._oom.claim)
        log.log(
            20 if told_to and crash is None else 40,
            "child ended",
            child=child.pid,
            how=end.how if crash is None else crash.cause,
            killed=child.killed,
            **child.last_words(),
        )
        if crash is not None:
            self._tally.crashes[crash.kind] += 1
        if self._parts is None:
            # It never got as far as taking a job.
            self._guard.forget(child.pid)
            child.close()
            if end.status == EXIT_START_FAILED or not told_to:
                self._exit_status = end.status if end.status > 0 else 1
            return
        self._unrecovered.add(child.identity)
        self._parts.recovery.give_back(
            child.identity,
            lambda count: self._tell(lambda: self._on_recovered(child, count)),
            # What goes wrong on the way out may be the fault of a hook; but one that has lost a thread goes by itself.
            None if was in (State.QUIET, State.STOPPING) and not end.lost else crash,
        )
        if child.is_solo:
            self._solo.ended(was is not State.STARTING, time.monotonic())
        elif not (told_to or self._quiet):
            self._restart(child)

    def _restart(self, child: ChildProcess) -> None:
        now = time.monotonic()
        if child.superseded:
            # It has done nothing wrong.
            self._restarts.at_once(now)
            return
        log.info("starting another child", delay=self._restarts.add(now - child.started, now))

    def _on_recovered(self, child: ChildProcess, count: int) -> None:
        self._unrecovered.discard(child.identity)
        assert self._parts is not None
        self._parts.heartbeat.remove(child.identity)
        self._guard.forget(child.pid)
        child.close()

    # Suspects.

    def _mind_suspects(self, now: float) -> None:
        if self._parts is None or self._quiet:
            return
        solo = [child for child in self._children if child.is_solo]
        if len(solo) == len(self._children) and not self._restarts:
            self._stop_children()  # All others were stopped from the Web UI.
        elif self._solo.is_wanted(solo, self._config.total_concurrency, now):
            self._start_child(solo=True)
        for child in self._solo.unneeded(solo, now):
            child.stop(self._config.timeout)

    def _release_suspects(self, parts: Parts) -> None:
        """Give back what waits to run alone: this process will not run it any more."""
        if self._tally.crashes:
            self._unrecovered.add(self._custody)
        parts.recovery.release_suspects(lambda: self._tell(lambda: self._unrecovered.discard(self._custody)))

    def _on_waiting(self, count: int) -> None:
        self._solo.waiting = count

    def _on_death(self, death: Death) -> None:
        self._tally.poison_pills += 1
        self._deaths.add(death)
        self._deaths.tell(self._children)

    def _describe(self, child: ChildProcess, entry: Entry) -> None:
        if self._parts is not None:
            self._parts.describe(child, entry)

    # From and to other threads.

    def _on_thread_died(self, died: threading.ExceptHookArgs) -> None:
        """In the dying thread: a bug has ended it, and without it this process cannot keep its promises."""
        name = "" if died.thread is None else died.thread.name
        log.error("a thread of pyqik died; stopping", thread=name, exc_info=died.exc_value)
        self._tell(self._stop_without_part)

    def _stop_without_part(self) -> None:
        self._exit_status = EXIT_PART_DIED
        if self._stop_deadline is None:
            self._stop()

    def _tell(self, news: Callable[[], None]) -> None:
        self._news.append(news)
        self._inbox.wake()

    def _told(self, act: Callable[Arguments, None]) -> Callable[Arguments, None]:
        """The same, for other threads to call: it is done here, in the main thread."""

        def tell(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
            self._tell(lambda: act(*args, **kwargs))

        return tell

    def _poke(self) -> None:
        if self._parts is not None:
            self._parts.heartbeat.poke()

    # The end.

    def _leave(self) -> None:
        for child in self._children:  # Only after an error of the supervisor's own.
            child.kill()
        if self._unrecovered:
            log.error(
                "not everything could be given back; Redis still has it on record", identities=sorted(self._unrecovered)
            )
            self._exit_status = EXIT_NOT_GIVEN_BACK
        if self._parts is not None:
            self._parts.stop(0.0 if self._unrecovered else LAST_WORDS)
        if self._http is not None:
            self._http.stop()
        threading.excepthook = threading.__excepthook__
        # What could not be given back is left to the leases; children that are left, to the guardian.
        self._guard.end(in_order=not self._children)
        self._inbox.close()
