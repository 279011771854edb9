"""Clearing away what is left of jobs in the store of their files.

The end of a job removes its parts. Some stay behind: of a job that was deleted in the Web UI, of a run that was taken
for dead and stored something later, of a process that was killed in the middle of the end. A part is removed if Redis
has no state of its job, and nothing of the job was stored for a day. Each supervisor and each embedded launcher tries
it with a thread of its own; one of them every six hours does it.

A store is that of one database: it holds an object with the id that this has. Where another one's stands, nothing is
removed: the jobs of that one are not known here.
"""

from __future__ import annotations

import math
import random
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice, takewhile
from typing import Final, Protocol
from urllib.parse import quote, unquote

import structlog
from redis.exceptions import RedisError

from pyqik.core.errors import StoreError
from pyqik.jobs.storage import ConfiguredStorage
from pyqik.stores.checksums import crc32c
from pyqik.stores.store import Occupied, Store, Stored
from pyqik.wire.connection import open_redis
from pyqik.wire.job_files import KnownJobs

log = structlog.get_logger("pyqik")

#: Seconds between two sweeps by any process of the fleet.
INTERVAL: Final = 21_600.0
#: Seconds before the first try, at most: a restarted fleet should not try as one.
SPREAD: Final = 300.0
#: Seconds for which nothing of a job must have been stored.
ABANDONED: Final = 86_400.0
#: Jobs that are asked for at once, and objects that are removed at once: the end of a process may have to wait for it.
BATCH: Final = 500
REMOVED: Final = 50
#: The object that says whose store it is.
MARK: Final = ".pyqik"
#: Seconds for which it is tried to write that.
PATIENCE: Final = 60.0

# Only what has such a name is touched: files may be published to a directory of the same bucket.
_PARTS_NAME: Final = r"[0-9a-f]{12}-[0-9]{6,}(-whole)?"
_PART: Final = re.compile(rf"[^/]+/[^/]+/{_PARTS_NAME}")
_CHECK: Final = r"\.check-[0-9a-f]{8}"
#: What a check has left, and files of a directory in the middle of which a process was killed.
_UNFINISHED: Final = re.compile(
    rf"{_CHECK}|\.({_CHECK}|{re.escape(MARK)})-[0-9a-f]{{8}}\.part|[^/]+/[^/]+/\.{_PARTS_NAME}-[0-9a-f]{{8}}\.part"
)


class Jobs(Protocol):
    """See `pyqik.wire.job_files.KnownJobs`."""

    def owner(self) -> str:
        """The id of their database."""
        ...

    def live(self, jids: Collection[str], owner: str) -> set[str]:
        """Those that go on with their files."""
        ...


class OtherOwner(StoreError):
    """The store is that of another Redis."""


@dataclass(slots=True)
class Swept:
    """What was removed: objects, their bytes, and of how many jobs."""

    objects: int = 0
    size: int = 0
    jobs: int = 0


def sweep(store: Store, jobs: Jobs, stopping: Callable[[], bool] = lambda: False) -> Swept:
    """Remove what is left of jobs that are gone; nothing more once it is `stopping`.

    Raises: OtherOwner; StoreError; what `jobs` raises. It may be done again, by others at the same time too.
    """
    owner = jobs.owner()
    _claim(store, owner)
    sweeping = _Sweep(store, jobs, owner, stopping)
    try:
        sweeping.run()
    finally:
        swept = sweeping.swept
        if swept.objects:
            log.info(
                "removed files of jobs that are gone",
                store=store.name,
                objects=swept.objects,
                bytes=swept.size,
                jobs=swept.jobs,
            )
    return swept


def _claim(store: Store, owner: str) -> None:
    data = owner.encode()
    try:
        store.put(MARK, lambda: iter([data]), len(data), crc32c(data), lambda: PATIENCE)
    except Occupied as error:
        raise OtherOwner(
            f"{store.name} belongs to the workers of another Redis; give those of each Redis a directory or prefix of "
            f"their own, or remove {MARK} there if the other Redis is gone"
        ) from error


