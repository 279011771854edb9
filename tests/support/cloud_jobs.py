"""Exports into Cloud Storage, for process tests."""

from __future__ import annotations

import asyncio
import csv
import os
import sqlite3
import threading

import redis as redis_py

import pyqik
from pyqik import enumerators

#: Where it is said which process has a job, and which item it is at.
told = redis_py.Redis.from_url(os.environ["TOLD"])
#: Seconds that one item takes.
PACE = 0.002
TEXT = 'text, "quoted" and\nin two lines ä' * 3


def tell(number: int) -> None:
    """Say so."""
    told.hset(f"told:{pyqik.current().jid}", mapping={"pid": os.getpid(), "item": number})


@pyqik.job("Cloud::Export")
def export(count: int) -> None:
    """Rows, one by one."""
    out = pyqik.file("rows.csv")
    writer = csv.writer(out)
    for number in pyqik.each(enumerators.array(list(range(count)))):
        tell(number)
        writer.writerow([number, TEXT])
        threading.Event().wait(PACE)
    out.publish(f"gs://exports/{pyqik.current().jid}.csv")


@pyqik.job("Cloud::AsyncExport")
async def export_async(count: int) -> None:
    """The same on the event loop."""
    out = await pyqik.afile("rows.csv")
    writer = csv.writer(out)
    async for number in pyqik.each(enumerators.array(list(range(count)))):
        tell(number)
        writer.writerow([number, TEXT])
        await asyncio.sleep(PACE)
    await out.apublish(f"gs://exports/{pyqik.current().jid}.csv")


@pyqik.job("Cloud::Database")
def database(count: int) -> None:
    """Rows of a database that is a snapshot."""
    out = pyqik.file("rows.sqlite", snapshot=True)
    with sqlite3.connect(out.path) as rows:
        out.on_save(rows.commit)
        rows.execute("CREATE TABLE IF NOT EXISTS rows (number, text)")
        for number in pyqik.each(enumerators.array(list(range(count)))):
            tell(number)
            rows.execute("INSERT INTO rows VALUES (?, ?)", (number, TEXT))
            threading.Event().wait(PACE)
    rows.close()
    out.publish(f"gs://exports/{pyqik.current().jid}.sqlite")
