"""The jobs of the demo, as an author of jobs writes them. What they leave as evidence is for the demo alone."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis

import pyqik
from pyqik import enumerators

evidence = redis.Redis.from_url(os.environ["REDIS_URL"])
database = sqlite3.connect(os.environ["DEMO_DATABASE"], timeout=30, isolation_level=None, check_same_thread=False)


@pyqik.job("Customers::Import", queue="imports")
def import_customers(path: str, table: str) -> None:
    """A long one: rows of a file into a table."""
    evidence.rpush(f"demo:runs:{table}", os.getpid())
    for row in pyqik.each(enumerators.csv_rows(path), flush_interval=0.5):
        upsert(table, row)
        pyqik.counters["imported"] += 1
    evidence.set(f"demo:imported:{table}", pyqik.counters["imported"])


def upsert(table: str, row: Mapping[Any, Any]) -> None:
    """Write a customer; `writes` counts how often that was done."""
    time.sleep(0.01)
    database.execute(
        f"INSERT INTO {table} (id, name, address, writes) VALUES (:id, :name, :address, 1) "
        "ON CONFLICT (id) DO UPDATE SET name = excluded.name, address = excluded.address, writes = writes + 1",
        row,
    )


@contextmanager
def witnessed(name: str) -> Iterator[None]:
    """Count starts and ends of the job `name`, and say which process has it in hand."""
    # Transactions: a kill between two commands would leave a job in hand that has not been counted.
    with evidence.pipeline() as start:
        start.hset("demo:in-hand", name, os.getpid()).hincrby("demo:started", name, 1).execute()
    yield
    with evidence.pipeline() as end:
        end.hincrby("demo:finished", name, 1).hdel("demo:in-hand", name).execute()


@pyqik.job("Billing::SendReceipt", queue="receipts", retry=5)
def send_receipt(order_id: int) -> None:
    """A short job."""
    with witnessed(f"receipt {order_id}"):
        time.sleep(0.1)


@pyqik.job("Reports::Build", queue="reports")
def build_report(shop_id: int, month: str) -> None:
    """A longer one."""
    with witnessed(f"report {shop_id}"):
        time.sleep(0.2)


@pyqik.job("Billing::Charge", queue="receipts")
def charge(order_id: int) -> None:
    """A job whose provider is down."""
    raise ConnectionError("the payment provider does not answer")
