"""What long jobs go over: arrays, CSV files, SQL queries, and combinations of these. See `pyqik.Source`."""

from pyqik.enumerators.arrays import array
from pyqik.enumerators.combined import chunked, limit, nested
from pyqik.enumerators.csv import csv_batches, csv_rows
from pyqik.enumerators.exactly_once import exactly_once
from pyqik.enumerators.sql import sql_batches, sql_rows
from pyqik.enumerators.sql_cursors import CursorTaken, SqlCursors
from pyqik.jobs.source import DATE, DATETIME, DECIMAL, UUID_TEXT, tuple_of

__all__ = [
    "DATE",
    "DATETIME",
    "DECIMAL",
    "UUID_TEXT",
    "CursorTaken",
    "SqlCursors",
    "array",
    "chunked",
    "csv_batches",
    "csv_rows",
    "exactly_once",
    "limit",
    "nested",
    "sql_batches",
    "sql_rows",
    "tuple_of",
]
