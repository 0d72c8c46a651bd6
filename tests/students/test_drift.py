"""The drift detector: its guarantee, enumerated; how fast it is; and a state that goes on identically."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from students.drift import Drift, alarms

differences = st.lists(st.floats(-1.0, 1.0, allow_nan=False), max_size=80)


def answers(runs: int, pairs: int, student_wrong: float) -> np.ndarray:
    random = np.random.default_rng(1)
    return (random.random((runs, pairs)) >= student_wrong).astype(float) - (random.random((runs, pairs)) >= 0.05)


@pytest.mark.parametrize("smallest", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("low", [-1.0, -0.5])
def test_the_expected_statistic_after_n_pairs_is_at_most_n(smallest: float, low: float) -> None:
    """What the mean run length rests on: all sequences of six pairs whose mean is −smallest, after three bad ones."""
    high = 1.0
    chance_low = (high + smallest) / (high - low)
    for warm_up in ([], [low] * 3):
        expected = 0.0
        for sequence in itertools.product((low, high), repeat=6):
            drift = Drift(smallest, 1e9)
            for difference in [*warm_up, *sequence]:
                drift.update(difference)
            expected += math.prod(chance_low if d == low else 1 - chance_low for d in sequence) * math.exp(drift._log)
        begun = Drift(smallest, 1e9)
        for difference in warm_up:
            begun.update(difference)
        assert expected <= math.exp(begun._log) + 6


def test_a_student_no_worse_than_allowed_raises_no_alarm_in_its_run_length() -> None:
    alarm_at = alarms(answers(200, 2_000, 0.08), Drift(0.03, 2_000))
    waited = np.where(alarm_at == 0, 2_000, alarm_at)
    assert waited.mean() > 0.95 * 2_000


@pytest.mark.parametrize(("wrong", "within"), [(0.6, 100), (0.3, 350)])
def test_a_student_that_turns_bad_is_noticed_however_good_it_was(wrong: float, within: int) -> None:
    traffic = np.hstack([answers(50, 3_000, 0.05), answers(50, 600, wrong)])
    alarm_at = alarms(traffic, Drift(0.1, 10_000))
    assert np.all((alarm_at == 0) | (alarm_at > 3_000))
    assert np.median(np.where(alarm_at == 0, np.inf, alarm_at)) - 3_000 <= within


@settings(max_examples=30, deadline=None)
@given(differences, differences)
def test_it_goes_on_identically_and_equals_the_vectorised_one(first: list[float], then: list[float]) -> None:
    drift = Drift(0.02, 3.0)
    for difference in first:
        drift.update(difference)
    copy = Drift.from_state(json.loads(json.dumps(drift.to_state())))
    for difference in then:
        drift.update(difference)
        copy.update(difference)
    assert copy.to_state() == drift.to_state()
    assert list(alarms(np.array([[*first, *then]] * 2), Drift(0.02, 3.0))) == [drift.alarm_at] * 2


def test_it_remembers_the_last_pairs_and_weights_them() -> None:
    drift = Drift(0.1, 1e6, floor=0.5)
    for _ in range(400):
        drift.update(0.5, 0.5)
    for _ in range(200):
        drift.update(-0.2, 1.0)
    assert drift.recent_mean == pytest.approx(-0.2, abs=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Drift(1.0, 100),
        lambda: Drift(0.1, 1.0),
        lambda: Drift(0.1, 100).update(2.0),
        lambda: Drift(0.1, 100).update(0.0, probability=0.5),
    ],
)
def test_what_cannot_be_is_refused(make) -> None:
    with pytest.raises(ValueError, match=r"must|outside"):
        make()
