"""What the supervisor's HTTP server answers: `/healthz` (this process works), `/readyz` (it takes jobs), `/metrics`.

The answers are made in the server's threads, from what the supervisor's main thread keeps up to date.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pyqik.core.config import Config
from pyqik.worker.processes.child_process import ChildProcess, State
from pyqik.worker.processes.http import HttpServer
from pyqik.worker.processes.stuck import Stuck

#: Seconds without a tick after which `/healthz` says that something is wrong.
TICK_OVERDUE: Final = 10.0
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Every cause, so that a counter starts at zero: an increase from nothing is no increase to Prometheus.
CAUSES: Final = ("exit", "oom", "signal", "stuck")


@dataclass(slots=True)
class Tally:
    """What the supervisor has counted since it started."""

    crashes: Counter[str] = field(default_factory=Counter)
    poison_pills: int = 0


class Probes(Collector):
    """See the module's docstring. `children` are those that live."""

    def __init__(self, children: Callable[[], Sequence[ChildProcess]], stuck: Stuck, tally: Tally) -> None:
        self._children = children
        self._stuck = stuck
        self._tally = tally
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._ticked = time.monotonic()

    def serve(self, config: Config) -> HttpServer | None:
        """Answer at the address that `config` names; None if it wants no server. Raises: ConfigError."""
        if config.port == 0:
            return None
        checks = {"/healthz": self.health, "/readyz": self.readiness}
        server = HttpServer(config.host, config.port, checks, {"/metrics": self.metrics})
        server.start()
        return server

    def tick(self, now: float) -> None:
        """The main thread is alive."""
        self._ticked = now

    def health(self) -> tuple[bool, str]:
        """Whether the main thread works."""
        silence = time.monotonic() - self._ticked
        return silence < TICK_OVERDUE, "ok" if silence < TICK_OVERDUE else f"no tick for {silence:.0f} seconds"

    def readiness(self) -> tuple[bool, str]:
        """Whether every child takes jobs. Solo children do not count: they come and go."""
        children = [child for child in self._children() if not child.is_solo]
        states = [child.state.value if child.connected else "no Redis" for child in children]
        ready = bool(children) and all(state == State.READY.value for state in states)
        return ready, f"children: {', '.join(states) or 'none'}"

    def metrics(self) -> tuple[str, bytes]:
        """The metrics, in Prometheus's text format."""
        return CONTENT_TYPE, generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The metrics, as the registry asks for them."""
        states = Counter(child.state for child in self._children())
        children = GaugeMetricFamily("pyqik_children", "Child processes, by state.", labels=["state"])
        for state in State:
            if state is not State.ENDED:
                children.add_metric([state.value], states[state])
        yield children
        yield GaugeMetricFamily(
            "pyqik_child_silence_seconds",
            "Seconds since the most silent child last reported; each reports every second.",
            self._stuck.longest_silence,
        )
        yield GaugeMetricFamily(
            "pyqik_stuck_children", "Children that have not reported for 30 seconds.", self._stuck.count
        )
        crashes = CounterMetricFamily("pyqik_child_crashes", "Children that crashed, by cause.", labels=["cause"])
        for cause in CAUSES:
            crashes.add_metric([cause], self._tally.crashes[cause])
        yield crashes
        yield CounterMetricFamily(
            "pyqik_poison_pills",
            "Jobs that went to the dead set as they had crashed their process too often.",
            self._tally.poison_pills,
        )
