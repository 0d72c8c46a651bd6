"""The tests of evidence: exact expectations, the figures of the design, and the state that survives a restart."""

import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from students import evidence
from students.evidence import DOWN, GRID, UP, Harm, MeanTest, NonInferiority, guardrail_alpha, paths

differences = st.floats(-1.0, 1.0, allow_nan=False)


def played(test: MeanTest, pairs: list[float]) -> MeanTest:
    for difference in pairs:
        test.update(difference)
    return test


def answers(runs: int, pairs: int, teacher_wrong: float, student_wrong: float, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    right = [random.random((runs, pairs)) >= wrong for wrong in (student_wrong, teacher_wrong)]
    return right[0].astype(float) - right[1]


def quantile(proven_at: np.ndarray, share: float) -> float:
    return float(np.quantile(np.where(proven_at == 0, np.inf, proven_at), share, method="inverted_cdf"))


@settings(max_examples=60, deadline=None)
@given(
    threshold=st.floats(-0.4, 0.4), worse=st.floats(0.05, 1.0), share=st.floats(0.1, 0.9), better=st.floats(0.0, 1.0)
)
def test_the_expected_wealth_at_the_threshold_is_exactly_one(
    threshold: float, worse: float, share: float, better: float
) -> None:
    """All sequences of four pairs with two possible differences, enumerated: the mean is the threshold itself."""
    low = max(-1.0, threshold - worse * share)
    high = threshold + (1 - better) * (1 - threshold) + 1e-3
    high = min(high, 1.0)
    chance_low = (high - threshold) / (high - low)
    expected = np.zeros(2)
    for sequence in itertools.product((low, high), repeat=4):
        result = paths(np.array([sequence]), MeanTest(threshold, 0.05))
        chance = math.prod(chance_low if value == low else 1 - chance_low for value in sequence)
        expected += chance * np.exp([result.log_wealth[0], result.log_wealth_against[0]])
    assert expected == pytest.approx([1.0, 1.0], abs=1e-9)


def test_the_expected_wealth_is_one_when_bad_requests_are_sampled_less_often() -> None:
    """Requests are of two kinds; one in four is bad and sampled at 0.1, the rest good and sampled at 0.8."""
    kinds = [(0.75 * 0.8, 0.2, 0.8), (0.25 * 0.1, -0.7, 0.1)]
    mean = 0.75 * 0.2 - 0.25 * 0.7
    unsampled = 1.0 - sum(chance for chance, _, _ in kinds)
    outcomes = [*kinds, (unsampled, np.nan, 1.0)]
    expected = np.zeros(2)
    for sequence in itertools.product(outcomes, repeat=5):
        chances, values, sampled_at = zip(*sequence, strict=True)
        result = paths(np.array([values]), MeanTest(mean, 0.05, floor=0.1), np.array([sampled_at]))
        expected += math.prod(chances) * np.exp([result.log_wealth[0], result.log_wealth_against[0]])
    assert expected == pytest.approx([1.0, 1.0], abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(differences, min_size=1, max_size=40), st.sampled_from([0.01, 0.03, 0.1, 0.3]))
def test_the_wealth_is_what_the_paper_says(pairs: list[float], margin: float) -> None:
    """The bets written out once more, a number at a time: Σx / Σx² over past x = d + margin and the made-up pairs."""
    log_wealth = 0.0
    for index, difference in enumerate(pairs):
        past = np.array(pairs[:index])
        edge = float(np.sum(past + margin)) + 20 * margin
        square = float(np.sum((past + margin) ** 2)) + 20 * (0.15 + margin**2)
        bet = min(max(edge / square, 0.0), 0.5 / (1 - margin))
        log_wealth += math.log(1 + bet * (difference + margin))
    assert played(NonInferiority(margin, 0.05), pairs).log_wealth == pytest.approx(log_wealth, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(differences, st.floats(0.2, 1.0)), min_size=1, max_size=60),
    st.sampled_from([NonInferiority(0.03, 0.05, 0.2), Harm(0.02, 0.05, 0.2)]),
)
def test_the_vectorised_paths_equal_the_scalar_test(pairs: list[tuple[float, float]], blank: MeanTest) -> None:
    test = type(blank).from_state(blank.to_state())
    for difference, probability in pairs:
        test.update(difference, probability)
    values, probabilities = (np.tile(column, (3, 1)) for column in np.array(pairs).T)
    result = paths(values, blank, probabilities)
    assert result.log_wealth == pytest.approx(test.log_wealth, abs=1e-9)
    assert set(result.proven_at) == {test.reading().proven_at}
    assert bool(result.refuted_at[0]) == test.refuted
    assert blank.count == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(differences, max_size=40), st.lists(differences, max_size=40))
def test_a_test_read_back_from_json_goes_on_identically(first: list[float], then: list[float]) -> None:
    test = played(Harm(0.02, 0.01), first)
    copy = Harm.from_state(json.loads(json.dumps(test.to_state())))
    assert played(copy, then).to_state() == played(test, then).to_state()
    assert copy.reading() == test.reading()


def test_looking_after_every_pair_promotes_a_student_at_the_margin_at_most_alpha_often() -> None:
    result = paths(answers(600, 3_000, 0.05, 0.08), NonInferiority(0.03, 0.05))
    false = int(np.sum(result.proven_at > 0))
    assert stats.binomtest(false, 600).proportion_ci(0.99).low <= 0.05
    refuted = int(np.sum(result.refuted_at > 0))
    assert stats.binomtest(refuted, 600).proportion_ci(0.99).low <= 0.05


