"""Graders against people: counted as licences are."""

from pathlib import Path

import pytest
from sqlalchemy import insert

from capture.db import Store
from capture.graders import graders_of
from capture.licences import licences
from capture.settings import TaskSettings
from capture.tables import reviews, scores
from console.reads import trials
from tests.factories.store import add_exchange, new_store

JUDGE = {"type": "score_model", "upstream": "court", "model": "judge", "input": [{"content": "{{sample.output_text}}"}]}
TASK = TaskSettings.model_validate(
    {
        "teacher": {"upstream": "openai", "model": "large"},
        "graders": {"exact": {"type": "string_check"}, "kind": JUDGE},
        "judges": {"upstreams": ["court"], "minimum_of_each": 1},
    }
)


def review(store: Store, exchange: str, verdict: str, at: float) -> None:
    row = {"id": f"{exchange}{at}", "exchange_id": exchange, "verdict": verdict, "reviewer": "mara", "reviewed_at": at}
    with store.write() as connection:
        connection.execute(insert(reviews).values(row))


def scored(store: Store, exchange: str, grader: str, value: float, version: str | None = None) -> None:
    version = version or graders_of(TASK).graders[grader].version
    row = {"exchange_id": exchange, "grader": grader, "version": version, "value": value, "scored_at": 1.0}
    with store.write() as connection:
        connection.execute(insert(scores).values(**row, input_hash="h"))


def test_the_last_review_and_the_graders_of_now_are_compared(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    good, bad, changed, old = (add_exchange(store) for _ in range(4))
    for exchange, verdict in ((good, "accept"), (bad, "correct"), (changed, "accept"), (old, "accept")):
        review(store, exchange, verdict, 1.0)
    review(store, changed, "reject", 2.0)
    for grader, said in (("exact", (1.0, 0.0, 1.0)), ("kind", (0.9, 0.2, 0.4))):
        for exchange, value in zip((good, bad, changed), said, strict=True):
            scored(store, exchange, grader, value)
        scored(store, old, grader, 0.0, version="of yesterday")
    exact, kind = trials.agreement(store, "triage", TASK)
    assert (exact.judge, exact.licence.good, exact.licence.bad, exact.licence.bad_agreed) == (False, 1, 2, 1)
    assert exact.kappa == pytest.approx(0.4)
    assert kind.judge
    assert kind.licence == licences(store, "triage", TASK)["kind"]
    assert kind.kappa == 1.0


def test_graders_of_which_nobody_said_anything_are_not_there(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    scored(store, add_exchange(store), "exact", 1.0)
    assert trials.agreement(store, "triage", TASK) == []


def test_one_sided_opinions_have_no_kappa() -> None:
    assert trials.kappa([(True, True)] * 3) is None
    assert trials.kappa([(True, True), (False, False), (True, False), (False, True)]) == 0.0


def test_a_task_that_is_not_there_yet_is_tried_on_what_its_rule_takes(tmp_path: Path) -> None:
    """With a truth by every grader; where nobody said anything, by those that compare with nothing."""
    store = new_store(tmp_path)
    told, untold = add_exchange(store, task=None, model="m"), add_exchange(store, task=None, model="m")
    add_exchange(store, task=None, model="another")
    add_exchange(store, task=None, model="m", status=500)
    review(store, told, "accept", 1.0)
    exact = {"type": "string_check", "against": "truth"}
    graders = {"exact": exact, "sound": {"type": "json_schema", "json_schema": {"type": "object"}}}
    task = TaskSettings.model_validate({**TASK.model_dump(), "match": {"model": "m"}, "graders": graders, "judges": {}})
    found = {one.exchange_id: dict(one.scores) for one in trials.tried(store, "new", task)}
    assert found == {told: {"exact": 1.0, "sound": 1.0}, untold: {"sound": 1.0}}
    no_judge_of_form = task.model_copy(update={"graders": {"exact": task.graders["exact"]}})
    assert [one.exchange_id for one in trials.tried(store, "new", no_judge_of_form)] == [told]
