"""Unpaired values of two arms, one of them far more frequent than the other."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from students.evidence import Harm
from students.unpaired import TwoSample, is_drawn, luck_of


def test_unpaired_rates_are_compared_by_assignment() -> None:
    random = np.random.default_rng(2)
    comparison = TwoSample(Harm(0.02, 0.05))
    same = TwoSample(Harm(0.08, 0.05))
    for _ in range(3_000):
        student = bool(random.random() < 0.25)
        comparison.update(student, float(random.random() >= (0.25 if student else 0.05)))
        same.update(student, float(random.random() >= 0.05))
    assert comparison.test.proven
    assert comparison.test.mean == pytest.approx(-0.2, abs=0.05)
    assert not same.test.proven
    assert same.test.refuted
    assert sum(comparison.values) == 3_000


def test_unpaired_rates_do_not_cry_wolf_at_the_threshold() -> None:
    """Looked at after every value; the student is exactly as much worse as the guardrail allows."""
    false = 0
    for seed in range(80):
        random = np.random.default_rng(seed)
        comparison = TwoSample(Harm(0.05, 0.1))
        for student, luck in zip(random.random(600) < 0.5, random.random(600), strict=True):
            comparison.update(bool(student), float(luck >= (0.15 if student else 0.1)))
        false += comparison.test.proven
    assert stats.binomtest(false, 80).proportion_ci(0.99).low <= 0.1


KEPT = {0.0: 1.0, 1.0: 0.25}
"""Bad answers are all kept, of good ones a quarter: the probability depends on the answer, as a stratum's may."""


def test_the_expected_wealth_is_one_though_bad_answers_are_kept_more_often() -> None:
    """Every sequence of six requests, enumerated: who was asked, how it went, whether it was kept and drawn."""
    good = {True: 0.8, False: 0.9}  # the student is exactly 10 points worse, over all requests
    kinds: list[tuple[float, tuple[bool, float] | None]] = []
    for student, share in ((True, 0.3), (False, 0.7)):
        for value, chance in ((1.0, good[student]), (0.0, 1.0 - good[student])):
            drawn = sum(is_drawn(luck, KEPT[value], floor=0.25) for luck in np.arange(0.0, 1.0, 1 / 64)) / 64
            kinds.append((share * chance * KEPT[value] * drawn, (student, value)))
    kinds.append((1.0 - sum(chance for chance, _ in kinds), None))
    expected = np.zeros(2)
    for sequence in itertools.product(kinds, repeat=6):
        comparison = TwoSample(Harm(0.1, 0.05))
        for kept in (kept for _, kept in sequence if kept is not None):
            comparison.update(*kept)
        logs = [comparison.test.to_state()[side][0] for side in ("up", "down")]
        expected += math.prod(chance for chance, _ in sequence) * np.exp(logs)
    assert expected == pytest.approx([1.0, 1.0], abs=1e-9)


def test_what_is_kept_more_often_says_no_more_than_its_part() -> None:
    """The student is 30 points worse in the tenth of the traffic of which all is kept: 3 points in all."""
    random = np.random.default_rng(5)
    even, blind = TwoSample(Harm(0.1, 0.05)), TwoSample(Harm(0.1, 0.05))
    for number in range(60_000):
        student, rare = bool(random.random() < 0.5), bool(random.random() < 0.1)
        probability = 1.0 if rare else 0.05
        value = float(random.random() >= (0.32 if rare and student else 0.02))
        if random.random() < probability:
            blind.update(student, value)
            if is_drawn(luck_of(f"exchange {number}"), probability, 0.05):
                even.update(student, value)
    assert blind.test.proven
    assert even.test.refuted
    assert even.test.mean == pytest.approx(-0.03, abs=0.02)
    assert sum(even.values) == pytest.approx(3_000, abs=200)


@pytest.mark.parametrize(("probability", "drawn"), [(0.1, True), (0.05, True), (0.2, True), (0.5, False)])
def test_a_rate_common_to_all_and_one_below_the_floor_leave_all_in(probability: float, drawn: bool) -> None:
    assert is_drawn(0.4, probability, floor=0.1) == drawn
    assert is_drawn(0.999, probability, floor=probability)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=30))
def test_a_comparison_read_back_goes_on_identically(values: list[tuple[bool, float]]) -> None:
    comparison = TwoSample(Harm(0.02, 0.05))
    copy = comparison
    for student, value in values:
        copy = TwoSample.from_state(json.loads(json.dumps(copy.to_state())), Harm)
        copy.update(student, value)
        comparison.update(student, value)
    assert copy.to_state() == comparison.to_state()


def test_a_value_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="must lie inside"):
        TwoSample(Harm(0.02, 0.05)).update(True, 1.1)
