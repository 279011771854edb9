"""Enqueues BENCH_JOBS jobs with `perform_bulk` and prints the seconds that took: the counterpart of bulk.rb."""

from __future__ import annotations

import os
import time

from noop_jobs import noop

jobs = int(os.environ["BENCH_JOBS"])
arguments = [[index, f"customer-{index}@example.com", {"shop": index % 100}] for index in range(jobs)]
noop.perform_async(*arguments[0])  # connects

began = time.perf_counter()
noop.perform_bulk(arguments)
print(time.perf_counter() - began)
