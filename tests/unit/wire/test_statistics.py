"""What is counted, and under which keys Sidekiq 7 and 8 look for it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgpack
import pytest

from pyqik.wire.statistics import (
    BUCKETS,
    DAY_TTL,
    MINUTE_TTL,
    TEN_MINUTES_TTL,
    ClassExecutions,
    Executions,
    _counter_keys,
    _histogram_keys,
)


@pytest.mark.parametrize(
    ("moment", "counters", "histograms"),
    [
        pytest.param(
            datetime(2026, 11, 22, 4, 1, 59, tzinfo=UTC),
            ["j|20261122|4:1", "j|261122|4:01", "j|261122|4:0"],
            ("Ok::Job-22-04:1", "h|Ok::Job-22-4:1"),
            id="early in a two-digit day",
        ),
        pytest.param(
            datetime(2027, 3, 5, 0, 0, 0, tzinfo=UTC),
            ["j|20270305|0:0", "j|270305|0:00", "j|270305|0:0"],
            ("Ok::Job-05-00:0", "h|Ok::Job-5-0:0"),
            id="midnight of a one-digit day",
        ),
        pytest.param(
            datetime(2026, 12, 31, 23, 59, 1, tzinfo=UTC),
            ["j|20261231|23:59", "j|261231|23:59", "j|261231|23:5"],
            ("Ok::Job-31-23:59", "h|Ok::Job-31-23:59"),
            id="the last minute of a year",
        ),
    ],
)
def test_the_keys_have_the_zeros_of_7_and_of_8(
    moment: datetime, counters: list[str], histograms: tuple[str, str]
) -> None:
    assert [key for key, _ in _counter_keys(moment)] == counters
    assert [ttl for _, ttl in _counter_keys(moment)] == [MINUTE_TTL, MINUTE_TTL, TEN_MINUTES_TTL]
    assert _histogram_keys("Ok::Job", moment) == histograms


def test_the_times_to_live_are_sidekiqs() -> None:
    assert (DAY_TTL, MINUTE_TTL, TEN_MINUTES_TTL) == (5 * 365 * 86_400, 8 * 3600, 72 * 3600)


@pytest.mark.parametrize(
    ("elapsed", "bucket"),
    [
        pytest.param(0.0, 0, id="nothing"),
        pytest.param(0.0199, 0, id="19 ms"),
        pytest.param(0.02, 1, id="20 ms falls into the second"),
        pytest.param(0.9999, 10, id="just below a second"),
        pytest.param(334.9, 24, id="below the last limit"),
        pytest.param(335.0, 25, id="the last limit"),
        pytest.param(1e9, 25, id="for ever"),
    ],
)
def test_a_duration_falls_into_the_bucket_that_the_web_ui_draws(elapsed: float, bucket: int) -> None:
    executions = ClassExecutions()

    executions.add(elapsed, failed=False)

    assert executions.buckets.index(1) == bucket
    assert sum(executions.buckets) == 1


def test_there_are_as_many_buckets_as_the_web_ui_reads() -> None:
    assert len(BUCKETS) == 26


def test_a_failure_counts_as_executed_and_failed_but_takes_no_time() -> None:
    executions = Executions()

    executions.add("Foo", 0.5, failed=False)
    executions.add("Foo", 9.0, failed=True)

    of_class = executions.classes["Foo"]
    assert (executions.processed, executions.failed) == (2, 1)
    assert (of_class.executed, of_class.failed, of_class.milliseconds, sum(of_class.buckets)) == (2, 1, 500, 1)


def test_an_unknown_class_counts_in_the_totals_only() -> None:
    executions = Executions()

    executions.add(None, 0.5, failed=True)

    assert (executions.processed, executions.failed, executions.classes) == (1, 1, {})


def test_merging_adds_everything() -> None:
    ours, theirs = Executions(), Executions()
    ours.add("Foo", 0.01, failed=False)
    theirs.add("Foo", 0.03, failed=False)
    theirs.add("Bar", 1.0, failed=True)

    ours.merge(theirs)

    assert (ours.processed, ours.failed) == (3, 1)
    assert (ours.classes["Foo"].executed, ours.classes["Foo"].milliseconds) == (2, 40)
    assert ours.classes["Foo"].buckets[:3] == [1, 0, 1]
    assert ours.classes["Bar"].failed == 1


def test_merging_leaves_the_other_as_it_was() -> None:
    ours, theirs = Executions(), Executions()
    theirs.add("Foo", 0.03, failed=False)

    ours.merge(theirs)
    ours.merge(theirs)

    assert theirs.classes["Foo"].executed == 1


def test_executions_survive_the_pipe() -> None:
    executions = Executions()
    executions.add("Foo", 0.03, failed=False)
    executions.add(None, 0.5, failed=True)

    again = Executions.from_wire(msgpack.unpackb(msgpack.packb(executions.to_wire())))

    assert again == executions


def test_nothing_executed_is_nothing_to_write() -> None:
    executions = Executions()
    assert not executions

    executions.add(None, 0.0, failed=True)
    assert executions
