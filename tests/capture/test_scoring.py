"""Scoring: against truth when it comes, never a teacher against itself, only what calls for it."""

from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import event, select

from capture import feedback, reviews, scoring
from capture.db import Store
from capture.feedback import Feedback
from capture.graders import graders_of
from capture.settings import GraderSettings, TaskSettings, TeacherSettings
from capture.tables import scores
from tests.factories.store import add_exchange, new_store

GRADERS = {
    "fields": GraderSettings(type="json_fields", against="truth", fields={"category": 1, "priority": 1}),
    "agreement": GraderSettings(type="json_fields", against="teacher"),
    "whole": GraderSettings(type="truncation"),
}


def task_of(graders: dict[str, GraderSettings] = GRADERS, **more: Any) -> TaskSettings:
    return TaskSettings(teacher=TeacherSettings(upstream="teacher", model="gpt-4.1"), graders=graders, **more)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = new_store(tmp_path)
    yield store
    store.close()


def score_all(store: Store, task: TaskSettings | None = None, limit: int = 500) -> int:
    return scoring.score_new(store, {"triage": task or task_of()}, lambda: 5.0, limit)


def tell(store: Store, identity: str, value: Any) -> None:
    given = Feedback(id=identity, kind="truth", value=value)
    feedback.record(store, given, None, lambda: 1.0, lambda _, kept: kept)


def values(store: Store) -> dict[tuple[str, str], float]:
    with store.read() as connection:
        return {(row.exchange_id, row.grader): row.value for row in connection.execute(select(scores))}


def test_a_teacher_is_not_compared_with_itself(store: Store) -> None:
    exchange = add_exchange(store)
    assert score_all(store) == 1
    assert values(store) == {(exchange, "whole"): 1}
    assert score_all(store) == 0


def test_truth_that_comes_later_scores_whoever_answered(store: Store) -> None:
    teacher = add_exchange(store, answer='{"category": "billing", "priority": 1}')
    student = add_exchange(store, answer='{"category": "login", "priority": 2}', arm="student")
    score_all(store)
    for exchange in (teacher, student):
        tell(store, exchange, {"category": "billing", "priority": 2})
    assert score_all(store) == 2
    assert values(store)[teacher, "fields"] == 0.5
    assert values(store)[student, "fields"] == 0.5
    tell(store, teacher, {"category": "billing", "priority": 1})
    assert score_all(store) == 1
    assert values(store)[teacher, "fields"] == 1


def test_truth_that_named_the_completion_before_it_was_stored(store: Store) -> None:
    tell(store, "chatcmpl-early", {"category": "billing"})
    assert score_all(store) == 0
    exchange = add_exchange(store, completion_id="chatcmpl-early")
    assert score_all(store) == 1
    assert values(store)[exchange, "fields"] == 1


def test_a_review_scores_and_goes_before_an_outcome(store: Store) -> None:
    exchange = add_exchange(store, answer='{"category": "billing"}')
    tell(store, exchange, {"category": "login"})
    score_all(store)
    assert values(store)[exchange, "fields"] == 0
    reviews.review(store, exchange, "accept", None, "ann", lambda: 2.0)
    assert score_all(store) == 1
    assert values(store)[exchange, "fields"] == 1


def test_what_did_not_end_well_or_belongs_to_no_task_is_not_scored(store: Store) -> None:
    add_exchange(store, status=500)
    add_exchange(store, complete=False)
    add_exchange(store, task=None)
    add_exchange(store, task="unknown")
    assert score_all(store) == 4
    assert values(store) == {}
    assert score_all(store) == 0


def test_batches_until_none_is_left(store: Store) -> None:
    for _ in range(5):
        add_exchange(store)
    assert [score_all(store, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_changed_graders_score_anew(store: Store) -> None:
    exchange = add_exchange(store)
    score_all(store)
    other = task_of({"filled": GraderSettings(type="empty")})
    assert score_all(store, other) == 1
    assert values(store) == {(exchange, "filled"): 1}
    assert score_all(store, other) == 0
    assert scoring.rescore(store, "triage") == 1


def test_an_enormous_answer_is_passed_over(store: Store) -> None:
    add_exchange(store, answer="x" * 50_000_000)
    exchange = add_exchange(store)
    assert score_all(store) == 2
    assert values(store) == {(exchange, "whole"): 1}


def test_a_task_that_cannot_be_graded_stops_no_other(store: Store) -> None:
    broken = task_of({"shape": GraderSettings(type="json_schema", json_schema={"type": "nonsense"})})
    exchange, other = add_exchange(store), add_exchange(store, task="other")
    tasks = {"triage": broken, "other": task_of()}
    with structlog.testing.capture_logs() as logs:
        assert scoring.score_new(store, tasks, lambda: 5.0) == 2
    assert [(line["event"], line["task"]) for line in logs] == [("a task cannot be graded", "triage")]
    assert values(store) == {(other, "whole"): 1}
    assert scoring.score_new(store, tasks | {"triage": task_of()}, lambda: 5.0) == 1
    assert values(store) == {(other, "whole"): 1, (exchange, "whole"): 1}


def test_called_for_again_while_at_work_stays_called_for(store: Store) -> None:
    exchange = add_exchange(store)

    def review_in_between() -> float:
        reviews.review(store, exchange, "correct", '{"category": "billing", "priority": 1}', "ann", lambda: 3.0)
        return 5.0

    scoring.score_new(store, {"triage": task_of()}, review_in_between)
    assert (exchange, "fields") not in values(store)
    assert score_all(store) == 1
    assert values(store)[exchange, "fields"] == 0.5


def test_cost_does_not_grow_with_history(store: Store) -> None:
    """The plans of what scoring asks first read partial indexes, not the table."""
    for _ in range(3):
        add_exchange(store)
    score_all(store)
    asked: list[tuple[str, Any]] = []
    event.listen(store.engine, "before_cursor_execute", lambda *given: asked.append(given[2:4]))
    score_all(store)
    selects = [(sql, parameters) for sql, parameters in asked if sql.startswith("SELECT")]
    selects = [one for one in selects if "FROM graded" not in one[0]]
    assert len(selects) == 2
    with store.read() as connection:
        for sql, parameters in selects:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()
            assert any("_uns" in str(step) for step in plan), plan


def test_a_bare_truth_is_the_labels_part() -> None:
    graders = graders_of(task_of(label="/category"))
    output = '{"category": "billing", "priority": 1}'
    assert graders.score(output, truth="billing", request={})["fields"] == 1
    assert graders.score(output, truth='{"category": "login", "priority": 1}', request={})["fields"] == 0.5


def test_each_grader_sees_what_it_compares_with_alone() -> None:
    graders = graders_of(task_of())
    output = '{"category": "billing", "priority": 1}'
    scored = graders.score(output, truth={"category": "login"}, teacher=output, request={})
    assert scored == {"fields": 0, "agreement": 1, "whole": 1}
    assert graders.score(output, teacher=output, request={}) == {"agreement": 1, "whole": 1}
