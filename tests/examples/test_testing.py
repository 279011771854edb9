"""The guide to `pyqik.testing`, executed: an application, and tests of its jobs as their authors write them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Final

import pytest

import pyqik
from pyqik import enumerators, testing

sent: list[str] = []
customers: list[str] = []
names: Final = ["Ann", "Bo", "Cy", "Di"]


@pyqik.job("Orders::SendReceipt", queue="mailers")
def send_receipt(order_id: int) -> None:
    if order_id == 404:
        raise ConnectionError("the mail server does not answer")
    sent.append(f"receipt {order_id}")


@pyqik.job("Orders::FollowUp", queue="low")
def follow_up(order_id: int) -> None:
    sent.append(f"how was it? {order_id}")


def place_order(order_id: int) -> None:
    send_receipt.perform_async(order_id)
    follow_up.perform_in(7 * 86_400, order_id)


@pyqik.job("Customers::ImportNames", queue="imports")
def import_customers(names: list[str]) -> None:
    for name in pyqik.each(enumerators.array(names)):
        customers.append(name)
        pyqik.counters["imported"] += 1


@pyqik.job("Orders::Export", queue="exports")
def export_orders(path: str, shop_id: int) -> None:
    with Path(path).open("ab") as file:
        for order in pyqik.each(enumerators.array(range(3))):
            # What a crash has left behind the last item that is known to be done.
            file.seek(file.truncate(pyqik.counters["bytes"]))
            file.write(b"%d,%d\n" % (shop_id, order))
            pyqik.counters["bytes"] = file.tell()


@pyqik.job("SomeJob", queue="mailers")
def some_job(order_id: int) -> None:
    for item in pyqik.each(enumerators.array(range(4))):
        sent.append(f"{order_id}.{item}")


class SomeJob(pyqik.Job, name="SomeClass"):
    def perform(self, order_id: int) -> None:
        sent.append(f"{order_id}")


@pytest.fixture(autouse=True)
def application() -> None:
    """Nothing has been sent or imported yet."""
    sent.clear()
    customers.clear()


def test_a_customer_hears_of_the_order() -> None:
    run = testing.perform(send_receipt, 42)

    assert run.completed
    assert sent == ["receipt 42"]


def test_a_lost_connection_means_a_retry() -> None:
    run = testing.perform(send_receipt.set(retry=1), 404)

    assert run.failed
    assert isinstance(run.error, ConnectionError)
    assert (run.place, run.payload["retry_count"]) == ("retry", 0)
    assert run.again().place == "dead"


def test_a_receipt_is_sent() -> None:
    testing.perform(send_receipt, 42).or_raise()


def test_an_import_survives_a_deploy() -> None:
    run = testing.perform(import_customers, names, interrupt_after=3)
    assert run.interrupted
    assert run.cursor == 3
    assert run.counters == {"imported": 3}

    run = run.again()
    assert run.completed
    assert customers == names


def test_an_import_survives_a_crash() -> None:
    run = testing.perform(import_customers, names, crash_after=3, flush_after=2)
    assert run.crashed

    run = run.again()
    assert run.completed
    assert customers == [*names[:3], *names[2:]]


def test_an_export_is_the_same_wherever_it_is_interrupted(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.csv", tmp_path / "orders.csv"
    testing.perform(export_orders, str(whole), 7).or_raise()

    for run in testing.every_interruption(export_orders, str(path), 7, before=lambda: path.unlink(missing_ok=True)):
        assert path.read_text() == whole.read_text(), run.story


def test_an_order_sends_a_receipt() -> None:
    with testing.fake() as queues:
        place_order(42)

    assert [(job.name, job.args) for job in queues["mailers"]] == [("Orders::SendReceipt", [42])]


def test_an_order_is_followed_up() -> None:
    with testing.fake() as queues:
        place_order(42)
        queues.drain()

    assert sent == ["receipt 42", "how was it? 42"]


def test_an_order_as_a_whole() -> None:
    with testing.inline():
        place_order(42)

    assert sent == ["receipt 42", "how was it? 42"]


def test_an_order_is_followed_up_in_a_week(pyqik_fake: testing.Queues) -> None:
    place_order(42)

    [job] = pyqik_fake.of(follow_up)
    assert job.at is not None


# The table for those who know RSpec.


def test_jobs_run_as_in_rspec() -> None:
    some_job(42)
    assert sent == ["42.0", "42.1", "42.2", "42.3"]

    testing.perform(some_job, 42).or_raise()
    assert sent[4:] == sent[:4]

    SomeJob().perform(42)
    assert sent[8:] == ["42"]


def test_pushes_are_looked_at_as_in_rspec() -> None:
    with testing.fake() as queues:
        some_job.set(tags=["a"]).perform_async(42)
        SomeJob.perform_async(43)

    assert len(queues.of(some_job)) == 1
    assert [job.args for job in queues["mailers"]] == [[42]]
    assert [(job.at, job.payload["tags"]) for job in queues.of(some_job)] == [(None, ["a"])]
    queues.drain(some_job)
    assert len(queues.jobs) == 1
    queues.drain()
    assert sent[4:] == ["43"]
    queues.clear()


def test_pushes_run_at_once_as_in_rspec(pyqik_inline: list[testing.Run]) -> None:
    SomeJob.perform_async(42)

    assert sent == ["42"]
    assert [run.completed for run in pyqik_inline] == [True]


def test_jobs_are_interrupted_as_by_the_test_helper_of_job_iteration() -> None:
    runs = [
        testing.perform(some_job, 42, interrupt_after=0),
        testing.perform(some_job, 42, interrupt_after=1),
        testing.perform(some_job, 42, interrupt_after=3),
    ]

    # In job-iteration, too, a job that is interrupted from the beginning does an item.
    assert [run.cursor for run in runs] == [1, 1, 3]
    assert [run.again().items for run in runs] == [3, 3, 1]


def test_a_job_is_run_twice_and_compared_as_in_rspec() -> None:
    for run in testing.every_interruption(some_job, 42, before=sent.clear):
        assert set(sent) == {"42.0", "42.1", "42.2", "42.3"}, run.story


# The guide itself.


def squeezed(code: str) -> str:
    """Without comments, and with one blank line where there are more."""
    return re.sub(r"\n{2,}", "\n\n", re.sub(r" *#.*", "", code))


def test_what_the_guide_shows_is_what_runs_here() -> None:
    guide = testing.__doc__ or ""
    blocks = re.findall(r"::\n\n((?: {4}.*\n|\n)+)", guide)
    shown = [test for block in blocks for test in re.split(r"\n(?=def )", squeezed(textwrap.dedent(block)))]

    here = squeezed(Path(__file__).read_text("utf-8"))
    assert [test for test in shown if test.strip() not in here] == []
    assert len(shown) >= 10


def test_what_the_table_of_the_guide_has_is_what_runs_here() -> None:
    rows = (testing.__doc__ or "").rpartition("=\nRuby ")[2].partition("\n=====")[2].partition("\n=====")[0]
    shown = [code for row in rows.splitlines() for code in re.findall(r"`(.+?)`", row[55:])]

    here = Path(__file__).read_text("utf-8")
    # Without its last parenthesis: a call may have one argument more here.
    assert [code for code in shown if code.removesuffix(")") not in here] == []
    assert len(shown) >= 20
