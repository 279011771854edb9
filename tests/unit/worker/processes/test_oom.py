"""Whom the kernel killed for lack of memory: each kill that it counts explains one SIGKILL."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyqik.worker.processes.oom import DYING, OomWatch, find_counter

V2_MOUNT = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
V1_MOUNTS = (
    "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n"
    "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
)
EVENTS = "low 0\nhigh 0\nmax 41\noom 2\noom_kill {}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"


class Time:
    """A clock that moves when it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def write(root: Path, path: str, text: str) -> Path:
    """A file below `root`."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="ascii")
    return file


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    return write(tmp_path, "memory.events", EVENTS.format(3))


def test_kills_from_before_are_nobodys(counter: Path) -> None:
    assert not OomWatch(counter).claim()


def test_each_kill_explains_one_end(counter: Path) -> None:
    watch = OomWatch(counter)
    counter.write_text(EVENTS.format(5))

    assert [watch.claim() for _ in range(3)] == [True, True, False]


def test_a_kill_that_was_seen_before_the_process_was_gone_explains_its_end(counter: Path) -> None:
    watch = OomWatch(counter)
    counter.write_text(EVENTS.format(4))
    watch.look()

    assert watch.claim()


def test_a_kill_of_long_ago_was_somebody_elses(counter: Path) -> None:
    time = Time()
    watch = OomWatch(counter, time)
    counter.write_text(EVENTS.format(4))
    watch.look()
    time.now += DYING + 1

    assert not watch.claim()


def test_without_a_counter_no_kill_is_the_kernels() -> None:
    assert not OomWatch(None).claim()


def test_a_counter_that_vanishes_tells_nothing(counter: Path) -> None:
    watch = OomWatch(counter)
    counter.unlink()

    assert not watch.claim()


@pytest.mark.parametrize(
    ("memberships", "mounts", "file", "text"),
    [
        pytest.param("0::/app.slice/x", V2_MOUNT, "/sys/fs/cgroup/app.slice/x/memory.events", EVENTS, id="v2"),
        pytest.param("0::/", V2_MOUNT, "/sys/fs/cgroup/memory.events", EVENTS, id="v2 in a container"),
        pytest.param("0::/../host/path", V2_MOUNT, "/sys/fs/cgroup/memory.events", EVENTS, id="v2, group not mounted"),
        pytest.param(
            "4:memory:/jobs\n2:cpu:/elsewhere\n0::/",
            V1_MOUNTS,
            "/sys/fs/cgroup/memory/jobs/memory.oom_control",
            CONTROL,
            id="v1",
        ),
        pytest.param(
            "4:cpu,memory:/docker/0123\n",
            V1_MOUNTS,
            "/sys/fs/cgroup/memory/memory.oom_control",
            CONTROL,
            id="v1 in a container",
        ),
        pytest.param(
            "4:memory:/jobs\n0::/unified",
            "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n" + V1_MOUNTS,
            "/sys/fs/cgroup/memory/jobs/memory.oom_control",
            CONTROL,
            id="both, memory in v1",
        ),
        pytest.param("", "", "/proc/vmstat", "nr_free_pages 5\noom_kill {}\n", id="no control group"),
    ],
)
def test_the_counter_is_that_of_this_processs_own_group(
    tmp_path: Path, memberships: str, mounts: str, file: str, text: str
) -> None:
    write(tmp_path, "/proc/vmstat", "oom_kill 77\n")
    expected = write(tmp_path, file, text.format(1))

    found = find_counter(write(tmp_path, "memberships", memberships), write(tmp_path, "mounts", mounts), tmp_path)

    assert found == expected
    watch = OomWatch(found)
    expected.write_text(text.format(2))
    assert watch.claim()


def test_a_kernel_that_counts_nothing_has_no_counter(tmp_path: Path) -> None:
    write(tmp_path, "/sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")

    found = find_counter(write(tmp_path, "memberships", "4:memory:/\n"), write(tmp_path, "mounts", V1_MOUNTS), tmp_path)

    assert found is None


def test_a_system_without_proc_has_no_counter(tmp_path: Path) -> None:
    assert find_counter(tmp_path / "none", tmp_path / "none", tmp_path) is None