def test_an_equal_student_is_proven_within_the_figures() -> None:
    proven_at = paths(answers(400, 2_500, 0.05, 0.05), NonInferiority(0.03, 0.05)).proven_at
    assert quantile(proven_at, 0.5) <= 1_050
    assert quantile(proven_at, 0.8) <= 1_650
    assert quantile(paths(answers(400, 400, 0.05, 0.05), NonInferiority(0.1, 0.05)).proven_at, 0.5) <= 85


def test_harm_of_ten_points_is_found_within_the_figures() -> None:
    pairs = answers(400, 1_200, 0.03, 0.13)
    assert quantile(paths(pairs, Harm(0.02, 0.05)).proven_at, 0.5) <= 170
    assert quantile(paths(pairs, Harm(0.02, 0.05 / 30)).proven_at, 0.5) <= 330


def test_the_interval_covers_the_mean_at_all_times_and_agrees_with_the_verdict() -> None:
    missed = 0
    for run in range(60):
        test = NonInferiority(0.1, 0.05)
        for difference in answers(1, 250, 0.05, 0.08, seed=run)[0]:
            test.update(difference)
            assert (test.interval()[0] >= -0.1) == test.proven
        low, high = test.interval()
        missed += not low <= -0.03 <= high
    assert stats.binomtest(missed, 60).proportion_ci(0.99).low <= 0.1


def test_the_interval_narrows_from_everything_to_almost_nothing() -> None:
    test = NonInferiority(0.1, 0.05)
    assert test.interval() == (-1.0, 1.0)
    played(test, [0.25] * 4_000)
    assert test.interval() == pytest.approx((0.22, 0.28), abs=0.03)
    assert np.all(np.diff(GRID) > 0)


def test_weights_give_back_the_mean_over_all_requests() -> None:
    random = np.random.default_rng(5)
    test = NonInferiority(0.03, 0.05, floor=0.1)
    for bad in random.random(20_000) < 0.25:
        probability = 0.1 if bad else 0.8
        if random.random() < probability:
            test.update(-0.7 if bad else 0.2, probability)
    assert test.mean == pytest.approx(0.75 * 0.2 - 0.25 * 0.7, abs=0.03)


def test_a_rate_common_to_all_requests_costs_nothing() -> None:
    pairs = [0.0, 1.0, 0.0, -1.0, 0.0, 0.0]
    weighted = NonInferiority(0.03, 0.05, floor=0.2)
    for difference in pairs:
        weighted.update(difference, 0.2)
    assert weighted.log_wealth == pytest.approx(played(NonInferiority(0.03, 0.05), pairs).log_wealth)


def test_what_was_proven_stays_proven() -> None:
    test = played(NonInferiority(0.1, 0.05), [0.0] * 60)
    assert test.proven
    at = test.reading().proven_at
    played(test, [-1.0] * 200)
    assert test.proven
    assert test.refuted
    assert test.reading().proven_at == at


def test_the_guardrails_together_spend_alpha() -> None:
    spent = sum(guardrail_alpha(0.05, order) for order in range(1, 20_000))
    assert 0.0499 < spent < 0.05
    assert guardrail_alpha(0.05, 1) > guardrail_alpha(0.05, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NonInferiority(0.0, 0.05),
        lambda: NonInferiority(0.03, 1.0),
        lambda: NonInferiority(0.03, 0.0),
        lambda: NonInferiority(0.03, 0.05, floor=0.0),
        lambda: Harm(-0.1, 0.05),
        lambda: Harm(0.02, 0.05).update(1.5),
        lambda: Harm(0.02, 0.05).update(math.nan),
        lambda: Harm(0.02, 0.05).update(0.0, probability=0.5),
        lambda: Harm(0.02, 0.05, floor=0.5).update(0.0, probability=0.4),
        lambda: guardrail_alpha(0.05, 0),
        lambda: paths(np.array([[0.5, math.nan, 1.5]]), Harm(0.02, 0.05)),
        lambda: paths(np.array([[0.5]]), Harm(0.02, 0.05, floor=0.5), np.array([[0.4]])),
        lambda: paths(np.array([[0.5]]), Harm(0.02, 0.05, floor=0.5), np.array([[math.nan]])),
    ],
)
def test_what_cannot_be_is_refused(make) -> None:
    with pytest.raises(ValueError, match=r"must lie|outside|counted from"):
        make()


def test_both_directions_are_named() -> None:
    assert (NonInferiority.claim, Harm.claim) == (UP, DOWN)


def test_it_stands_alone_as_the_docs_say() -> None:
    """The example of docs/rollouts.md, in a process where nothing else of ours can be imported."""
    source = Path(evidence.__file__).parent
    page = (source.parent / "docs" / "rollouts.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(from students.evidence .*?)```", page, re.DOTALL)
    lone = f"import sys\nsys.path.insert(0, {str(source)!r})\nscores = [(1.0, 1.0)] * 90 + [(0.0, 1.0)]\n"
    ran = [sys.executable, "-I", "-c", lone + example.replace("students.evidence", "evidence")]
    said = subprocess.run(ran, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "Reading(count=91" in said


def test_the_docs_sampled_pairs_are_weighted_as_they_say() -> None:
    gate = NonInferiority(0.03, 0.05, floor=0.1)
    gate.update(-0.5, probability=1.0)
    gate.update(0.5, probability=0.1)
    assert gate.mean == pytest.approx((0.1 * -0.5 + 0.5) / 1.1)
