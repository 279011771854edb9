"""The names of `pyqik.api`: those of Sidekiq's own, each with a docstring. Losing one breaks somebody's script."""

from __future__ import annotations

import inspect

import pytest

from pyqik import api

#: Class → what Sidekiq's class of that name has, too, in Python's form.
WORDS = {
    "Queue": {"all", "name", "size", "latency", "paused", "find_job", "clear"},
    "JobRecord": {
        *("klass", "display_class", "args", "display_args", "jid", "queue", "item", "tags", "latency"),
        *("created_at", "enqueued_at", "failed_at", "retried_at", "error_backtrace"),
    },
    "QueueEntry": {"delete"},
    "SortedEntry": {"at", "retry", "add_to_queue", "kill", "delete", "reschedule"},
    **{
        name: {"name", "size", "scan", "find_job", "fetch", "retry_all", "kill_all", "clear"}
        for name in ("ScheduledSet", "RetrySet", "DeadSet")
    },
    "ProcessSet": {"size", "total_concurrency", "total_rss", "leader"},
    "Process": {
        *("identity", "tag", "labels", "queues", "weights", "capsules", "version", "embedded", "stopping"),
        *("quiet", "stop", "dump_threads"),
    },
    "WorkSet": {"size", "find_work"},
    "Work": {"process_id", "thread_id", "queue", "run_at", "job"},
    "Stats": {
        *("processed", "failed", "scheduled_size", "retry_size", "dead_size", "enqueued", "processes_size"),
        *("workers_size", "default_queue_latency", "queues"),
    },
    "History": {"processed", "failed"},
}


def words_of(kind: type) -> set[str]:
    """The names that a class and those above it define, those that its constructor sets included."""
    sources = "".join(inspect.getsource(each) for each in kind.__mro__[:-1])
    return set(dir(kind)) | {line.split(".")[1].split(":")[0] for line in sources.splitlines() if "    self." in line}


def test_the_names_are_these() -> None:
    assert set(api.__all__) == set(WORDS)


@pytest.mark.parametrize("name", sorted(WORDS))
def test_a_class_has_what_sidekiq_s_has(name: str) -> None:
    assert WORDS[name] - words_of(getattr(api, name)) == set()


@pytest.mark.parametrize("name", sorted(WORDS))
def test_everything_public_is_documented(name: str) -> None:
    kind = getattr(api, name)
    members = {word: getattr(kind, word) for word in dir(kind) if not word.startswith("_")}

    assert inspect.getdoc(kind)
    functions = {word for word, member in members.items() if callable(member) or isinstance(member, property)}
    assert [word for word in functions if not inspect.getdoc(members[word])] == []
