"""Running one job again and again, each time interrupted at another place, as deploys and crashes would have it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from typing import Any, Final

from pyqik.core.config import Config
from pyqik.core.errors import PyqikError
from pyqik.testing.performing import Performable, name_of, trial_of
from pyqik.testing.plan import Plan
from pyqik.testing.runs import Run

#: What is done after the n-th item, in turn; None if that is not worth telling.
_KINDS: Final[tuple[Callable[[int], Plan | None], ...]] = (
    lambda n: Plan(interrupt_after=n),
    lambda n: Plan(crash_after=n),
    lambda n: Plan(crash_after=n, flush_after=n - 1) if n > 1 else None,
    lambda n: Plan(crash_after=n, flush_after=n),
)

#: What is done in every run, and how that is told.
_ALWAYS: Final = (
    (Plan(interrupt_after=1), "stopped after every item"),
    (Plan(crash_after=1, flush_after=1), "killed after every item"),
)


def every_interruption(
    job: Performable,
    /,
    *args: Any,
    before: Callable[[], object] | None = None,
    config: Config | None = None,
    most_runs: int = 1000,
) -> Iterator[Run]:
    """Run a job to its end once for each place at which it can be interrupted; yields the last run of each.

        whole = exported(testing.perform(export, 7))
        for run in testing.every_interruption(export, 7, before=empty_the_table):
            assert exported() == whole, run.story

    For n = 1, 2, ... the job is stopped after n items, and goes on; then killed there: when nothing of it was written
    down, when all but the last item was, and when all was. It ends when the job gets through without that. Then come a
    job that is stopped after every item, and one that is killed after every item. `before` is called before each of
    these stories, to make the world what it was: the database, files, what a test has collected. There are about four
    stories for each item, so take a small world.

    Raises: what the job raises, with a note that tells the story; PyqikError if it is not done after `most_runs` runs
    of a story, or if it never came to an item, so that nothing was tested; what `perform` raises.
    """
    for story in _stories(name_of(job), most_runs):
        if before is not None:
            before()
        run = trial_of(job, args, story.next, config).here()
        while story.goes_on_after(run):
            run = run._next(story.next).here()
        if story.came_true:
            run.story = story.text
            yield run


async def aevery_interruption(
    job: Performable,
    /,
    *args: Any,
    before: Callable[[], object] | None = None,
    config: Config | None = None,
    most_runs: int = 1000,
) -> AsyncIterator[Run]:
    """`every_interruption` for async tests: `async for`. `before` may be an `async def`."""
    for story in _stories(name_of(job), most_runs):
        if before is not None:
            made = before()
            if inspect.isawaitable(made):
                await made
        run = await trial_of(job, args, story.next, config).there()
        while story.goes_on_after(run):
            run = await run._next(story.next).there()
        if story.came_true:
            run.story = story.text
            yield run


class _Story:
    """One of them, while it is being told."""

    def __init__(self, name: str, plan: Plan, most_runs: int, always: str = "") -> None:
        self.text = always or str(plan)
        #: What befalls the next run.
        self.next = plan
        #: Whether the job came to the place at all.
        self.came_true = False
        self._name = name
        self._always = always
        self._runs_left = self._most_runs = most_runs

    def goes_on_after(self, run: Run) -> bool:
        """Whether `run` was not the last one. Raises: what it has raised; PyqikError for a job that does not get on."""
        if run.failed and run.error is not None:
            run.error.add_note(f"{self._name} has raised this when it was {self.text}")
            raise run.error
        if not (run.interrupted or run.crashed):
            return False
        self._runs_left -= 1
        if self._runs_left <= 0:
            raise PyqikError(
                f"{self._name} does not get on: {self.text}, it is not done after {self._most_runs} runs; "
                f"its cursor is {run.cursor!r}"
            )
        struck = run.crashed or run.reason == "stop"
        self.came_true = self.came_true or struck
        if not self._always:
            self.next = Plan() if struck else self.next.less(run.items)
        return True


def _stories(name: str, most_runs: int) -> Iterator[_Story]:
    """Each is told before the next one is asked for."""
    nothing_happened = True
    kinds = list(_KINDS)
    for n in count(1):
        for kind in kinds.copy():
            plan = kind(n)
            if plan is not None:
                story = _Story(name, plan, most_runs)
                yield story
                nothing_happened = nothing_happened and not story.came_true
                if not story.came_true:
                    kinds.remove(kind)
        if not kinds:
            break
    if nothing_happened:
        raise PyqikError(
            f"{name} did not come to the end of a single item, so there was nothing to interrupt; give it arguments "
            f"with some work, and loop with pyqik.each, or call pyqik.checkpoint"
        )
    for plan, text in _ALWAYS:
        yield _Story(name, plan, most_runs, text)
