"""pyqik: a Python worker for Sidekiq. Rails enqueues, Python runs; Sidekiq's Web UI shows both.

This page is the guide. What it shows stands, executed, under `tests/examples`.


Declaring a job
===============
::

    @pyqik.job("Billing::SendReceipt", queue="mailers", retry=5)
    def send_receipt(order_id: int) -> None:
        post_mail(order_id)

The first argument is the class name that Ruby puts on the wire: `Billing::SendReceipt.perform_async(42)` in Rails runs
this function, if that class has `sidekiq_options queue: "mailers"`. Without it, the name is the function's own. An
`async def` takes the same decorator and runs on an event loop beside the threads. Calling a `FunctionJob` stays an
ordinary call: `send_receipt(42)` works here and now, without Redis.

Options are fields of the payload. A process of either language reads them:

=============== ======================================================================================================
`queue`         where the job waits; "default". Give Python's jobs queues of their own: a Ruby process that takes one
                fails it, as it has no such class
`retry`         True (25 retries over three weeks), how many, 0 (straight to the dead set), False (keep no failure)
`retry_for`     seconds from the first failure in which it is retried, in place of a number
`retry_queue`   the queue of its retries
`dead`          False: do not keep it in the dead set when its retries are used up
`backtrace`     True, or how many lines of it to keep with a failure
`tags`          a list of strings that the Web UI shows
`stuck_after`   seconds after which a run is taken for hanging: its process is killed, and the job charged with a crash
=============== ======================================================================================================

Any other option is copied into the payload, for tools that read it. What a job does not say, `default_job_options` of
the configuration says for all of them.

A job whose retries need a rule of their own is a class. Each run has a new instance, with `self.jid`, `self.payload`
and `self.logger`::

    class ResizeImage(pyqik.Job, name="Images::Resize", queue="images", retry=3):
        def perform(self, image_id: int, width: int) -> None:
            self.logger.info("resizing", width=width)

        def retry_in(self, count: int, error: Exception) -> pyqik.RetryDecision:
            return 60.0 if isinstance(error, TooManyRequests) else None    # or pyqik.KILL, pyqik.DISCARD

        def retries_exhausted(self, error: Exception) -> None:
            mark_broken(self.jid)

`None` stands for the usual back-off. Subclasses inherit options; `abstract=True` declares a class that is no job.


Long jobs
=========
A job that goes over many items can be interrupted between two of them, by a deploy or by `Client.cancel`, and goes on
there. `help(pyqik.long_jobs)` is the guide; in short::

    @pyqik.job("RemindUsers")
    def remind_users(days: int) -> None:
        query = "SELECT id, email FROM users WHERE idle_days > :days"
        for user in pyqik.each(enumerators.sql_rows(engine, query, key="id", params={"days": days})):
            remind(user["email"])

`each` goes over a `Source` of `pyqik.enumerators`, or over any generator function that takes a cursor; a `Codec` writes
cursors that JSON does not hold. `IterableJob` is the same as a class with callbacks. `resume` and `checkpoint` (in
async code `aresume` and `acheckpoint`), `raise_if_stopping` and `step` are for jobs without such a loop, `counters` are
numbers that survive with the cursor. `max_iteration_runtime`, an option of a job or of the configuration, ends its turn
after so many seconds. An interruption is raised as `Interrupted` or `Cancelled`, to be let pass; `Complete` and
`ContinueIn` are for the job to raise. `pyqik.testing` runs jobs without Redis, and stops and kills them anywhere.


Progress, rows and files
========================
What the cursor of a long job does not carry is written together with it, and outlives interruptions as it does.

How far it is. `done` are its items, unless it says something else; `Client.progress(jid)` gives a `Progress` to any
process, Ruby reads the hash `progress/<jid>`, and people `pyqik progress JID --follow`::

    pyqik.progress.total = len(order_ids)
    pyqik.progress.note = "writing the orders"

Which ids are done, of work without an order (`Processed`)::

    done = pyqik.processed("item_id")
    for item_id in ids:
        pyqik.raise_if_stopping()
        if item_id not in done:
            delete(item_id)
            done.add(item_id)

Which rows of an import have failed, and why (`Rows`). `failed_csv()` is a `FailedCsv` in the bytes of the original,
with one more column. For a week `Client.rows(jid)` gives them to any process, as `FailedRows`, each of them a
`RowError`::

    rows = pyqik.rows()
    for row in pyqik.each(enumerators.csv_rows(path)):
        errors = problems(row)
        if errors:
            rows.fail(*errors)
        else:
            upsert_customer(row)
    if rows.failed_count:
        send_back(rows.failed_csv().read())

A file that is written to its end, whichever process does it (`TextFile`, `BinaryFile`). It needs `files` in the
configuration, a directory that all workers share or a bucket of Cloud Storage::

    out = pyqik.file("orders.csv")
    for order_id in pyqik.each(enumerators.array(order_ids)):
        csv.writer(out).writerow([order_id, total_of(order_id)])
    out.publish("gs://exports/orders.csv")

One that is rewritten as it grows, by SQLite or as a workbook (`SnapshotFile`), which is kept as it was between two
items::

    out = pyqik.file("orders.xlsx", snapshot=True)
    book = openpyxl.load_workbook(out.path) if out.size else openpyxl.Workbook()
    out.on_save(lambda: book.save(out.path))
    for order_id in pyqik.each(enumerators.array(order_ids)):
        book.active.append([order_id, total_of(order_id)])
    book.save(out.path)
    out.publish("gs://exports/orders.xlsx")

In an `async def` write `await pyqik.aprogress()`, `await pyqik.aprocessed(...)` and `await pyqik.arows()` first; and
`await pyqik.afile(...)`, `await out.apublish(...)`.


Enqueueing
==========
::

    jid = send_receipt.perform_async(42)
    send_receipt.perform_in(timedelta(minutes=5), 42)
    send_receipt.perform_at(datetime(2027, 1, 1, 9, tzinfo=UTC), 42)
    send_receipt.set(queue="low", retry=0).perform_async(42)
    send_receipt.perform_bulk([order_id] for order_id in order_ids)    # 1,000 a round trip
    await send_receipt.aperform_async(42)                              # each of them has a twin for async code

Arguments are positional and must survive JSON as they are: numbers, strings, booleans, None, lists, dictionaries with
string keys. Send an id, not an object. The type checker knows the arguments of function jobs, and what does not fit
raises `WrongArguments` or `InvalidJob` before anything is sent. A time that is now or past means at once.

A job that Ruby will run is pushed by name, with its options, through a `Client` (or an `AsyncClient`)::

    client = pyqik.Client("redis://localhost:6379/0")
    jid = client.push("Billing::CloseMonthJob", "2027-01", queue="critical", retry=10)
    client.push_bulk("Mailer::DigestJob", [[user_id] for user_id in user_ids], queue="mailers")

A push whose reply was lost is repeated, and happens once. If Redis stays away for some seconds, redis.ConnectionError
or redis.TimeoutError is raised, and it is not known whether the job was pushed.


Inside a job
============
A job runs at least once: after a crash it runs again. Make it idempotent.

`pyqik.current()` is the `Context` of the job that runs, wherever it is called: `jid`, `job_class`, `queue`, `args`, the
whole `Payload`, a `logger` that names the job on each line, and `stopping()`, which is true as soon as the process has
been told to quiet down or stop.

What a job raises says how it ends::

    raise pyqik.Discard("account is closed")    # gone, and no error is reported
    raise pyqik.Kill("needs a person")          # straight to the dead set
    raise pyqik.RetryIn(30)                     # counts as a retry, waits 30 seconds

Anything else means a retry, while there are any left. When the time to stop is over, `Shutdown` (an `Interruption`) is
raised in the jobs that still run, and each goes back to the front of its queue, unchanged. It is no `Exception`, so
that `except Exception` does not swallow it; let it pass.


The process
===========
`pyqik work -r shop.jobs -q critical,3 -q default,1` runs jobs; `pyqik check -r shop.jobs` names every mistake without
starting anything. Configuration is read from the Rails app's own `config/sidekiq.yml`, from code, from `pyqik.toml`,
from the environment (`REDIS_URL` among others) and from flags; later ones are stronger. See `Config` and `Capsule`. ::

    pyqik.configure(pyqik.Config(
        redis="redis://localhost:6379/0", concurrency=10, queues={"critical": 3, "default": 1}, timeout=25,
        server_middleware=[with_tenant]))

Middleware is a generator function with one `yield`, where the job runs (`ServerMiddleware`) or where the payload is
ready to be sent (`ClientMiddleware`). The first in the list is the outermost. One that returns without yielding stops
the job or the push; an exception of the job is raised at its `yield`::

    def with_tenant(payload: pyqik.Payload) -> Iterator[None]:
        with tenant(payload.args[0]):
            yield

`pyqik.middleware` has some that keep the connections of Django and SQLAlchemy fit from job to job.

Handlers hear of errors: those in `error_handlers` of every run that failed, those in `death_handlers` of every job that
is given up, in the dead set or not::

    def report(error: BaseException, payload: pyqik.Payload | None) -> None:    # None: what came was no job
        tracker.send(error, jid=payload and payload.jid)

    def mourn(payload: pyqik.Payload, error: BaseException) -> None:
        mark_broken(payload.args)

    pyqik.configure(pyqik.Config(error_handlers=[report], death_handlers=[mourn], default_job_options={"retry": 3}))

Hooks are called in each process that runs jobs: before the first job (`startup`), when no more are taken (`quiet`),
after the last one (`shutdown`), and every ten seconds (`heartbeat`)::

    @pyqik.on("startup")
    def load_model() -> None: ...

`pyqik.events` tells what happens to each unit of work, to metrics: `@pyqik.events.on("job.done")`. The names and their
fields are in `pyqik.core.events.EVENTS`.


Reading Redis
=============
`pyqik.api` has what Ruby's `require "sidekiq/api"` has: `Queue`, `ScheduledSet`, `RetrySet`, `DeadSet`, `ProcessSet`,
`WorkSet`, `Stats` and `History`, for scripts and consoles, whichever language wrote what they read::

    for entry in pyqik.api.RetrySet().scan("Billing::"):    # after `import pyqik.api`
        entry.retry()                                       # or kill, delete, reschedule, add_to_queue


Errors
======
`PyqikError` is the base of what pyqik raises:

================== ===================================================================================================
`ConfigError`      the configuration has mistakes; all of them are listed
`InvalidJob`       a job was declared or pushed in a way that Sidekiq's format cannot hold
`WrongArguments`   the arguments do not fit the job's signature
`JobNotRegistered` a payload names a class that no imported module declares; the job is retried, as in Sidekiq
`InvalidPayload`   what stands in a queue is no job; it is kept in the dead set
`InvalidCursor`    where a long job is cannot be written down exactly, or cannot be read
`SourceChanged`    what a long job goes over is not what it was when the job was interrupted
`StoreError`       a file of a job could not be kept, restored or published; nothing is published then
`PoisonPill`       a job crashed its process three times; it is in the dead set, and death handlers hear this error
================== ===================================================================================================
"""

