"""Hooks: in which order they are called, in which thread, and what comes of their errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

import pyqik
from pyqik.jobs.lifecycle import Lifecycle
from pyqik.worker.hooks import Hooks
from tests.support.wait import wait_until


class Life:
    """A process's hooks, and what they noted."""

    def __init__(self, interval: float = 10.0) -> None:
        self.registered = Lifecycle()
        self.hooks = Hooks(self.registered, interval)
        self.calls: list[str] = []
        self.threads: dict[str, threading.Thread] = {}

    def notes(self, text: str) -> Callable[[], None]:
        """A hook that notes that it was called."""

        def note() -> None:
            self.calls.append(text)
            self.threads[text] = threading.current_thread()

        return note

    def live(self) -> None:
        """From the start to the end."""
        self.hooks.startup()
        self.hooks.quiet()
        self.hooks.shutdown()


@pytest.fixture
def life() -> Iterator[Life]:
    life = Life()
    yield life
    life.hooks.shutdown()


def broken() -> None:
    raise LookupError("the hook's own")


def quitting() -> None:
    raise SystemExit(3)


def test_startup_goes_forwards_and_the_way_out_backwards() -> None:
    life = Life()
    for number in (1, 2):
        life.registered.on("startup")(life.notes(f"startup {number}"))
        life.registered.on("quiet")(life.notes(f"quiet {number}"))
        life.registered.on("shutdown")(life.notes(f"shutdown {number}"))

    life.live()

    assert life.calls == ["startup 1", "startup 2", "quiet 2", "quiet 1", "shutdown 2", "shutdown 1"]


def test_startup_and_shutdown_run_in_the_callers_thread_and_quiet_in_another() -> None:
    life = Life()
    for moment in ("startup", "quiet", "shutdown"):
        life.registered.on(moment)(life.notes(moment))  # type: ignore[arg-type]  # a moment

    life.live()

    here = threading.current_thread()
    assert [life.threads[moment] is here for moment in ("startup", "quiet", "shutdown")] == [True, False, True]


def test_a_process_that_never_went_quiet_does_so_before_it_shuts_down() -> None:
    life = Life()
    life.registered.on("quiet")(life.notes("quiet"))
    life.registered.on("shutdown")(life.notes("shutdown"))
    life.hooks.startup()

    life.hooks.shutdown()

    assert life.calls == ["quiet", "shutdown"]


def test_quiet_hooks_run_once(life: Life) -> None:
    life.registered.on("quiet")(life.notes("quiet"))
    life.hooks.startup()

    life.hooks.quiet()
    life.hooks.quiet()
    life.hooks.shutdown()

    assert life.calls == ["quiet"]


def test_quiet_returns_at_once_and_shutdown_waits_for_its_hooks() -> None:
    life, gate = Life(), threading.Event()

    @life.registered.on("quiet")
    def slow() -> None:
        gate.wait(10)
        life.calls.append("quiet")

    life.registered.on("shutdown")(life.notes("shutdown"))

    life.hooks.quiet()
    calls = list(life.calls)
    gate.set()
    life.hooks.shutdown()

    assert (calls, life.calls) == ([], ["quiet", "shutdown"])


@pytest.mark.parametrize("bad", [broken, quitting])
def test_a_startup_hook_that_raises_is_logged_and_keeps_the_process_from_starting(
    bad: Callable[[], None], life: Life
) -> None:
    life.registered.on("startup")(bad)
    life.registered.on("startup")(life.notes("startup"))
    life.registered.on("heartbeat")(life.notes("heartbeat"))

    with capture_logs() as lines, pytest.raises((LookupError, SystemExit)):
        life.hooks.startup()

    assert life.calls == []
    assert [(line["event"], line["hook"]) for line in lines] == [
        ("a startup hook raised; the process does not start", bad.__name__)
    ]


@pytest.mark.parametrize("bad", [broken, quitting])
def test_any_other_hook_that_raises_is_logged_and_the_rest_runs(bad: Callable[[], None]) -> None:
    life = Life()
    for moment in ("quiet", "shutdown"):
        life.registered.on(moment)(life.notes(moment))  # type: ignore[arg-type]  # a moment
        life.registered.on(moment)(bad)  # type: ignore[arg-type]  # likewise

    with capture_logs() as lines:
        life.live()

    assert life.calls == ["quiet", "shutdown"]
    assert [line["event"] for line in lines] == ["a quiet hook raised", "a shutdown hook raised"]


def test_a_heartbeat_hook_is_called_at_once_and_then_again_and_again_until_the_end() -> None:
    life = Life(interval=0.001)
    life.registered.on("heartbeat")(life.notes("beat"))
    life.registered.on("heartbeat")(broken)

    with capture_logs():
        life.hooks.startup()
        wait_until(lambda: len(life.calls) >= 3)
        life.hooks.shutdown()
    calls = len(life.calls)

    assert not life.threads["beat"].is_alive()
    assert len(life.calls) == calls


def test_a_heartbeat_hook_that_hangs_holds_up_neither_start_nor_end() -> None:
    life, gate = Life(), threading.Event()
    life.registered.on("heartbeat")(lambda: gate.wait(10))
    life.registered.on("shutdown")(life.notes("shutdown"))

    life.live()
    gate.set()

    assert life.calls == ["shutdown"]


def test_without_heartbeat_hooks_there_is_no_thread_for_them(life: Life) -> None:
    before = threading.active_count()

    life.hooks.startup()

    assert threading.active_count() == before


def test_a_decorated_hook_stays_an_ordinary_function() -> None:
    calls: list[int] = []

    @pyqik.on("shutdown")
    def close() -> None:
        calls.append(1)

    close()

    assert calls == [1]


def test_another_moment_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="no moment 'boot'; write one of startup, quiet, shutdown, heartbeat"):
        pyqik.on("boot")  # type: ignore[arg-type]  # that is what is tested


async def later() -> None: ...


def in_parts() -> Iterator[None]:
    yield


@pytest.mark.parametrize("hook", [later, in_parts, None], ids=["async def", "generator", "nothing"])
def test_what_would_not_run_when_called_is_no_hook(hook: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="cannot be a startup hook: it is called, not awaited; write a plain function"):
        pyqik.on("startup")(hook)
