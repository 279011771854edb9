"""The jobs of `export.py`. Each appends what it has measured to the file that EXPORT_RESULTS names."""

from __future__ import annotations

import csv
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyqik
from pyqik.jobs.storage import ConfiguredStorage
from pyqik.stores.checksums import crc32c

#: Bytes of a row, roughly.
ROW = 200
PART = 4 * 1024 * 1024
TEXT = "x" * (ROW - 20)


def _memory(name: str) -> float:
    """MB, as the system has it: "VmRSS" now, "VmHWM" at most since `_forget_peak`."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def _measured(what: str, **more: Any) -> Iterator[None]:
    Path("/proc/self/clear_refs").write_text("5")  # The peak is that of now.
    before, began, used = _memory("VmRSS"), time.perf_counter(), time.process_time()
    yield
    result = {
        "what": what,
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - used,
        "memory": _memory("VmHWM") - before,
        **more,
    }
    with open(os.environ["EXPORT_RESULTS"], "a") as file:
        file.write(json.dumps(result) + "\n")


def _numbers(rows: int) -> Any:
    def numbers(cursor: int | None) -> Iterator[tuple[int, int]]:
        for number in range(cursor or 0, rows):
            yield number, number

    return numbers


def _write_rows(file: Any, rows: int) -> None:
    writer = csv.writer(file)
    for number in pyqik.each(_numbers(rows)):
        writer.writerow([number, TEXT])


@pyqik.job("Bench::Warm", queue="export")
def warm() -> None:
    """What is imported at the first use is not what an export costs."""
    out = pyqik.file("warm")
    out.write("warm")
    out.publish("gs://exports/warm")
    with _measured("warm"):
        pass


@pyqik.job("Bench::Write", queue="export")
def write(size: int) -> None:
    """Rows into a file that nobody keeps."""
    with tempfile.TemporaryFile("w", newline="") as file, _measured("write"):
        _write_rows(file, size // ROW)


@pyqik.job("Bench::Upload", queue="export")
def upload(size: int) -> None:
    """As many bytes into the store, in parts, and nothing else."""
    store, data = ConfiguredStorage(os.environ["PYQIK_FILES"]).store, os.urandom(PART)
    assert store is not None
    crc = crc32c(data)
    with _measured("upload"):
        names = [f"bench/{number}" for number in range(size // PART)]
        for name in names:
            store.put(name, lambda: iter([data]), PART, crc, lambda: 60.0)
    store.remove(names)


@pyqik.job("Bench::Export", queue="export")
def export(size: int, url: str) -> None:
    """Both at once."""
    with _measured("export", jid=pyqik.current().jid):
        out = pyqik.file("rows.csv")
        _write_rows(out, size // ROW)
        out.publish(url)


@pyqik.job("Bench::Restore", queue="export")
def restore(size: int) -> None:
    """The second run fetches what the first one has written; and then as much with Google's client alone."""
    out = pyqik.file("rows.bin", "wb")
    data = os.urandom(PART)
    if not pyqik.resume(default=False):
        for _ in range(size // PART):
            out.write(data)
        pyqik.checkpoint(True)
        raise pyqik.ContinueIn(0)
    with _measured("restore"):
        assert os.path.getsize(out.path) == out.size
    out.publish("gs://exports/whole")
    from google.cloud import storage  # type: ignore[attr-defined, import-untyped, unused-ignore]

    with tempfile.NamedTemporaryFile() as file, _measured("fetch"):
        storage.Client(project=None).bucket("exports").blob("whole").download_to_filename(file.name)
