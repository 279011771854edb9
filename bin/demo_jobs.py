"""The jobs of the demo, as an author of jobs writes them. What they count in Redis is for the demo alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

import pyqik

evidence = redis.Redis.from_url(os.environ["REDIS_URL"])


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


@pyqik.job("Reports::Yearly", queue="reports")
def build_yearly_report(shop_id: int) -> None:
    """Much longer than a deploy can wait."""
    with witnessed(f"yearly report {shop_id}"):
        for _ in range(600):
            time.sleep(0.1)


@pyqik.job("Billing::Charge", queue="receipts")
def charge(order_id: int) -> None:
    """A job whose provider is down."""
    raise ConnectionError("the payment provider does not answer")
