"""A quick version of the figures that the docs print: fewer runs, the same promises."""

from dataclasses import replace

import pytest
from scipy import stats

from students.figures import (
    Figure,
    measure,
    measure_run_length,
    most_alarms,
    promised,
    scenarios,
    undrifted,
)
from students.policy import Policy
from students.simulate import run


@pytest.mark.parametrize("figure", promised(runs=300, sessions=2_000), ids=lambda figure: figure.name)
def test_every_promise_is_kept(figure: Figure) -> None:
    measured = measure(figure)
    assert measured.kept, measured
    assert measured.proven.total == 300


def test_a_promise_that_is_broken_is_seen() -> None:
    equal = promised(runs=50)[0]
    slow = Figure("impossible", equal.test, equal.plan, median_at_most=10)
    assert not measure(slow).kept
    assert not measure(Figure("a true proof called false", equal.test, equal.plan, false=True)).kept


@pytest.mark.parametrize("name", scenarios())
def test_whole_rollouts_end_as_they_should(name: str) -> None:
    plan = replace(scenarios(runs=40)[name], runs=40)
    report = run(plan)
    if name.startswith("equal"):
        assert report.promoted.count >= 38
        assert report.rolled_back.low <= 0.05
    elif name.startswith("exactly"):
        assert report.promoted.low <= 0.05
    else:
        assert report.rolled_back.count >= 38
        assert report.bad_answers.eightieth <= 200 / plan.watch_share


@pytest.mark.parametrize("run_length", [3, 500])
def test_without_drift_alarms_are_as_rare_as_stated(run_length: float) -> None:
    plan = undrifted(runs=40, sessions=3_000)["exactly at the margin (5 % / 8 %)"]
    found = measure_run_length("quick", plan, Policy(gates=("truth",), pairs_between_false_alarms=run_length))
    assert found.mean >= run_length
    assert found.low >= run_length
    if run_length == 3:
        assert found.alarms > 5


@pytest.mark.parametrize(("seen", "most"), [(0, 2.996), (1, 4.744), (10, 16.962)])
def test_the_most_alarms_that_so_few_can_come_from(seen: int, most: float) -> None:
    assert most_alarms(seen) == pytest.approx(most, abs=0.001)
    assert stats.poisson.cdf(seen, most) == pytest.approx(0.05, abs=0.001)
