"""Testing jobs without Redis: run them as a worker would, stop and kill them wherever that can happen, and see what was
pushed. What this guide shows stands, executed, in `tests/examples/test_testing.py`.


Running a job
=============
::

    def test_a_customer_hears_of_the_order() -> None:
        run = testing.perform(send_receipt, 42)

        assert run.completed
        assert sent == ["receipt 42"]

Everything is what production has, but for Redis and the threads: the arguments go through the client's checks and
middleware into JSON and back, the job runs within the configured middleware, and the engine judges its end. So an
argument that does not survive JSON fails the test, and so does a cursor. What the job itself pushes is sent, unless the
test says where it goes; see *What was pushed*.

A job that raises does not end the test; the `Run` says what became of it, and `or_raise()` raises what the job has::

    def test_a_lost_connection_means_a_retry() -> None:
        run = testing.perform(send_receipt.set(retry=1), 404)

        assert run.failed
        assert isinstance(run.error, ConnectionError)
        assert (run.place, run.payload["retry_count"]) == ("retry", 0)
        assert run.again().place == "dead"

    def test_a_receipt_is_sent() -> None:
        testing.perform(send_receipt, 42).or_raise()

In an async test: `await testing.aperform(...)`, `await run.aagain()`. `Run` says all that may be asked of a run;
`Performable` is for annotations, a job as it was declared, or what its `set` returns, and `Place` is what `run.place`
may be.


Interrupting a long job
=======================
At one place, to look at what is kept there::

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
        assert customers == [*names[:3], *names[2:]]    # the third one twice: nobody knew that it was done

At every place, clean stops and crashes, which is what finds the mistakes that nobody thought of::

    def test_an_export_is_the_same_wherever_it_is_interrupted(tmp_path: Path) -> None:
        whole, path = tmp_path / "whole.csv", tmp_path / "orders.csv"
        testing.perform(export_orders, str(whole), 7).or_raise()

        for run in testing.every_interruption(export_orders, str(path), 7, before=lambda: path.unlink(missing_ok=True)):
            assert path.read_text() == whole.read_text(), run.story

`before` makes the world what it was before each story, and `run.story` tells which one it was: "stopped after 3 items".
Each of them can be had by itself, with the arguments of `perform`. In an async test write `async for`, and
`testing.aevery_interruption`.

What a job does only in a `finally`, or when it leaves a `with`, is done after a crash in a test, too; a real `kill -9`
does not leave it the time. These stories cannot find that.

What is kept beside the cursor is there, too: `run.counters`, `run.progress`, `run.processed("item_id")`, `run.rows`
(the failed rows of an import), `run.files` (what a job's next run finds of its files or, when it is done, what they
were) and `run.published`, by address; what goes to a path is written there.

`run.cancel()` cancels a job that was interrupted. `perform(new_job, ..., state=run.state)` runs other code over the
same state, as a deploy does that changes what cursors mean.


What was pushed
===============
::

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

All clients are meant, the application's own ones too, and those of Ruby's jobs. `Queues` holds each as a `PushedJob`:
name, arguments, jid, queue, when it is due, and the whole payload. In an async test it is `await queues.adrain()`. In
pytest `pyqik_fake` and `pyqik_inline` are fixtures that last for a test::

    def test_an_order_is_followed_up_in_a_week(pyqik_fake: testing.Queues) -> None:
        place_order(42)

        [job] = pyqik_fake.of(follow_up)
        assert job.at is not None


For those who know RSpec
========================
====================================================== ================================================================
Ruby                                                   Python
====================================================== ================================================================
`SomeJob.new.perform(42)`                              `some_job(42)`; of a class `SomeJob().perform(42)`
`SomeJob.perform_inline(42)`                           `testing.perform(some_job, 42).or_raise()`
`Sidekiq::Testing.fake!`                               `with testing.fake() as queues:`, or the fixture `pyqik_fake`
`Sidekiq::Testing.inline!`                             `with testing.inline():`, or the fixture `pyqik_inline`
`Sidekiq::Testing.disable!`                            what is outside of these blocks
`Sidekiq::Testing.server_middleware`                   nothing: the configured middleware runs
`SomeJob.jobs`, `SomeJob.jobs.size`                    `queues.of(some_job)`, `len(queues.of(some_job))`
`Sidekiq::Queues["mailers"]`                           `queues["mailers"]`
`job["args"]`, `job["at"]`, `job["tags"]`              `job.args`, `job.at`, `job.payload["tags"]`
`SomeJob.drain`                                        `queues.drain(some_job)`
`Sidekiq::Job.drain_all`                               `queues.drain()`
`Sidekiq::Job.clear_all`                               `queues.clear()`; each block begins empty
`iterate_once`, then `SomeJob.perform_now(42)`         `testing.perform(some_job, 42, interrupt_after=1)`
`iterate_exact_times(3.times)`, then the same          `testing.perform(some_job, 42, interrupt_after=3)`
`mark_job_worker_as_interrupted`, then the same        `testing.perform(some_job, 42, interrupt_after=0)`
`continue_iterating`, then the same                    `run.again()`
run twice, at the third item and through, and compare  `testing.every_interruption(some_job, 42)`
====================================================== ================================================================

The blocks hold for their own thread and what it calls; a thread without a block of its own (a web server's) goes by the
one that was opened last.
"""

from pyqik.testing.performing import Performable, aperform, perform
from pyqik.testing.queues import PushedJob, Queues, fake, inline
from pyqik.testing.runs import Place, Run
from pyqik.testing.stories import aevery_interruption, every_interruption

# By topic, as the guide has them.
__all__ = [  # noqa: RUF022
    # Running a job
    "Performable",
    "Place",
    "Run",
    "aperform",
    "perform",
    # Interrupting a long job
    "aevery_interruption",
    "every_interruption",
    # What was pushed
    "PushedJob",
    "Queues",
    "fake",
    "inline",
]
