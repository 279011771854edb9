"""What the end of a child says: a crash or not, its cause, and who is suspected."""

from __future__ import annotations

import signal

import pytest

from pyqik.worker.engine.board import Entry
from pyqik.worker.upkeep.crash import Crash, End

ONE = Entry(0, b"7:1", 1000.0, 0.0)
TWO = Entry(1, b"7:2", 1001.0, 30.0)
UNNAMED = Entry(2, b"", 1002.0, 0.0)


def never() -> bool:
    return False


@pytest.mark.parametrize(
    ("status", "kind", "cause"),
    [
        pytest.param(-signal.SIGSEGV, "signal", "SIGSEGV", id="a signal"),
        pytest.param(-signal.SIGKILL, "signal", "SIGKILL", id="killed by somebody"),
        pytest.param(-63, "signal", "signal 63", id="a signal without a name"),
        pytest.param(3, "exit", "exit status 3", id="an exit"),
        pytest.param(0, "exit", "exit status 0", id="an exit that looks well"),
    ],
)
def test_an_end_that_was_not_announced_is_a_crash_of_what_ran(status: int, kind: str, cause: str) -> None:
    crash = End(status, False, [ONE, TWO]).crash(never)

    assert crash == Crash(kind, cause, (b"7:1", b"7:2"))  # type: ignore[arg-type]  # a literal


@pytest.mark.parametrize("status", [0, 2, 3, -signal.SIGKILL, -signal.SIGSEGV])
def test_an_end_that_was_announced_or_brought_about_is_none(status: int) -> None:
    assert End(status, True, [ONE]).crash(never) is None


def test_a_crash_without_a_running_job_has_no_suspect() -> None:
    assert End(-11, False, []).crash(never) == Crash("signal", "SIGSEGV")


def test_jobs_that_had_no_token_yet_are_counted() -> None:
    assert End(-11, False, [UNNAMED, ONE]).crash(never) == Crash("signal", "SIGSEGV", (b"7:1",), 1)


def test_a_kill_by_the_kernel_for_lack_of_memory_is_named() -> None:
    crash = End(-signal.SIGKILL, False, [ONE]).crash(lambda: True)

    assert crash == Crash("oom", "SIGKILL by the kernel, which had run out of memory (OOM)", (b"7:1",))


def test_a_segmentation_fault_has_nothing_to_do_with_memory_that_ran_out() -> None:
    crash = End(-signal.SIGSEGV, False, [ONE]).crash(lambda: pytest.fail("not to be asked"))

    assert crash is not None
    assert crash.kind == "signal"


def test_a_job_that_was_overdue_is_to_blame_alone() -> None:
    crash = End(-signal.SIGKILL, True, [ONE, TWO], overdue=TWO).crash(never)

    assert crash == Crash("stuck", "killed, as the job ran longer than its stuck_after of 30 seconds", (b"7:2",))


def test_an_overdue_job_is_known_by_its_slot_and_start() -> None:
    before = Entry(1, b"", 1001.0, 30.0)

    crash = End(-signal.SIGKILL, True, [ONE, TWO], overdue=before).crash(never)

    assert crash is not None
    assert crash.tokens == (b"7:2",)


def test_an_overdue_job_that_ended_in_the_last_moment_is_not_to_blame() -> None:
    successor = Entry(1, b"7:9", 1050.0, 0.0)

    crash = End(-signal.SIGKILL, True, [ONE, successor], overdue=TWO).crash(never)

    assert crash is not None
    assert (crash.tokens, crash.unnamed) == ((), 0)


def test_a_job_that_ended_its_thread_is_to_blame_alone() -> None:
    crash = End(3, True, [ONE, TWO], lost=[TWO]).crash(never)

    assert crash == Crash("exit", "the job ended its thread behind Python's back", (b"7:2",))
