"""Processes and running jobs as `pyqik.api` shows them, whichever release of Sidekiq or pyqik wrote them down."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis as redis_py

from pyqik.api import Process, ProcessSet, WorkSet
from pyqik.core.errors import PyqikError
from pyqik.wire.presence import CapsuleInfo, ProcessInfo, Running, beat
from tests.redis.wire.database import contents, fill
from tests.support.proxy import RedisProxy

STARTED = 1_795_320_000.25
BEAT = 1_795_320_009.5

#: What every release writes.
INFO = {"hostname": "vm", "started_at": STARTED, "pid": 7, "tag": "shop", "labels": ["a"], "identity": "vm:7:abc"}
CAPSULES = {
    "default": {"concurrency": 3, "mode": "weighted", "weights": {"high": 2, "low": 1}},
    "solo": {"concurrency": 1, "mode": "strict", "weights": {"one": 0}},
}
FIELDS = {"busy": "2", "beat": str(BEAT), "quiet": "false", "rss": "120000", "rtt_us": "99"}

#: Release → its info, its further fields; and the weights and the version that are to be read.
RELEASES: list[Any] = [
    pytest.param({"concurrency": 4, "queues": ["high", "low", "one"]}, {}, {}, "", id="6.4"),
    pytest.param(
        {"concurrency": 4, "queues": ["high", "low", "one"], "weights": {"high": 2, "low": 1, "one": 0}},
        {},
        {"high": 2, "low": 1, "one": 0},
        "",
        id="7.0.2",
    ),
    pytest.param(
        {
            "concurrency": 4,
            "queues": ["high", "low", "one"],
            "weights": [{"high": 2, "low": 1}, {"one": 0}],
            "version": "7.3.2",
            "embedded": False,
        },
        {},
        {"high": 2, "low": 1, "one": 0},
        "7.3.2",
        id="7.3",
    ),
    pytest.param(
        {"capsules": CAPSULES, "version": "8.1.7", "embedded": False},
        {"concurrency": "4"},
        {"high": 2, "low": 1, "one": 0},
        "8.1.7",
        id="8.1",
    ),
]


def register(redis: redis_py.Redis, identity: str, info: dict[str, Any], fields: dict[str, str]) -> None:
    """What a process's heartbeat writes."""
    redis.sadd("processes", identity)
    redis.hset(identity, mapping={"info": json.dumps({**INFO, "identity": identity, **info}), **FIELDS, **fields})


def the_process(redis: redis_py.Redis) -> Process:
    (process,) = ProcessSet(redis=redis)
    return process


@pytest.mark.parametrize(("info", "fields", "weights", "version"), RELEASES)
def test_a_process_of_each_release_is_read(
    redis: redis_py.Redis, info: dict[str, Any], fields: dict[str, str], weights: dict[str, int], version: str
) -> None:
    register(redis, "vm:7:abc", info, fields)

    process = the_process(redis)

    assert (process.identity, process.hostname, process.pid, process.tag) == ("vm:7:abc", "vm", 7, "shop")
    assert (process.labels, process.queues, process.weights) == (["a"], ["high", "low", "one"], weights)
    assert (process.concurrency, process.busy, process.version) == (4, 2, version)
    assert (process.stopping, process.embedded, process.rss, process.rtt_us) == (False, False, 120000, 99)
    assert (process.started_at, process.beat) == (STARTED, BEAT)