from pyqik import enumerators, long_jobs
from pyqik.core.config import Capsule, Config
from pyqik.core.errors import (
    Cancelled,
    Complete,
    ConfigError,
    ContinueIn,
    Discard,
    Interrupted,
    Interruption,
    InvalidCursor,
    InvalidJob,
    InvalidPayload,
    JobNotRegistered,
    Kill,
    PoisonPill,
    PyqikError,
    RetryIn,
    Shutdown,
    SourceChanged,
    StoreError,
    WrongArguments,
)
from pyqik.core.events import events
from pyqik.jobs.client import AsyncClient, Client
from pyqik.jobs.context import Context, current
from pyqik.jobs.definition import DISCARD, KILL, RetryDecision
from pyqik.jobs.failed_rows import FailedCsv, FailedRows, RowError
from pyqik.jobs.function_job import FunctionJob, job
from pyqik.jobs.iterable_job import IterableJob
from pyqik.jobs.job import Job
from pyqik.jobs.job_file import BinaryFile, SnapshotFile, TextFile, afile, file
from pyqik.jobs.lifecycle import on
from pyqik.jobs.loops import each
from pyqik.jobs.middleware import ClientMiddleware, ServerMiddleware
from pyqik.jobs.process import configure
from pyqik.jobs.processed import Processed, aprocessed, processed
from pyqik.jobs.progress import Progress, aprogress, progress
from pyqik.jobs.rows import Rows, arows, rows
from pyqik.jobs.source import Codec, Source
from pyqik.jobs.steps import acheckpoint, aresume, checkpoint, counters, raise_if_stopping, resume, step
from pyqik.wire.payload import Payload

