"""A real out-of-memory kill, in a control group of the test's own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from pyqik.worker.processes.oom import HANDICAP
from tests.process.conftest import StartWork
from tests.process.state import dead, payload, push
from tests.support.jobs import Zoo
from tests.support.wait import wait_until

CRASHING = ("tests.support.jobs", "tests.support.crashing_jobs")
#: Much less, and a supervisor would be larger in the kernel's eyes than a child that has just been started.
LIMIT = 512 << 20


def make_group() -> Path:
    """A control group that may use `LIMIT` bytes. Raises: OSError where there can be none."""
    name = f"pyqik-test-{os.getpid()}"
    v1 = Path("/sys/fs/cgroup/memory")
    group = v1 / name if v1.is_dir() else Path("/sys/fs/cgroup") / name
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")).write_text(str(LIMIT))
        with contextlib.suppress(OSError):  # Without swap accounting there is no such file.
            (group / ("memory.memsw.limit_in_bytes" if v1.is_dir() else "memory.swap.max")).write_text(
                str(LIMIT if v1.is_dir() else 0)
            )
    except OSError:
        group.rmdir()
        raise
    return group


@pytest.fixture
def group() -> Iterator[Path]:
    try:
        group = make_group()
    except OSError as error:
        pytest.skip(f"no control group with a memory limit can be made here: {error}")
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text(), message="the group is empty")
    group.rmdir()


def test_the_kernel_would_choose_a_child_before_its_supervisor(start_work: StartWork) -> None:
    work = start_work()

    scores = {pid: int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (work.pid, *work.children)}

    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert scores == {work.pid: own, work.children[0]: min(own + HANDICAP, 1000)}


def test_a_job_that_needs_too_much_memory_is_named_as_such_and_the_others_run(
    group: Path, start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    work = start_work("-c", "3", modules=CRASHING, through=["sh", "-c", enter, "sh"])
    push(redis, *[payload("Zoo::Wait", "after", jid=jid) for jid in ("good1", "good2")])
    zoo.wait_for_runs(2)

    push(redis, payload("Crash::Eat", LIMIT >> 20, jid="bad"))

    ended = work.wait_for_event("child ended")
    zoo.open_gate("after")
    assert ended["how"] == "SIGKILL by the kernel, which had run out of memory (OOM)"
    work.wait_for_event("poison pill: the job goes to the dead set", jid="bad")
    wait_until(lambda: sorted(zoo.ended()) == ["good1", "good2"])
    [entry] = dead(redis)
    assert entry["error_message"].endswith("the last time: SIGKILL by the kernel, which had run out of memory (OOM)")
    work.end()