def test_a_process_of_pyqik_is_read(redis: redis_py.Redis) -> None:
    capsules = [
        CapsuleInfo("default", 9, "weighted", {"python": 2, "low": 1}),
        CapsuleInfo("solo", 1, "strict", {"one": 0}),
    ]
    info = ProcessInfo("vm:7:abc", "vm", 7, STARTED, 10, capsules, "shop", ["a"], "pyqik 0.1", embedded=True)
    redis.hset("pyqik:in-flight:vm:7:abc", "1:1", b'low\n{"class":"A","jid":"x"}')
    beat(redis, info, [Running("t1", b"1:1", 1_795_320_001)], now=BEAT, quiet=True, rss_kb=9, lease=30)

    process = the_process(redis)
    (work,) = WorkSet(redis=redis)

    assert (process.queues, process.concurrency) == (["python", "low", "one"], 10)
    assert process.weights == {"python": 2, "low": 1, "one": 0}
    assert process.capsules["solo"] == {"concurrency": 1, "mode": "strict", "weights": {"one": 0}}
    assert (process.busy, process.stopping, process.embedded, process.rss) == (1, True, True, 9)
    assert (work.process_id, work.thread_id, work.queue, work.run_at) == ("vm:7:abc", "t1", "low", 1_795_320_001.0)
    assert (work.job.klass, work.job.jid, work.job.queue) == ("A", "x", "low")


def test_processes_are_seen_by_their_identity(redis: redis_py.Redis) -> None:
    for identity in ("b:1:x", "a:2:x", "c:3:x"):
        register(redis, identity, {}, {})

    assert [process.identity for process in ProcessSet(redis=redis)] == ["a:2:x", "b:1:x", "c:3:x"]


def test_a_process_that_died_is_registered_for_a_while_but_not_seen(redis: redis_py.Redis) -> None:
    register(redis, "a:1:x", {}, {})
    redis.sadd("processes", "gone:1:x")

    processes = ProcessSet(redis=redis)

    assert (processes.size, len(processes), [process.identity for process in processes]) == (2, 2, ["a:1:x"])


@pytest.mark.parametrize("info", ["{not json", "[1]", "null", '{"queues":5,"labels":{},"pid":"x","capsules":[1]}'])
def test_a_process_whose_info_cannot_be_read_is_seen_by_its_name(redis: redis_py.Redis, info: str) -> None:
    fill(redis, {"processes": {b"vm:7:abc"}})
    redis.hset("vm:7:abc", mapping={"info": info, "busy": "x", "beat": "nan"})

    process = the_process(redis)

    assert (process.identity, process.hostname, process.pid, process.busy) == ("vm:7:abc", "vm", 0, 0)
    assert (process.queues, process.labels, process.weights, process.beat) == ([], [], {}, 0.0)


def test_a_process_is_found_by_its_identity(redis: redis_py.Redis) -> None:
    register(redis, "a:1:x", {}, {})
    redis.sadd("processes", "gone:1:x")
    redis.hset("left:1:x", "info", "{}")
    processes = ProcessSet(redis=redis)

    found = [processes.find_process(identity) for identity in ("a:1:x", "gone:1:x", "left:1:x", "b:1:x")]

    assert [process and process.identity for process in found] == ["a:1:x", None, None, None]


def test_totals_are_those_of_all(redis: redis_py.Redis) -> None:
    register(redis, "a:1:x", {"concurrency": 5}, {})
    register(redis, "b:1:x", {}, {"concurrency": "10", "rss": "1000"})
    processes = ProcessSet(redis=redis)

    assert (processes.total_concurrency, processes.total_rss) == (15, 121_000)


@pytest.mark.parametrize(("value", "leader"), [({}, ""), ({"dear-leader": b"a:1:x"}, "a:1:x")], ids=["none", "one"])
def test_enterprise_s_leader_is_known(redis: redis_py.Redis, value: dict[str, Any], leader: str) -> None:
    fill(redis, value)

    assert ProcessSet(redis=redis).leader == leader


@pytest.mark.parametrize(("act", "signal"), [("quiet", b"TSTP"), ("stop", b"TERM"), ("dump_threads", b"TTIN")])
def test_a_process_is_told_by_a_signal_in_its_list(redis: redis_py.Redis, act: str, signal: bytes) -> None:
    register(redis, "vm:7:abc", {}, {})

    getattr(the_process(redis), act)()

    assert contents(redis)["vm:7:abc-signals"] == [signal]
    assert 0 < int(redis.ttl("vm:7:abc-signals")) <= 60


