"""Threads that wait for each other sleep while other programs take the cores, and only then."""

import os
import time

import pytest

from stagewise import threads
from stagewise.threads import Usage, considerate, kept_waiting, shared, usage

BEFORE = Usage(100.0, 50.0, 10.0, {"1": 1.0, "2": 1.0})


@pytest.mark.parametrize(
    ("others", "cores", "threads", "crowded"),
    [
        (0.0, 2, 2, False),
        (0.2, 2, 2, False),  # an editor, a clock
        (0.4, 2, 2, True),
        (2.0, 2, 2, True),
        (2.0, 2, 1, False),  # one thread waits for nobody
        (2.0, 8, 4, False),  # there is room
        (6.0, 8, 4, True),
    ],
)
def test_cores_are_shared_where_others_leave_too_few(others, cores, threads, crowded):
    now = Usage(102.0, 50.0 + 2 * (others + threads), 10.0 + 2 * threads, {})
    assert shared(BEFORE, now, cores, threads) == crowded


def test_threads_are_kept_waiting_where_they_often_cannot_run():
    now = Usage(102.0, 0.0, 0.0, {"1": 1.0, "3": 0.3})  # one has ended, one is new
    assert not kept_waiting(BEFORE, now, 2)
    assert kept_waiting(BEFORE, now._replace(kept={"1": 1.2, "2": 1.0, "3": 0.3}), 2)


def test_the_work_of_this_process_is_its_own():
    before = usage()
    while (now := usage()).own < before.own + 0.05:
        sum(range(100_000))
    assert now.all - before.all >= 0.04  # the kernel counts both in hundredths
    assert now.clock > before.clock
    assert str(os.getpid()) in now.kept


def until(true):
    while not true():  # the test's own time limit ends it
        time.sleep(0.005)


@pytest.fixture
def looks(monkeypatch):
    """What the watcher finds at each of its looks, many a second."""
    found = {"shared": False, "kept": True, "asked": 0}

    def look(*_):
        found["asked"] += 1
        return found["shared"]

    monkeypatch.setattr(threads, "SECONDS", 0.005)
    monkeypatch.setattr(threads, "shared", look)
    monkeypatch.setattr(threads, "kept_waiting", lambda *_: found["kept"])
    for name in threads.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return found


def tasks():
    return len(os.listdir("/proc/self/task"))


def seen_again(looks):
    asked = looks["asked"]
    until(lambda: looks["asked"] > asked + 2)


@pytest.mark.skipif(threads._libgomp() is None, reason="torch computes with another OpenMP")
def test_a_team_that_does_nothing_is_there_while_the_machine_is_busy(looks):
    cores, before = len(os.sched_getaffinity(0)), tasks()
    with considerate():
        seen_again(looks)
        assert tasks() == before + 1  # the watcher
        looks |= {"shared": True, "kept": False}  # others work at a low priority
        seen_again(looks)
        assert tasks() == before + 1
        looks["kept"] = True
        until(lambda: tasks() == before + 2 + cores)  # more threads of libgomp than cores: it sleeps
        looks["shared"] = False
        until(lambda: tasks() == before + 1)
        looks["shared"] = True
        until(lambda: tasks() == before + 2 + cores)
    until(lambda: tasks() == before)


@pytest.mark.parametrize("name", threads.SETTINGS)
def test_whoever_sets_how_threads_wait_has_decided(looks, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    before = tasks()
    with considerate():
        assert tasks() == before


def test_another_openmp_is_left_alone(looks, monkeypatch):
    monkeypatch.setattr(threads.torch.__config__, "show", lambda: "USE_OPENMP=OFF")
    with considerate():
        assert not looks["asked"]
