"""Children that say nothing, and jobs that outlive their `stuck_after`; with a clock that moves when it is told."""

from __future__ import annotations

from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from pyqik.worker.engine.board import Entry
from pyqik.worker.processes.child_process import ChildProcess, State
from pyqik.worker.processes.stuck import DUMP_PATIENCE, LONGEST_LOOK, STUCK, UNRESPONSIVE, Stuck

STEP = 0.5


class Stacks:
    """A stack file that answers at once."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, pid: int) -> bool:
        self.asked += 1
        return True

    def read(self) -> str:
        return "File jobs.py, line 1 in hang"

    def clear(self) -> None:
        pass


class Child:
    """A child that reports and runs what the test says."""

    def __init__(self) -> None:
        self.pid = 42
        self.state = State.READY
        self.heard = self.spoke = 0.0
        self.killed = False
        self.blamed: list[Entry | None] = []
        self.dumps = 0
        self.running: list[Entry] = []
        self.stacks = Stacks()

    def entries(self) -> list[Entry]:
        return self.running

    @property
    def overdue(self) -> Entry | None:
        return self.blamed[-1] if self.blamed else None

    @overdue.setter
    def overdue(self, entry: Entry | None) -> None:
        self.blamed.append(entry)

    def dump(self) -> None:
        self.dumps += 1

    def kill(self) -> None:
        self.killed = True


class World:
    """A child, whoever looks after it, and the time."""

    def __init__(self) -> None:
        self.child = Child()
        self.described: list[Entry] = []
        self.stuck = Stuck(lambda child, entry: self.described.append(entry))
        self.now = 1000.0
        self.look()

    @property
    def as_child(self) -> ChildProcess:
        return cast(ChildProcess, self.child)

    def look(self) -> None:
        self.stuck.look([self.as_child], self.now)

    def pass_by(self, seconds: float, *, reporting: bool = False, ill: bool = False) -> list[Any]:
        """Let time go by, in small steps; the log of it."""
        with capture_logs() as logs:
            for _ in range(round(seconds / STEP)):
                self.now += STEP
                if reporting or ill:
                    self.child.spoke = self.now
                if reporting:
                    self.child.heard = self.now
                self.look()
        return logs


@pytest.fixture
def world() -> World:
    return World()


RUN = Entry(0, b"7:1", 5000.0, 0.0)
LIMITED = Entry(1, b"7:2", 5000.0, 10.0)


def test_a_child_that_reports_is_never_stuck(world: World) -> None:
    logs = world.pass_by(100, reporting=True)

    assert (logs, world.stuck.count, world.child.stacks.asked) == ([], 0, 0)
    assert world.stuck.longest_silence <= STEP


def test_a_child_that_says_nothing_is_reported_once_with_what_it_runs_and_its_stacks(world: World) -> None:
    world.child.running = [RUN]

    logs = world.pass_by(STUCK + 60)

    assert [line["event"] for line in logs] == ["the child does not answer", "stacks, as C code sees them"]
    assert (logs[0]["running"], logs[1]["stack"]) == (1, "File jobs.py, line 1 in hang")
    assert world.described == [RUN]
    assert (world.stuck.count, world.child.killed) == (1, False)
    assert world.stuck.longest_silence >= STUCK + 60 - STEP


def test_a_child_that_reports_that_it_is_ill_logs_its_stacks_itself(world: World) -> None:
    logs = world.pass_by(STUCK + 60, ill=True)

    assert [line["event"] for line in logs] == ["the child does not answer"]
    assert (world.child.dumps, world.child.stacks.asked) == (1, 0)


def test_a_child_that_answers_again_is_said_to_with_how_long_it_took(world: World) -> None:
    world.pass_by(STUCK + 5)

    logs = world.pass_by(STEP, reporting=True)

    assert [(line["event"], line["silence"]) for line in logs] == [("the child answers again", STUCK + 5)]
    assert (world.stuck.count, world.stuck.longest_silence) == (0, 0.0)


def test_a_child_that_gets_stuck_twice_is_reported_twice(world: World) -> None:
    world.pass_by(STUCK + 5)
    world.pass_by(STEP, reporting=True)

    logs = world.pass_by(STUCK + 5)

    assert [line["event"] for line in logs][:1] == ["the child does not answer"]


def test_the_import_of_modules_may_take_as_long_as_it_takes(world: World) -> None:
    world.child.state = State.STARTING

    assert world.pass_by(STUCK * 10) == []


def test_a_supervisor_that_was_frozen_itself_blames_nobody(world: World) -> None:
    world.child.running = [LIMITED]
    world.pass_by(1, reporting=True)
    world.now += 3600

    logs = world.pass_by(STEP)

    assert logs == []
    assert world.stuck.longest_silence <= LONGEST_LOOK + STEP
    assert not world.child.killed


def test_a_job_without_a_limit_may_run_for_ever(world: World) -> None:
    world.child.running = [RUN]

    assert world.pass_by(10_000, reporting=True) == []


def test_a_job_beyond_its_limit_has_its_process_killed_after_its_stacks_were_had(world: World) -> None:
    world.child.running = [RUN, LIMITED]

    before = world.pass_by(LIMITED.stuck_after, reporting=True)
    logs = world.pass_by(STEP, reporting=True)
    asked = (world.child.dumps, world.child.killed)
    world.pass_by(5, reporting=True)

    assert before == []
    assert [line["event"] for line in logs] == ["a job runs longer than its stuck_after; killing its process"]
    assert asked == (1, False)
    assert world.described == [LIMITED]
    assert (world.child.killed, world.child.blamed) == (True, [LIMITED])


def test_a_crash_while_the_stacks_are_had_is_blamed_on_the_job_beyond_its_limit(world: World) -> None:
    world.child.running = [RUN, LIMITED]

    world.pass_by(LIMITED.stuck_after + STEP, reporting=True)

    assert (world.child.killed, world.child.blamed) == (False, [LIMITED])


def test_a_job_that_ends_while_its_stacks_are_had_is_spared(world: World) -> None:
    world.child.running = [LIMITED]
    world.pass_by(LIMITED.stuck_after + STEP, reporting=True)
    assert world.child.dumps == 1
    world.child.running = [Entry(LIMITED.slot, b"7:3", 5011.0, 10.0)]

    logs = world.pass_by(DUMP_PATIENCE + 1, reporting=True)

    assert not world.child.killed
    assert world.child.blamed == [LIMITED, None]
    assert logs[-1]["event"] == "the job has ended in time after all"


def test_the_next_job_in_the_same_slot_has_its_own_time(world: World) -> None:
    world.child.running = [LIMITED]
    world.pass_by(LIMITED.stuck_after - 1, reporting=True)
    world.child.running = [Entry(LIMITED.slot, b"7:3", 5009.0, LIMITED.stuck_after)]

    assert world.pass_by(LIMITED.stuck_after, reporting=True) == []


def test_a_silent_child_loses_a_job_beyond_its_limit_too(world: World) -> None:
    world.child.running = [LIMITED]

    logs = world.pass_by(LIMITED.stuck_after + 5)

    assert [line["event"] for line in logs][-1] == "stacks, as C code sees them"
    assert (world.child.killed, world.child.blamed) == (True, [LIMITED])


@pytest.mark.parametrize(
    ("silence", "asked"),
    [pytest.param(UNRESPONSIVE - 1, 0, id="one that answers"), pytest.param(UNRESPONSIVE + 1, 1, id="a silent one")],
)
def test_stacks_that_somebody_wants_are_had_without_help_only_from_a_child_that_does_not_answer(
    world: World, silence: float, asked: int
) -> None:
    world.pass_by(silence)

    world.stuck.dump(world.as_child, world.now)

    assert (world.child.dumps, world.child.stacks.asked) == (1, asked)


def test_children_that_are_gone_are_forgotten(world: World) -> None:
    world.pass_by(STUCK + 5)

    world.stuck.look([], world.now + STEP)

    assert (world.stuck.count, world.stuck.longest_silence) == (0, 0.0)