@pytest.mark.parametrize("act", ["quiet", "stop"])
def test_an_embedded_process_can_neither_be_quieted_nor_stopped(redis: redis_py.Redis, act: str) -> None:
    register(redis, "vm:7:abc", {"embedded": True}, {})
    process = the_process(redis)

    with pytest.raises(PyqikError, match="vm:7:abc is embedded"):
        getattr(process, act)()

    assert "vm:7:abc-signals" not in contents(redis)


def entry(jid: str, run_at: int, payload: Any = None) -> bytes:
    text = json.dumps({"class": "A", "jid": jid}) if payload is None else payload
    return json.dumps({"queue": "low", "payload": text, "run_at": run_at}).encode()


@pytest.mark.parametrize("key", ["work", "workers"], ids=["since 6.4.2", "up to 6.4.1"])
def test_running_jobs_are_seen_the_longest_running_first(redis: redis_py.Redis, key: str) -> None:
    register(redis, "a:1:x", {}, {"busy": "2"})
    register(redis, "b:1:x", {}, {"busy": "1"})
    fill(redis, {f"a:1:x:{key}": {b"t1": entry("late", 30), b"t2": entry("early", 10)}})
    fill(redis, {f"b:1:x:{key}": {b"t1": entry("middle", 20)}})

    works = WorkSet(redis=redis)

    assert (works.size, len(works)) == (3, 3)
    assert [(work.job.jid, work.process_id, work.thread_id, work.run_at) for work in works] == [
        ("early", "a:1:x", "t2", 10.0),
        ("middle", "b:1:x", "t1", 20.0),
        ("late", "a:1:x", "t1", 30.0),
    ]


def test_what_pyqik_writes_down_twice_runs_once(redis: redis_py.Redis) -> None:
    register(redis, "a:1:x", {}, {})
    for key in ("a:1:x:work", "a:1:x:workers"):
        fill(redis, {key: {b"t1": entry("j", 10)}})

    assert [work.job.jid for work in WorkSet(redis=redis)] == ["j"]


@pytest.mark.parametrize(
    ("raw", "jid", "invalid"),
    [
        pytest.param(entry("", 10, {"class": "A", "jid": "x"}), "x", False, id="a payload that is an object"),
        pytest.param(entry("", 10, "{not json"), "", True, id="a payload that is no job"),
        pytest.param(b"{not json", "", True, id="an entry that is no JSON"),
        pytest.param(b"[1]", "", True, id="an entry that is an array"),
    ],
)
def test_whatever_runs_is_seen(redis: redis_py.Redis, raw: bytes, jid: str, invalid: bool) -> None:
    register(redis, "a:1:x", {}, {})
    fill(redis, {"a:1:x:work": {b"t1": raw}})

    (work,) = WorkSet(redis=redis)

    assert (work.process_id, work.job.jid, bool(work.job.invalid)) == ("a:1:x", jid, invalid)


def test_a_running_job_is_found_by_its_jid(redis: redis_py.Redis) -> None:
    register(redis, "a:1:x", {}, {})
    fill(redis, {"a:1:x:work": {b"t1": entry("x", 10), b"t2": entry("y", 20)}})
    works = WorkSet(redis=redis)

    found = works.find_work("y")

    assert found is not None
    assert found.thread_id == "t2"
    assert works.find_work("z") is None


def test_many_processes_are_read_in_few_round_trips(redis: redis_py.Redis, redis_proxy: RedisProxy) -> None:
    for number in range(50):
        register(redis, f"vm:{number}:x", {}, {})
    client = redis_py.Redis.from_url(redis_proxy.url)

    seen = len(list(ProcessSet(redis=client)))

    assert seen == 50
    assert redis_proxy.requests.count("SSCAN") == 1
    client.close()
