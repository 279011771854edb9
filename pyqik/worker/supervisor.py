"""`pyqik work`: starts the children, keeps them running, and stops them. It runs no user code.

Its tasks, all in the main thread, in one poll that nothing can block:
1. signals: quiet, stop and dump go to every child; what Sidekiq's Web UI asks of one child goes to that one;
2. children that end: their jobs are given back, and another child is started, unless this one was told to stop;
3. the stop: children that have not ended in time are killed; the heartbeat and the leases end last.
Redis is spoken to by its parts, each in a thread of its own: heartbeat, recovery, poller.
"""

from __future__ import annotations

import math
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from pyqik.core.clock import SystemClock
from pyqik.core.config import Config
from pyqik.core.config.redis_url import redacted
from pyqik.wire.connection import open_redis
from pyqik.worker import logs, stacks
from pyqik.worker.child import EXIT_START_FAILED
from pyqik.worker.child_process import KILL_AFTER, ChildProcess, State
from pyqik.worker.embedded import EmbeddedServer
from pyqik.worker.heartbeat import Heartbeat
from pyqik.worker.http import HttpServer
from pyqik.worker.recovery import Recovery
from pyqik.worker.scheduled import Poller
from pyqik.worker.signals import MEANINGS, SignalInbox

log = structlog.get_logger("pyqik")

#: Seconds between two looks at the clock: for restarts and kills, and for `/healthz`.
TICK: Final = 0.2
#: Seconds without a tick after which `/healthz` says that something is wrong.
TICK_OVERDUE: Final = 10.0
#: Seconds before a child that ended is started anew: at once the first time, then longer and longer.
BACK_OFF: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
#: Seconds for which a child must have lived for its end to count as the first again.
HEALTHY: Final = 60.0
#: Seconds for giving back after the last child was killed, and then for unregistering: the process ends anyway.
LAST_WORDS: Final = 0.5
#: What `pyqik work` exits with when something could not be given back.
EXIT_NOT_GIVEN_BACK: Final = 1


def run(config: Config) -> int:
    """Run `pyqik work` until it is stopped; the exit status: 0 if every job was finished or given back."""
    logs.configure(config.log_level, config.log_format)
    server = EmbeddedServer() if config.embedded else None
    try:
        if server is not None:
            config = Config(redis=server.start()).over(config)
        return Supervisor(config).run()
    finally:
        if server is not None:
            server.stop()


