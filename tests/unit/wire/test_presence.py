"""What the `info` of a process says: the superset that every Sidekiq from 6.4 to 8.1 reads."""

from __future__ import annotations

import json

from pyqik.wire.presence import CapsuleInfo, ProcessInfo

INFO = ProcessInfo(
    identity="web-1:7:0431ba61ac7f",
    hostname="web-1",
    pid=7,
    started_at=1795320148.3529115,
    concurrency=12,
    capsules=[
        CapsuleInfo("default", 10, "weighted", {"critical": 3, "default": 1}),
        CapsuleInfo("reports", 2, "strict", {"reports": 0, "default": 0}),
    ],
    tag="shöp",
    labels=["blue"],
    version="pyqik 0.1.0 (Python 3.11.7)",
)


def test_the_info_has_every_key_that_any_version_reads() -> None:
    assert json.loads(INFO.to_json()) == {
        "hostname": "web-1",
        "started_at": 1795320148.3529115,
        "pid": 7,
        "tag": "shöp",
        "concurrency": 12,
        "capsules": {
            "default": {"concurrency": 10, "mode": "weighted", "weights": {"critical": 3, "default": 1}},
            "reports": {"concurrency": 2, "mode": "strict", "weights": {"reports": 0, "default": 0}},
        },
        "queues": ["critical", "default", "reports"],
        "weights": [{"critical": 3, "default": 1}, {"reports": 0, "default": 0}],
        "labels": ["blue"],
        "identity": "web-1:7:0431ba61ac7f",
        "version": "pyqik 0.1.0 (Python 3.11.7)",
        "embedded": False,
    }


def test_the_info_is_compact_utf8_as_ruby_writes_it() -> None:
    text = INFO.to_json()

    assert '"tag":"shöp"' in text
    assert ", " not in text.replace("(Python", "")
