"""Signals for one child of several: the Web UI's buttons, through `<identity>-signals`, and signals to its pid."""

from __future__ import annotations

import os
import signal

import redis as redis_py

from pyqik.wire.presence import send_signal
from tests.process.conftest import StartWork
from tests.process.state import payload, places, push, traces
from tests.support.jobs import Zoo
from tests.support.process import WorkProcess
from tests.support.wait import wait_until

#: Seconds until the next beat, which reads one signal, and some.
BEAT = 20


def two_children(start_work: StartWork, redis: redis_py.Redis, signal_for_first: str) -> WorkProcess:
    """Two children, of which the first finds a signal from the Web UI, most probably at its first beat."""
    work = start_work("--processes", "2", "-c", "1", ready=False)
    work.wait_for_event("child started")
    send_signal(redis, work.identities[0], signal_for_first)
    work.wait_for_event("child ready", count=2)
    return work


def test_stop_in_the_web_ui_ends_that_child_which_is_not_restarted_while_the_other_goes_on(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = two_children(start_work, redis, "TERM")
    first, second = work.identities

    work.wait_for_event("child ended", child=work.started_children[0], how="exit status 0", timeout=BEAT)

    wait_until(lambda: redis.smembers("processes") == {second.encode()})
    push(redis, payload("Zoo::Pass", jid="job"))
    work.wait_for_event("done", jid="job", pid=work.started_children[1])
    assert work.children == work.started_children[1:2]
    assert redis.exists(f"{first}-signals") == 0
    assert len(work.started_children) == 2


def test_quiet_in_the_web_ui_acts_on_that_child_only(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = two_children(start_work, redis, "TSTP")
    first, second = work.identities

    wait_until(lambda: redis.hget(first, "quiet") == b"true", timeout=BEAT)

    work.dump(work.children[0])
    push(redis, payload("Zoo::Pass", jid="a"), payload("Zoo::Pass", jid="b"))
    work.wait_for_event("done", count=2)
    assert {note.pid for note in zoo.notes("begun")} == {work.started_children[1]}
    wait_until(lambda: redis.hget(second, "quiet") == b"false")


def test_dump_in_the_web_ui_acts_on_that_child_only(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = two_children(start_work, redis, "TTIN")

    work.wait_for_event("thread", pid=work.children[0], thread="pyqik-fetcher", timeout=BEAT)

    assert {line["pid"] for line in work.lines("thread")} == {work.children[0]}


def test_when_the_last_child_was_stopped_in_the_web_ui_the_command_ends_with_status_0(
    start_work: StartWork, redis: redis_py.Redis
) -> None:
    work = start_work(ready=False)
    work.wait_for_event("child started")

    send_signal(redis, work.identities[0], "TERM")

    assert work.wait(BEAT + 2) == 0
    assert work.lines("remote signal", signal="TERM", identity=work.identities[0])
    assert traces(redis) == {}


def test_term_to_a_childs_pid_stops_that_one_for_good(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start_work("--processes", "2", "-c", "1", "-t", "1")
    work.wait_for_event("child ready", count=2)
    unfinished = payload("Zoo::Stubborn", "gate", jid="stubborn")
    push(redis, unfinished)
    [begun] = zoo.wait_for_runs(1)

    os.kill(begun.pid, signal.SIGTERM)

    ended = work.wait_for_event("child ended")
    assert (ended["child"], ended["killed"]) == (begun.pid, True)
    [_, again] = zoo.wait_for_runs(2)
    assert again.pid != begun.pid
    assert (len(work.started_children), len(work.children)) == (2, 1)


def test_term_to_the_pid_of_the_last_child_ends_the_command_with_status_0(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-t", "1")
    raw = payload("Zoo::Wait", "never", jid="unfinished")
    push(redis, raw)
    zoo.wait_for_runs(1)

    os.kill(work.children[0], signal.SIGTERM)

    assert work.wait() == 0
    assert places(redis) == {raw: ["queue:default"]}
    assert traces(redis) == {}


def test_tstp_to_a_childs_pid_makes_it_quiet_and_that_is_shown(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work()
    identity = work.identities[0]
    wait_until(lambda: redis.hget(identity, "quiet") == b"false")

    os.kill(work.children[0], signal.SIGTSTP)

    # The next beat would come after ten seconds.
    wait_until(lambda: redis.hget(identity, "quiet") == b"true", timeout=5)
    assert work.status is None