class Supervisor:
    """See the module's docstring."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._inbox = SignalInbox(signal.SIGCHLD)
        self._news: deque[Callable[[], None]] = deque()
        self._children: list[ChildProcess] = []
        self._unrecovered: set[str] = set()
        self._restarts: list[float] = []
        self._short_lives = 0
        self._quiet = False
        self._stop_deadline: float | None = None
        self._exit_status = 0
        self._ticked = time.monotonic()
        self._parts: _Parts | None = None
        self._http = self._serve_http()

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
        now = self._ticked = time.monotonic()
        for child in list(self._children):
            if (how := child.ended()) is not None:
                self._on_ended(child, how)
            elif child.kill_at is not None and now >= child.kill_at and not child.killed:
                log.warning("the child did not end in time; killing it", pid=child.pid, running=len(child.running()))
                child.kill()
        due = [at for at in self._restarts if at <= now]
        self._restarts = [at for at in self._restarts if at > now]
        for _ in due:
            self._start_child()

    def _until_due(self) -> float:
        """Seconds until the next tick, kill or restart, or until giving up on Redis."""
        kills = [child.kill_at for child in self._children if child.kill_at is not None and not child.killed]
        now = time.monotonic()
        return max(0.0, min([TICK, *(at - now for at in (*kills, *self._restarts, self._give_up_at))]))

    def _finished(self) -> bool:
        if self._children or self._restarts:
            return False
        return not self._unrecovered or time.monotonic() >= self._give_up_at

    @property
    def _give_up_at(self) -> float:
        """When to end although Redis has not taken everything back; never, unless told to stop."""
        return math.inf if self._stop_deadline is None else self._stop_deadline + KILL_AFTER + LAST_WORDS

    # Signals.

    def _on_signal(self, name: str) -> None:
        meaning = MEANINGS.get(name)
        if meaning is None:
            return
        log.info("signal", signal=name, meaning=meaning)
        if meaning == "dump":
            stacks.dump({}, ())
            for child in self._children:
                child.dump()
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
                        child.dump()
                self._poke()

    def _go_quiet(self) -> None:
        self._quiet = True
        self._restarts.clear()
        if self._parts is not None:
            self._parts.poller.stop()
        for child in self._children:
            child.quiet()
        self._poke()

    def _stop(self) -> None:
        timeout = self._config.timeout
        self._stop_deadline = time.monotonic() + timeout
        self._go_quiet()
        for child in self._children:
            child.stop(timeout)

    # Children.

    def _start_child(self) -> None:
        child = ChildProcess(self._config)
        self._children.append(child)
        log.info("child started", child=child.pid, identity=child.identity)

    def _on_ready(self, child: ChildProcess) -> None:
        log.info("child ready", child=child.pid, seconds=round(time.monotonic() - child.started, 3))
        if self._parts is None:
            # Only now is it known what the user's modules configure: the supervisor itself imports none of them.
            self._config = child.config
            self._parts = _Parts(child.config, lambda *args: self._tell(lambda: self._on_remote_signal(*args)))
            if self._quiet:
                self._parts.poller.stop()
            self._parts.start()
            for _ in range(0 if self._quiet else child.config.processes - 1):
                self._start_child()
        self._parts.heartbeat.add(child)

    def _on_ended(self, child: ChildProcess, how: str) -> None:
        self._children.remove(child)
        told_to = child.state is State.STOPPING
        child.state = State.ENDED
        log.log(20 if told_to else 40, "child ended", child=child.pid, how=how, killed=child.killed)
        if self._parts is None:
            # It never got as far as taking a job.
            child.close()
            if child.exit_status == EXIT_START_FAILED or not told_to:
                self._exit_status = child.exit_status if child.exit_status and child.exit_status > 0 else 1
            return
        self._unrecovered.add(child.identity)
        self._parts.recovery.give_back(
            child.identity, lambda count: self._tell(lambda: self._on_recovered(child, count))
        )
        if not (told_to or self._quiet):
            self._restart(child)

    def _restart(self, child: ChildProcess) -> None:
        now = time.monotonic()
        self._short_lives = 0 if now - child.started >= HEALTHY else self._short_lives
        delay = BACK_OFF[min(self._short_lives, len(BACK_OFF) - 1)]
        self._short_lives += 1
        self._restarts.append(now + delay)
        log.info("starting another child", delay=delay)

    def _on_recovered(self, child: ChildProcess, count: int) -> None:
        self._unrecovered.discard(child.identity)
        assert self._parts is not None
        self._parts.heartbeat.remove(child.identity)
        child.close()

    # From and to other threads.

    def _tell(self, news: Callable[[], None]) -> None:
        self._news.append(news)
        self._inbox.wake()

    def _poke(self) -> None:
        if self._parts is not None:
            self._parts.heartbeat.poke()

    def _serve_http(self) -> HttpServer | None:
        if self._config.port == 0:
            return None
        checks = {"/healthz": self._health, "/readyz": self._readiness}
        server = HttpServer(self._config.host, self._config.port, checks)
        server.start()
        return server

    def _health(self) -> tuple[bool, str]:
        silence = time.monotonic() - self._ticked
        return silence < TICK_OVERDUE, "ok" if silence < TICK_OVERDUE else f"no tick for {silence:.0f} seconds"

    def _readiness(self) -> tuple[bool, str]:
        children = list(self._children)
        states = [child.state.value if child.connected else "no Redis" for child in children]
        ready = bool(children) and all(state == State.READY.value for state in states)
        return ready, f"children: {', '.join(states) or 'none'}"

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
        self._inbox.close()


class _Parts:
    """What speaks to Redis on the supervisor's behalf: started together, stopped in the reverse order."""

    def __init__(self, config: Config, on_signal: Callable[[str, str], None]) -> None:
        self._client = open_redis(config.redis)
        self._polls = config.poll
        clock = SystemClock()
        self.recovery = Recovery(self._client, clock)
        self.heartbeat = Heartbeat(self._client, clock, config.lease, on_signal, config.release)
        self.poller = Poller(
            self._client,
            clock,
            average=config.poll_interval_average,
            scheduled_average=config.average_scheduled_poll_interval,
            share=config.processes,
        )

    def start(self) -> None:
        """Start every part."""
        self.recovery.start()
        self.heartbeat.start()
        if self._polls:
            self.poller.start()

    def stop(self, timeout: float) -> None:
        """Stop every part; together they have `timeout` seconds to end."""
        deadline = time.monotonic() + timeout
        self.poller.stop()
        self.recovery.stop(timeout)
        self.heartbeat.stop(max(0.0, deadline - time.monotonic()))
        self._client.close()