class _Sweep:
    """One. At any time it has the names of one batch in memory."""

    def __init__(self, store: Store, jobs: Jobs, owner: str, stopping: Callable[[], bool]) -> None:
        self._store = store
        self._jobs = jobs
        self._owner = owner
        self._stopping = stopping
        self.swept = Swept()

    def run(self) -> None:
        unfinished: list[Stored] = []
        old: list[str] = []
        # Every store lists in a row what is of one job.
        for directory, group in groupby(takewhile(lambda _: not self._stopping(), self._store.find("")), _directory):
            youngest, has_parts = math.inf, False
            for each in group:
                youngest = min(youngest, each.age)
                has_parts = has_parts or _is_part(each.name)
                if each.age >= ABANDONED and _UNFINISHED.fullmatch(each.name):
                    unfinished.append(each)
                    if len(unfinished) == REMOVED:
                        self._remove(unfinished)
                        unfinished = []
            if has_parts and youngest >= ABANDONED:
                old.append(directory)
                if len(old) == BATCH:
                    self._remove_jobs(old)
                    old = []
        self._remove_jobs(old)
        self._remove(unfinished)

    def _remove_jobs(self, directories: list[str]) -> None:
        """Remove the parts of those that are not live, in these directories of the store."""
        removed: set[str] = set()
        for batch in _batches(self._parts(self._dead(directories))):
            # Somebody may have pushed one of these jobs again meanwhile.
            dead = self._dead({_directory(each) for each in batch})
            if self._remove([each for each in batch if _directory(each) in dead]):
                self.swept.jobs += len(dead - removed)
                removed |= dead

    def _dead(self, directories: Collection[str]) -> set[str]:
        if not directories or self._stopping():
            return set()
        jids = {unquote(directory): directory for directory in directories}
        live = self._jobs.live(list(jids), self._owner)
        return {directory for jid, directory in jids.items() if jid not in live}

    def _parts(self, directories: Iterable[str]) -> Iterator[Stored]:
        for directory in directories:
            for each in self._store.find(f"{directory}/"):
                if each.age >= ABANDONED and _is_part(each.name):
                    yield each

    def _remove(self, found: Collection[Stored]) -> bool:
        if not found or self._stopping():
            return False
        self._store.remove([each.name for each in found])
        self.swept.objects += len(found)
        self.swept.size += sum(each.size for each in found)
        return True


def _directory(found: Stored) -> str:
    return found.name.partition("/")[0]


def _is_part(name: str) -> bool:
    directory = name.partition("/")[0]
    return bool(_PART.fullmatch(name)) and quote(unquote(directory), safe="") == directory


def _batches(found: Iterator[Stored]) -> Iterator[list[Stored]]:
    while batch := list(islice(found, REMOVED)):
        yield batch


class Sweeper:
    """See the module's docstring. Its connection is open while it sweeps."""

    def __init__(self, redis_url: str, files: str) -> None:
        self._redis_url = redis_url
        self._files = files
        self._warned = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pyqik-sweeper", daemon=True)

    def start(self) -> None:
        """Try it from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Remove nothing more. Returns at once: the store may be slow, and nothing is lost by a sweep that ends."""
        self._stopping.set()

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait + random.uniform(0.0, SPREAD)):
            self._try()
            wait = INTERVAL

    def _try(self) -> None:
        try:
            with open_redis(self._redis_url) as client:
                jobs = KnownJobs(client)
                # Only whoever sweeps needs what speaks to the store: Google's client is large.
                if jobs.may_sweep(INTERVAL) and (store := ConfiguredStorage(self._files).store) is not None:
                    sweep(store, jobs, self._stopping.is_set)
        except OtherOwner as error:
            if not self._warned:
                log.warning("files of jobs that are gone are not removed", error=str(error))
            self._warned = True
        except (RedisError, StoreError) as error:
            log.warning("could not remove files of jobs that are gone; trying again later", error=str(error))
        except Exception:
            # Whatever a client of a store may raise: no job needs this thread.
            log.exception("could not remove files of jobs that are gone; trying again later")
