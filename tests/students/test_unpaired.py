"""Unpaired values of two arms, one of them far more frequent than the other."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from students.evidence import Harm
from students.unpaired import TwoSample


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
