"""Finding jobs by the name in a payload."""

from __future__ import annotations

import pytest

from pyqik.core.errors import InvalidJob, JobNotRegistered
from pyqik.jobs.arguments import ArgumentsCheck
from pyqik.jobs.definition import JobDefinition
from pyqik.jobs.job import Job
from pyqik.jobs.registry import Registry


def definition(name: str, source: str = "perform (jobs.py)", *, is_async: bool = False) -> JobDefinition:
    """A definition that nobody runs."""
    check = ArgumentsCheck.of(name, lambda: None)
    return JobDefinition(name, {}, is_async, source, check, create=lambda payload: Job())


def test_a_job_is_found_by_its_exact_name() -> None:
    registry = Registry()
    registry.register(definition("Foo::Bar"))

    found = registry.get("Foo::Bar")

    assert found.name == "Foo::Bar"


def test_sidekiq_6s_leading_colons_do_not_count() -> None:
    registry = Registry()
    registry.register(definition("Foo::Bar"))

    assert registry.get("::Foo::Bar").name == "Foo::Bar"


@pytest.mark.parametrize("name", ["foo::bar", "Bar", "Foo", "os.system", "Foo::Bar ", ""])
def test_nothing_but_the_exact_name_will_do(name: str) -> None:
    registry = Registry()
    registry.register(definition("Foo::Bar"))

    with pytest.raises(JobNotRegistered):
        registry.get(name)


def test_an_unknown_name_is_answered_with_a_similar_one() -> None:
    registry = Registry()
    registry.register(definition("Billing::SendReceipt"))

    with pytest.raises(JobNotRegistered, match="did you mean 'Billing::SendReceipt'"):
        registry.get("Billing::SendReciept")


def test_two_places_cannot_share_a_name() -> None:
    registry = Registry()
    registry.register(definition("Foo", "first (a.py)"))

    with pytest.raises(InvalidJob, match=r"'Foo'.*first \(a.py\).*second \(b.py\)"):
        registry.register(definition("Foo", "second (b.py)"))


def test_the_same_place_again_replaces_what_it_declared() -> None:
    registry = Registry()
    registry.register(definition("Foo"))
    newer = definition("Foo", is_async=True)

    registry.register(newer)

    assert registry.get("Foo") is newer


@pytest.mark.parametrize(
    ("kinds", "has_plain", "has_async"),
    [([], False, False), ([False], True, False), ([True], False, True), ([True, False], True, True)],
    ids=["none", "plain", "async", "both"],
)
def test_it_knows_which_kinds_of_jobs_there_are(kinds: list[bool], has_plain: bool, has_async: bool) -> None:
    registry = Registry()

    for index, is_async in enumerate(kinds):
        registry.register(definition(f"Job{index}", is_async=is_async))

    assert (registry.has_plain, registry.has_async) == (has_plain, has_async)


def test_a_registry_can_be_narrowed_for_a_while() -> None:
    registry = Registry()
    registry.register(definition("Kept"))
    registry.register(definition("Left"))

    with registry.restored(keep=lambda definition: definition.name == "Kept"):
        within = registry.names()

    assert within == ["Kept"]
    assert registry.names() == ["Kept", "Left"]


def test_a_restored_registry_has_what_it_had() -> None:
    registry = Registry()
    registry.register(definition("Before"))

    with registry.restored():
        registry.register(definition("Within", is_async=True))

    assert registry.names() == ["Before"]
    assert not registry.has_async