# By topic, as the guide has them.
__all__ = [  # noqa: RUF022
    # Declaring jobs
    "DISCARD",
    "KILL",
    "FunctionJob",
    "Job",
    "RetryDecision",
    "job",
    # Enqueueing
    "AsyncClient",
    "Client",
    # Inside a job
    "Context",
    "Discard",
    "Interruption",
    "Kill",
    "Payload",
    "RetryIn",
    "Shutdown",
    "current",
    # Long jobs
    "Cancelled",
    "Codec",
    "Complete",
    "ContinueIn",
    "Interrupted",
    "IterableJob",
    "Source",
    "acheckpoint",
    "aresume",
    "checkpoint",
    "counters",
    "each",
    "enumerators",
    "long_jobs",
    "raise_if_stopping",
    "resume",
    "step",
    # Progress, rows and files
    "BinaryFile",
    "FailedCsv",
    "FailedRows",
    "Processed",
    "Progress",
    "RowError",
    "Rows",
    "SnapshotFile",
    "TextFile",
    "aprocessed",
    "aprogress",
    "arows",
    "afile",
    "file",
    "processed",
    "progress",
    "rows",
    # The process
    "Capsule",
    "ClientMiddleware",
    "Config",
    "ServerMiddleware",
    "configure",
    "events",
    "on",
    # Errors
    "ConfigError",
    "InvalidCursor",
    "InvalidJob",
    "InvalidPayload",
    "JobNotRegistered",
    "PoisonPill",
    "PyqikError",
    "SourceChanged",
    "StoreError",
    "WrongArguments",
]
