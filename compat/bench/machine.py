"""Where figures come from and how they are shown: the machine, its load, versions; a table; a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from compat.bench.sides import ROOT
from compat.trees import program

#: A load average above this at the start means that something else is running too.
QUIET_LOAD = 0.5

Row = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags that every benchmark has."""
    parser.add_argument("--server", choices=("redis-7", "redis-8", "valkey"), default="redis-7")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="the pyqik to run")
    parser.add_argument("--python", default=sys.executable, help="the Python to run it with")
    parser.add_argument("--json", type=Path, help="where to write everything as JSON")


def describe(client: redis.Redis, python: str = sys.executable, sidekiqs: Sequence[str] = ()) -> dict[str, Any]:
    """The machine, the versions of everything that takes part, and the load average now."""
    info = client.info("server")
    valkey = info.get("valkey_version")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": _said([python, "-c", "import sys; print(sys.version.split()[0])"]),
        "redis": f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}",
        "redis-py": redis.__version__,
        "sidekiq": {version: _ruby(version) for version in sidekiqs},
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def announce(title: str, machine: Mapping[str, Any]) -> None:
    """Print what is measured where, and a warning if the machine is busy."""
    print(f"{title}\n")
    for name, value in machine.items():
        if isinstance(value, dict):
            for part, text in value.items():
                print(f"  {name} {part}: {text}")
        else:
            print(f"  {name.replace('_', ' ')}: {value}")
    if machine["load_average_at_start"] > QUIET_LOAD:
        print(
            f"\n  WARNING: the load average is above {QUIET_LOAD}: other programs run, and the figures are theirs too"
        )
    print(flush=True)


def show(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """Print `rows` as a Markdown table. `columns`: heading → field; what a row lacks stays empty."""
    lines = [list(columns), *([_cell(row.get(field)) for field in columns.values()] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for number, line in enumerate(lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(flush=True)


def write_json(path: Path | None, **content: Any) -> None:
    """Write `content` to `path`, if there is one."""
    if path is not None:
        path.write_text(json.dumps(content, indent=1) + "\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _ruby(version: str) -> str:
    script = """
      require "sidekiq"
      print Sidekiq::VERSION, ", Ruby ", RUBY_VERSION, defined?(RubyVM::YJIT) ? "" : " (Debian's, without YJIT)"
    """
    return _said(program(version, "ruby", "-e", script))


def _said(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
