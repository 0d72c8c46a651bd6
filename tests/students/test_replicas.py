"""Names of workers: kept over a restart, one each, and the silent ones' work given to one other."""

import os

import pytest

from capture.db import Store
from students.replicas import ALIVE_S, Replica, SupersededError
from tests.factories.clock import Clock

DEAD = 2**22 + 1  # no process of this number: it lies beyond the kernel's largest


def test_two_workers_of_one_host_have_two_names(store: Store, clock: Clock) -> None:
    assert Replica(store, clock, "host", os.getpid()).name == "host"
    assert Replica(store, clock, "host", os.getppid()).name == "host.1"


def test_after_a_kill_the_restart_has_the_same_name_at_once(store: Store, clock: Clock) -> None:
    assert Replica(store, clock, "host", DEAD).name == "host"
    assert Replica(store, clock, "host", os.getpid()).name == "host"


def test_a_host_that_went_silent_is_taken_over_by_one(store: Store, clock: Clock) -> None:
    Replica(store, clock, "gone", 1)
    clock.now += ALIVE_S / 2
    one, other = Replica(store, clock, "a", 1), Replica(store, clock, "b", 1)
    assert one.take_orphans() == []
    clock.now += ALIVE_S / 2 + 1
    assert one.take_orphans() == ["gone"]
    assert other.take_orphans() == []
    one.forget("gone")
    clock.now += ALIVE_S / 4
    one.beat()
    assert one.take_orphans() == []


def test_one_that_died_with_its_clock_ahead_is_taken_over_too(store: Store, clock: Clock) -> None:
    ahead = Clock(clock.now + 86_400)
    living, one = Replica(store, ahead, "ahead", 1), Replica(store, clock, "a", 1)
    for _ in range(3):
        assert one.take_orphans() == []
        ahead.now, clock.now = ahead.now + ALIVE_S / 2, clock.now + ALIVE_S / 2
        living.beat()
        one.beat()
    assert one.take_orphans() == []
    clock.now += ALIVE_S + 1
    one.beat()
    assert one.take_orphans() == ["ahead"]


def test_one_that_was_taken_over_learns_of_it(store: Store, clock: Clock) -> None:
    slow, quick = Replica(store, clock, "slow", 1), Replica(store, clock, "quick", 1)
    clock.now += ALIVE_S + 1
    quick.beat()
    assert quick.take_orphans() == ["slow"]
    with pytest.raises(SupersededError):
        slow.beat()


def test_whoever_leaves_is_taken_over_at_once(store: Store, clock: Clock) -> None:
    leaving, staying = Replica(store, clock, "leaving", 1), Replica(store, clock, "staying", 1)
    leaving.leave()
    assert staying.take_orphans() == ["leaving"]
