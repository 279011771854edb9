"""Where the files of jobs are kept, by what the configuration says, and where they are published to."""

from __future__ import annotations

from pyqik.jobs.uploader import AtOnce, Uploads, UploadThread
from pyqik.stores.directory import DirectoryStore
from pyqik.stores.store import Store
from pyqik.stores.targets import PathTarget, Target


class ConfiguredStorage:
    """See `pyqik.jobs.run_files.Storage`. `files` is the configuration's: a directory, or nothing."""

    def __init__(self, files: str = "") -> None:
        self.store: Store | None = DirectoryStore(files) if files else None

    def target(self, url: str) -> Target:
        """Raises: ValueError for what is no path."""
        if not url or "://" in url:
            raise ValueError(f"{url!r} cannot be published to; write a path")
        return PathTarget(url)

    def uploads(self) -> Uploads:
        """A thread for each run, if there is anything to do."""
        return AtOnce() if self.store is None else UploadThread()


#: For a job that is called like any function: nothing is kept.
LOCAL = ConfiguredStorage()
