"""Where the files of jobs are kept, by what the configuration says, and where they are published to."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from pyqik.core.errors import StoreError
from pyqik.jobs.uploader import AtOnce, Uploads, UploadThread
from pyqik.stores.directory import DirectoryStore
from pyqik.stores.store import Store
from pyqik.stores.targets import PathTarget, Target

if TYPE_CHECKING:
    from pyqik.stores.cloud import CloudStore

#: How an address in Cloud Storage begins.
CLOUD: Final = "gs://"


class ConfiguredStorage:
    """See `pyqik.jobs.run_files.Storage`. `files` is the configuration's: a directory, "gs://bucket/prefix", or none.
    Nothing is imported or connected to before it is needed.
    """

    def __init__(self, files: str = "") -> None:
        self._files = files

    @cached_property
    def store(self) -> Store | None:
        """Raises: StoreError without the package that it needs."""
        if self._files.startswith(CLOUD):
            return self._cloud_store
        return DirectoryStore(self._files) if self._files else None

    @cached_property
    def _cloud_store(self) -> CloudStore | None:
        try:
            from pyqik.stores.cloud import CloudStore
        except ImportError as error:
            raise StoreError(
                f'Cloud Storage needs a package that is not installed ({error.name}); run: pip install "pyqik[gcs]"'
            ) from error
        return CloudStore(self._files) if self._files.startswith(CLOUD) else None

    def target(self, url: str) -> Target:
        """Raises: ValueError for what is neither a path nor an object of Cloud Storage; StoreError."""
        if url.startswith(CLOUD):
            store = self._cloud_store
            from pyqik.stores.cloud_target import CloudTarget

            return CloudTarget(url, store)
        if not url or "://" in url:
            raise ValueError(f"{url!r} cannot be published to; write a path, or gs://bucket/object")
        return PathTarget(url)

    def uploads(self) -> Uploads:
        """A thread for each run, if there is anything to do."""
        return AtOnce() if not self._files else UploadThread()


#: For a job that is called like any function: nothing is kept.
LOCAL = ConfiguredStorage()
