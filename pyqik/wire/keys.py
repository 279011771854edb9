"""Every Redis key that pyqik reads or writes, by name.

The first half is Sidekiq's (6.4 to 8.1) and must not change; the second half is pyqik's own: what belongs to one job
has its jid in its name, the rest is under `pyqik:`.
Sidekiq Pro treats keys that start with `queue:sq|` as orphans of its own processes, so nothing of ours may look so.
"""

from __future__ import annotations

from typing import Final

QUEUES: Final = "queues"
SCHEDULE: Final = "schedule"
RETRY: Final = "retry"
DEAD: Final = "dead"
PAUSED: Final = "paused"
PROCESSES: Final = "processes"
PROCESS_CLEANUP: Final = "process_cleanup"
#: The identity of Sidekiq Enterprise's leader.
LEADER: Final = "dear-leader"
STAT_PROCESSED: Final = "stat:processed"
STAT_FAILED: Final = "stat:failed"
LEASES: Final = "pyqik:leases"
#: The id of this database, by which it knows the store that holds the files of its jobs.
FILES: Final = "pyqik:files"
#: Held for some hours by whoever has cleared that store.
SWEEP: Final = "pyqik:sweep"
#: The only capsule, so to speak, of a custody.
SOLO: Final = "solo"


def queue(name: str) -> str:
    """The list of a queue's payloads: pushed at the head (left), taken from the tail (right)."""
    return f"queue:{name}"


def work(identity: str) -> str:
    """The hash of what a process runs: thread id → JSON (Sidekiq 6.4.2 and later)."""
    return f"{identity}:work"


def workers(identity: str) -> str:
    """The same hash under the name that Sidekiq 6.4.1 and older read."""
    return f"{identity}:workers"


def signals(identity: str) -> str:
    """The list from which a process takes one remote signal at each heartbeat."""
    return f"{identity}-signals"


def stat_processed(day: str) -> str:
    """The executions of one UTC day (`YYYY-MM-DD`)."""
    return f"stat:processed:{day}"


def stat_failed(day: str) -> str:
    """The failed executions of one UTC day (`YYYY-MM-DD`)."""
    return f"stat:failed:{day}"


def iteration(jid: str) -> str:
    """The state of a job that goes on where it was: `c` its cursor, `ex` its starts, `rt` its run time."""
    return f"it-{jid}"


def deploy_marks(day: str) -> str:
    """The hash of a day's deploys (`YYYYMMDD`): ISO minute → label."""
    return f"{day}-marks"


def deploy_lock(label: str) -> str:
    """Held for a minute by whoever marks the deploy called `label`."""
    return f"deploylock-{label}"


def processed(jid: str, kind: str) -> str:
    """The hash of the ids of one kind that a job has done."""
    return f"{jid}/{kind}"


def rows(jid: str) -> str:
    """The hash of the rows that a job has gone over, and of those that failed, by their numbers."""
    return f"rows/{jid}"


def errors(jid: str) -> str:
    """The hash of the failed rows of a job, with their messages: number of a block → block."""
    return f"errors/{jid}"


def progress(jid: str) -> str:
    """The hash of how far a job is, as its author says it."""
    return f"progress/{jid}"


def in_flight(identity: str) -> str:
    """The hash of what a process holds: take token → queue, newline, payload; and of each of its capsules the number of
    the last take (`take.<capsule>`) and the queues (`queues.<capsule>`); `ended` once its jobs were given back.
    """
    return f"pyqik:in-flight:{identity}"


def custody(identity: str, queue_name: str) -> str:
    """The list on which suspects of a crash that belong to `queue_name` wait in a custody: named like a landing list,
    so that recovering the custody's identity gives them back.
    """
    return landing(identity, SOLO, queue_name)


def crashes(job: str) -> str:
    """The hash of the crashes of a job (a jid): their times, the last of them, and how far the job was then."""
    return f"pyqik:crashes:{job}"


def landing(identity: str, capsule: str, queue_name: str) -> str:
    """The list onto which a capsule's blocking move puts a job of `queue_name`, until its next take adopts it."""
    return f"{landings(identity)}{capsule}:{queue_name}"


def landings(identity: str) -> str:
    """What the names of a process's landing lists begin with."""
    return f"pyqik:landing:{identity}:"


def push_fence(pusher: str) -> str:
    """The number of the last push by `pusher`: a push repeated after a lost reply is recognised by it."""
    return f"pyqik:push:{pusher}"
