"""An export that takes hours, hundreds of megabytes of it. After each deploy it goes on at its next order.

On Rails's side it is a class without `perform`, that says where it runs:

    class Exports::OrderLines
      include Sidekiq::Job
      sidekiq_options queue: "exports", retry: 5
    end

    address = "gs://shop-exports/#{shop.id}/#{SecureRandom.uuid}.csv"
    jid = Exports::OrderLines.perform_async(shop.id, Date.yesterday.iso8601, address)
    current_user.exports.create!(jid: jid, address: address)

or no class at all:

    Sidekiq::Client.push("class" => "Exports::OrderLines", "queue" => "exports", "args" => [7, "2026-11-22", address])

Anybody can see how far it is: Python by `shop.web`, people by `pyqik progress JID --follow`, Ruby by the hash

    Sidekiq.redis { |redis| redis.call("HGETALL", "progress/#{jid}") }    # done, total, note, pace, ended, ...

What makes it the same file, however often it was interrupted:

* The arguments say which orders are meant. `until_day` is a day that is over, so the next run finds the same ones.
* `sql_rows` goes by the key, and a run begins at the order that the last one has not done.
* Each order's lines, the counters, the progress and the cursor are written down together. What a run has written of an
  order that it did not come to the end of, by a crash or an error, is cut off.
* An address that nobody else writes to. Publishing is one step, at the end; what was interrupted is never seen there.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text

import pyqik
from pyqik import enumerators
from shop import database

ORDERS = "SELECT id, placed_on, customer FROM orders WHERE shop_id = :shop_id AND placed_on <= :until_day"
LINES = text("SELECT product, quantity, cents FROM order_lines WHERE order_id = :id ORDER BY position")


@pyqik.job("Exports::OrderLines", queue="exports", retry=5)
def export_order_lines(shop_id: int, until_day: str, address: str) -> None:
    """Every line of every order of a shop."""
    meant = {"shop_id": shop_id, "until_day": until_day}
    if pyqik.progress.total is None:
        pyqik.progress.total = count_orders(meant)
    pyqik.progress.note = "writing the orders"
    out = pyqik.file("order_lines.csv")
    writer = csv.writer(out)
    if out.size == 0:
        writer.writerow(["order", "day", "customer", "product", "quantity", "cents"])
    for order in pyqik.each(enumerators.sql_rows(database.engine, ORDERS, key="id", params=meant)):
        for line in lines_of(order):
            writer.writerow([order["id"], order["placed_on"], order["customer"], *line])
            pyqik.counters["lines"] += 1
    pyqik.progress.note = "publishing"
    about = {"shop": str(shop_id), "lines": str(pyqik.counters["lines"])}
    out.publish(address, content_type="text/csv; charset=utf-8", metadata=about)


def count_orders(meant: Mapping[str, Any]) -> int:
    with database.engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM ({ORDERS}) AS orders"), meant).scalar_one())


def lines_of(order: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    # A connection of the pool for each: none is kept for hours, with a transaction that nobody ends.
    with database.engine.connect() as connection:
        return [tuple(line) for line in connection.execute(LINES, {"id": order["id"]})]
