"""Where the files of jobs are kept, by what the configuration says, and where they are published to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyqik.core.errors import StoreError
from pyqik.jobs.uploader import AtOnce, Uploads, UploadThread
from pyqik.stores.directory import DirectoryStore
from pyqik.stores.store import Store
from pyqik.stores.targets import PathTarget, Target

if TYPE_CHECKING:
    from pyqik.stores.cloud_target import CloudStore, CloudTarget

#: How an address in Cloud Storage begins.
CLOUD: Final = "gs://"


class ConfiguredStorage:
    """See `pyqik.jobs.run_files.Storage`. `files` is the configuration's: a directory, "gs://bucket/prefix", or none.
    Nothing is connected to before it is needed.

    Raises: StoreError without the package that it needs.
    """

    def __init__(self, files: str = "") -> None:
        self._cloud_store: CloudStore | None = None
        self.store: Store | None = DirectoryStore(files) if files else None
        if files.startswith(CLOUD):
            # Now, as it takes a second, and a job that is just being stopped may not have that.
            store, _ = _cloud()
            self.store = self._cloud_store = store(files)

    def target(self, url: str) -> Target:
        """Raises: ValueError for what is neither a path nor an object of Cloud Storage; StoreError."""
        if url.startswith(CLOUD):
            _, target = _cloud()
            return target(url, self._cloud_store)
        if not url or "://" in url:
            raise ValueError(f"{url!r} cannot be published to; write a path, or gs://bucket/object")
        return PathTarget(url)

    def uploads(self) -> Uploads:
        """A thread for each run, if there is anything to do."""
        return AtOnce() if self.store is None else UploadThread()


def _cloud() -> tuple[type[CloudStore], type[CloudTarget]]:
    """What only those import who have an address in Cloud Storage. Raises: StoreError."""
    try:
        from pyqik.stores.cloud_target import CloudStore, CloudTarget
    except ImportError as error:
        raise StoreError(
            f'Cloud Storage needs a package that is not installed ({error.name}); run: pip install "pyqik[gcs]"'
        ) from error
    return CloudStore, CloudTarget


#: For a job that is called like any function: nothing is kept.
LOCAL = ConfiguredStorage()
