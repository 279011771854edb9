"""Where the files of a job are in a test: in memory, and stored in the moment in which that is asked for."""

from __future__ import annotations

from pyqik.jobs.uploader import AtOnce, Uploads
from pyqik.stores.memory import MemoryStore
from pyqik.stores.targets import MemoryTarget, PathTarget, Target


class KeptFiles:
    """See `pyqik.jobs.run_files.Storage`. What is published to a path goes there; other addresses are in memory."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.published = MemoryStore()

    def copy(self) -> KeptFiles:
        """The same files, which may go another way."""
        copied = KeptFiles()
        copied.store, copied.published = self.store.copy(), self.published.copy()
        return copied

    def target(self, url: str) -> Target:
        """Any address will do."""
        return MemoryTarget(self.published, url, self.store) if "://" in url else PathTarget(url)

    def uploads(self) -> Uploads:
        """Nothing goes on beside the job."""
        return AtOnce()
