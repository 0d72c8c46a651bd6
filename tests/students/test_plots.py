"""Pictures of simulations: well-formed SVG that shows what was counted."""

from dataclasses import replace
from xml.etree.ElementTree import fromstring

from students.made_traffic import GRADER, Plan
from students.plots import arrivals, curves, pictures, shares_below
from students.policy import Guardrail, Policy
from students.simulate import run

POLICY = Policy(gates=(GRADER,), margin=0.1, guardrails=(Guardrail(GRADER, 0.1),), minimum_pairs=25)
PLAN = Plan(policy=POLICY, sessions=600, runs=40)


def test_a_run_that_never_got_there_never_raises_the_curve() -> None:
    assert arrivals([30, 0, 10, 0], 4) == [(0.0, 0.0), (10.0, 0.25), (30.0, 0.5)]
    assert shares_below([3, 1]) == [(1.0, 0.5), (3.0, 1.0)]


def test_pictures_are_svg_with_a_curve_for_each_outcome() -> None:
    good = pictures(run(PLAN))
    assert set(good) == {"pairs.svg"}
    bad = pictures(run(replace(PLAN, drift_at=300, drift_wrong=0.8)))
    assert set(bad) == {"pairs.svg", "bad-answers.svg"}
    for picture in (*good.values(), *bad.values()):
        root = fromstring(picture)
        assert root.tag.endswith("svg")
        assert len(picture) < 60_000
    labels = [text.text for text in fromstring(bad["pairs.svg"]).iter() if text.tag.endswith("text")]
    assert {"proven", "at full", "rolled back", "pairs", "100 %"} <= set(labels)


def test_names_are_escaped_and_nothing_is_no_error() -> None:
    picture = curves("a < b", "x & y", {"<script>": []})
    assert "<script>" not in picture
    fromstring(picture)
