"""Clocks that jump and controllers that were silent: neither adds hours, and nothing is promoted by them."""

import pytest
from sqlalchemy import select

import students.tables as tables
from capture.db import Store
from students.controller import tick
from students.rollouts import load_rollout
from tests.factories.clock import Clock
from tests.factories.moving import POLICY, add_pairs, begin, observe, verdict_rows

DAY_S = 86_400.0
A_DAY_LONG = POLICY.model_copy(update={"minimum_hours": 1.0})


@pytest.mark.parametrize("jumps", [(DAY_S,), (-DAY_S,), (DAY_S, -2 * DAY_S, 3 * DAY_S)])
def test_no_jump_of_the_clock_stands_for_hours_of_watching(
    store: Store, clock: Clock, jumps: tuple[float, ...]
) -> None:
    rollout = begin(store, clock, policy=A_DAY_LONG)
    add_pairs(store, rollout, [0.0] * 200)
    tick(store, clock, "a")
    for jump in jumps:
        clock.now += jump
        tick(store, clock, "a")
    after = load_rollout(store, rollout.id)
    assert (after.stage, after.share) == (0, 0.0)
    assert verdict_rows(store, rollout)[-1] == ("hold", "minimum_not_met")


def test_hours_are_those_that_the_controller_watched(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock, policy=A_DAY_LONG)
    add_pairs(store, rollout, [0.0] * 200)
    tick(store, clock, "a")
    for _ in range(59):
        clock.now += 60
        tick(store, clock, "a")
    assert load_rollout(store, rollout.id).stage == 0
    clock.now += 60
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).stage == 1


def test_a_clock_that_is_a_little_ahead_keeps_its_lease(store: Store, clock: Clock) -> None:
    assert tick(store, Clock(clock.now + 59), "b").leading
    assert not tick(store, clock, "a").leading


@pytest.mark.parametrize("jump", [400 * DAY_S, -400 * DAY_S])
def test_without_evidence_no_clock_promotes(store: Store, clock: Clock, jump: float) -> None:
    rollout = begin(store, clock)
    for _ in range(3):
        clock.now += jump
        observe(store, rollout, "AT" * 50)
        tick(store, clock, "a")
    after = load_rollout(store, rollout.id)
    assert (after.state, after.stage, after.share) == ("running", 0, 0.0)
    assert verdict_rows(store, rollout)[-1] == ("hold", "no_evidence")


def test_a_controller_whose_clock_is_ahead_leads_as_long_as_it_lives_and_no_longer(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    add_pairs(store, rollout, [0.0] * 10)
    ahead = Clock(clock.now + DAY_S)
    for _ in range(20):
        assert tick(store, ahead, "ahead").leading
        assert not tick(store, clock, "a").leading
        ahead.now, clock.now = ahead.now + 1, clock.now + 1
    clock.now += 10  # it is killed, and its last lease runs out: not in a day
    assert tick(store, clock, "a").leading
    with store.read() as connection:
        assert connection.execute(select(tables.leases.c.ticked_at)).scalar() == clock.now
    assert load_rollout(store, rollout.id).evidence["tally"]["gates"]["category"]["count"] == 10


def test_a_controller_whose_clock_is_ahead_takes_over_and_the_first_is_fenced(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    add_pairs(store, rollout, [0.0] * 10)
    assert tick(store, clock, "a").leading
    ahead = Clock(clock.now + DAY_S)
    assert tick(store, ahead, "b").leading
    assert not tick(store, clock, "a").leading
    assert load_rollout(store, rollout.id).evidence["tally"]["gates"]["category"]["count"] == 10
