"""The guide to long jobs. There is no code here; what it shows stands, executed, under `tests/examples`.


Your first long job
===================
Write the loop as you would without pyqik, and put `pyqik.each` around what it goes over::

    @pyqik.job("Customers::Import", queue="imports")
    def import_customers(path: str) -> None:
        for row in pyqik.each(enumerators.csv_rows(path)):
            upsert_customer(row)
            pyqik.counters["imported"] += 1
        notify(pyqik.counters["imported"])

Between two items the job can be stopped: by a deploy, by *Quiet* and *Stop* in Sidekiq's Web UI, by `Client.cancel`, by
a time slice. It then goes back to the front of its queue, and the next process goes on at the very next row. Nothing of
that counts as a failure, and no retry is spent. After an error it is retried from the item that failed, after a
`kill -9` from where it was five seconds ago at most.

Three things are asked of the job:

1. It begins from the top each time: what stands before the loop runs again, and local variables begin anew. Numbers
   that must survive belong in `pyqik.counters`, results in a database or a file.
2. The source gives the same items in the same order (arguments do, files and queries by key, too). The cursor says
   where.
3. One item takes less than the stop waits (25 seconds). A longer one is cut off and done again; the log says so before
   it happens.

`enumerators` has arrays, CSV files, SQL queries by key, and sources made of sources. Any generator function that
takes a cursor and yields pairs of item and cursor will do as well::

    def pages(cursor: str | None) -> Iterator[tuple[Page, str]]:
        page = fetch(cursor or "first")
        while page is not None:
            yield page, page.name                    # the cursor of this page: resuming gives it again
            page = fetch(page.next_name)

    for page in pyqik.each(pages): ...

Where there is no loop, there are other words for the same state::

    for day in range(pyqik.resume(0), days):         # what `checkpoint` saved; 0 the first time
        rebuild_day(day)
        pyqik.checkpoint(day + 1)                    # also a safe place to stop

    pyqik.raise_if_stopping()                        # a safe place to stop, that saves nothing

    with pyqik.step("rebuild") as step:              # a step that is finished is skipped when the job is resumed
        ...
    with pyqik.step("announce"):
        announce()

In an `async def` it is `async for`, `aresume`, `acheckpoint` and `async with step(...)`.

A job that never lets others have its thread is not always welcome. `max_iteration_runtime=600` as an option of the
job, or in the configuration, ends its turn after ten minutes, at the back of its queue; `raise pyqik.ContinueIn(30)`
ends it now, for half a minute; `enumerators.limit` does that while a database is busy.


What repeats after a crash, and how to make it harmless
=======================================================
After a clean stop nothing repeats. After a crash of the process, of the machine, or a kill at the stop's deadline, the
items since the last write of the state are done again: those of five seconds (`flush_interval`), and the one that was
in hand. There are four ways to live with that, from the cheapest:

* Make the item idempotent: an upsert in place of an insert, a file that is written under a name that the item gives, a
  mail that says which order it is for. Then nothing else is needed.
* `flush_interval=0`, for a loop or in the configuration: the state is written after each item, before the next begins.
  One item at most is done twice. It costs a round trip to Redis for each.
* `enumerators.exactly_once(source, connection)`: the cursor is kept in your own SQL database and committed in the same
  transaction as the item's effect. Nothing is done twice there, whatever is killed when.
* For a service on the network: give it an idempotency key, such as `f"{pyqik.current().jid}-{row_number}"`.

Cursor and counters are one write, so they always agree: what an item had counted before it failed is not kept.

A job that crashes its process three times in 72 hours without getting on in between is a poison pill, and goes to the
dead set; one that gets on may crash as often as it likes.

Test it: `pyqik.testing.every_interruption` stops a job and crashes it after each of its items in turn.


From Sidekiq Iteration
======================
The state is Sidekiq's own (`it-<jid>`), so a job that was interrupted in Ruby goes on in Python, and the other way
round, at the same item; Sidekiq 8's Web UI shows it. A class looks like Ruby's::

    class BackfillSlugs(pyqik.IterableJob, name="BackfillSlugs", queue="low"):
        def build_enumerator(self, ids: list[int], *, cursor: int | None) -> pyqik.Source[int, int]:
            return enumerators.array(ids)

        def each_iteration(self, post_id: int, ids: list[int]) -> None:
            write_slug(post_id)

        def on_complete(self) -> None: ...

=============================================== ======================================================================
Ruby                                            Python
=============================================== ======================================================================
`array_enumerator(ids, cursor:)`                `enumerators.array(ids)`
`csv_enumerator`, `csv_batches_enumerator`      `csv_rows(path)`, `csv_batches(path, size=100)`
`active_record_records_enumerator(relation)`    `sql_rows(engine, "SELECT ...", key="id")`
`active_record_batches_enumerator(relation)`    `sql_batches(engine, "SELECT ...", key="id")`
`around_iteration { yield }`                    `around_iteration`, a generator with one `yield`
`throw :abort`, `throw :abort, false`           `raise pyqik.Complete()`, `raise pyqik.ContinueIn()`
`cancel!`, `cancelled?`                         `Client.cancel(jid)`, `self.cancelled`
`cursor`, `arguments`, `current_object`         the same
`interrupted?`                                  `pyqik.current().stopping()`
=============================================== ======================================================================

The callbacks come in the same order. What is different, on purpose:

* An interrupted job goes to the *front* of its queue, in the same words as it was pushed. To the back it goes after a
  time slice, if it did no new item, if it was stopped a minute ago already, or if many others were stopped with it.
* An interruption counts as nothing: neither in `stat:failed`, nor as processed.
* A run does one item at least before it obeys *quiet*, so that a job cannot be thrown from process to process.
* The state is kept for 30 days after its last write, and not after its first one, as in Sidekiq 8.
* A cancellation of a job that has not begun does no harm; Ruby fails on the hash that its own `cancel!` leaves.
* `on_start` that fails is called again. If `on_stop` or `on_complete` fail after the last item, no item is done again.


From job-iteration
==================
`each_iteration` and `build_enumerator` are the same idea, with one difference: job-iteration's cursor names the last
item that is *done*, this one the item that comes *next*, as Sidekiq's. A generator of your own opens at its cursor
and gives that item first; one that leaves it out, once resumed, is named by a warning in the log.

* `enumerator_builder.active_record_on_records` is `sql_rows`, `..._on_batches` is `sql_batches`, `csv_on_batches` is
  `csv_batches`, `nested` is `nested`, `throttle` is `limit`.
* `job_should_exit?`, `max_job_runtime` are `max_iteration_runtime`.
* `iterate_once` and `iterate_exact_times(n)` in tests are `testing.perform(job, ..., interrupt_after=n)`.


From a plain loop
=================
A job like this starts from zero at each deploy::

    def remind_users(days: int) -> None:
        for user in db.execute(QUERY, {"days": days}).mappings():
            remind(user["email"])

The query must be read by a key, so that it can go on in the middle; a batch at a time, so that neither the server nor
this process holds all of it::

    def remind_users(days: int) -> None:
        query = "SELECT id, email FROM users WHERE idle_days > :days"
        for user in pyqik.each(enumerators.sql_rows(engine, query, key="id", params={"days": days})):
            remind(user["email"])

Called like any function (`remind_users(30)`), it is a plain loop as before: here, now, without Redis.

What changes the meaning of a cursor (another key, another order) is a new version of it::

    pyqik.each(source, version=2, migrate=lambda cursor, version: None)    # None: begin anew

Without `migrate` a job that was interrupted in another version waits among the retries, for code that knows it.


Errors
======
================== ===================================================================================================
`InvalidCursor`    a cursor does not survive JSON (then: a `Codec`), is of another version, or a state is no state
`SourceChanged`    a file is not the one in which the job was interrupted
`Interrupted`      raised between two items when the job has to stop; a BaseException, to be let pass
`Cancelled`        likewise, when somebody has cancelled it
================== ===================================================================================================
"""
