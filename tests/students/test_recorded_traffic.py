"""Recorded traffic: a rollout's own pairs, played again under any policy by what decides live."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert, update

from capture.db import Store
from capture.errors import RefusedError
from capture.ids import new_id
from students.made_traffic import Plan
from students.policy import Guardrail, Policy
from students.recorded_traffic import as_recorded, drawn_anew, recorded_pairs
from students.simulate import looks_recorded, run_recorded
from students.standing import Pair, Standing
from students.tables import pairs, rollouts
from students.tally import Tally
from students.verdicts import Verdict, decide
from tests.factories.rollouts import add_rollout, add_student
from tests.factories.store import new_store

POLICY = Policy(
    gates=("category", "priority"),
    margin=0.1,
    guardrails=(Guardrail("category", 0.1), Guardrail("refusals", 0.02)),
    minimum_pairs=25,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    add_student(store)
    add_rollout(store)
    yield store
    store.close()


def record(
    store: Store, wrong: float, count: int = 400, seed: int = 1, kept: tuple[float, ...] = (1.0,), **slices: str
) -> None:
    """Pairs with two gates, of which one is missing now and then, and a guardrail of its own; `kept` in turn with."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        differences = {"category": float(random.random() >= wrong) - float(random.random() >= 0.05)}
        if number % 3:
            differences["priority"] = 0.0
        if number > 50:
            differences["refusals"] = 0.0
        language = "de" if number % 2 else "en"
        rows.append(
            {
                "id": new_id(),
                "rollout_id": "ro_1",
                "exchange_id": new_id(),
                "session": f"{seed} {number}",
                "day": "2027-01-01",
                "slices": {"language": language, **slices},
                "stage": 0,
                "probability": kept[number % len(kept)],
                "teacher_output": "",
                "differences": differences,
                "student_scores": {},
                "teacher_scores": {},
                "state": "consumed" if number % 2 else "scored",
                "served": False,
                "created_at": 1_800_000_000.0 + 60 * number,
            }
        )
    with store.write() as connection:
        connection.execute(insert(pairs), rows)


@pytest.mark.parametrize("policy", [POLICY, replace(POLICY, margin=0.03), replace(POLICY, minimum_pairs=120)])
@pytest.mark.parametrize("wrong", [0.05, 0.3])
@pytest.mark.parametrize("kept", [(1.0,), (1.0, 0.2, 0.2), (0.1, 1.0, 0.01)])
def test_a_recording_is_decided_as_it_was_live(
    store: Store, policy: Policy, wrong: float, kept: tuple[float, ...]
) -> None:
    """Pairs of strata too, and what a cap thinned out below the smallest rate."""
    record(store, wrong, kept=kept)
    floor = max(0.1, min(kept))
    with store.write() as connection:
        connection.execute(update(rollouts).values(evidence={"floor": floor}))
    found = recorded_pairs(store, "ro_1")
    standing = Standing(Tally(policy, floor))
    expected = []
    stage = 0
    for number, one in enumerate(found.pairs, start=1):
        standing.add_pair(Pair(str(number), one.differences, one.slices, kept[(number - 1) % len(kept)]))
        if number % 25:
            continue
        verdict = decide(policy, stage, standing.evidence(1.0, None))
        expected.append((verdict.kind, verdict.reason, verdict.stage, pytest.approx(means(verdict))))
        if verdict.kind == "roll_back":
            break
        if verdict.stage > stage:
            stage = verdict.stage
            standing.enter(stage)
    played = [look.verdict for look in looks_recorded(found, policy, 25)]
    assert [(one.kind, one.reason, one.stage, means(one)) for one in played] == expected


def means(verdict: Verdict) -> list[float]:
    """Of the gates that have a reading."""
    return [gate["reading"]["mean"] for gate in verdict.numbers["gates"] if gate["reading"]]


def test_runs_are_drawn_from_the_recording_and_reported(store: Store) -> None:
    record(store, 0.05)
    found = recorded_pairs(store, "ro_1")
    report = run_recorded(found, POLICY, Plan(runs=60))
    assert report.promoted.total == 60
    assert (report.false_promotions, report.misses, report.mean_difference) == (None, None, None)
    assert report.promoted.count >= 50
    assert run_recorded(found, POLICY, Plan(runs=60)) == report
    assert run_recorded(found, POLICY, Plan(runs=60, seed=2)) != report


def test_pairs_of_unproven_prompts_are_left_out(store: Store) -> None:
    record(store, 0.05, count=10)
    record(store, 0.05, count=5, seed=2, unproven="prompt")
    assert len(recorded_pairs(store, "ro_1").pairs) == 10


def test_drawing_keeps_differences_and_slices_together(store: Store) -> None:
    record(store, 0.3)
    found = recorded_pairs(store, "ro_1")
    whole, drawn = as_recorded(found, "category"), drawn_anew(found, "category", 3, np.random.default_rng(1))
    known = {
        (d, bool(p)) for d, p in zip(whole.differences["category"][0], whole.places["language=de"][0], strict=True)
    }
    seen = zip(drawn.differences["category"].ravel(), drawn.places["language=de"].ravel(), strict=True)
    assert {(d, bool(p)) for d, p in seen} <= known
    assert drawn.differences["category"].shape == (3, 400)
    assert whole.requests_per_hour == pytest.approx(60, rel=0.01)


def test_nothing_recorded_and_an_unknown_gate_are_refused(store: Store) -> None:
    with pytest.raises(RefusedError, match="no scored pairs"):
        recorded_pairs(store, "ro_1")
    record(store, 0.05, count=10)
    with pytest.raises(RefusedError, match="no recorded pair has a difference by nobody; there are: category"):
        run_recorded(recorded_pairs(store, "ro_1"), replace(POLICY, gates=("nobody",)), Plan(runs=2))
