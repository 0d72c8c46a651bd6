"""A quick version of the figures that the docs print: fewer runs, the same promises."""

import pytest

from students.figures import Figure, measure, promised


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
