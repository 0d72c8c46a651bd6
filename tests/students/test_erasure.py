"""Erasure reaches this room's tables in the transaction that erases, and tells who learnt from what."""

from typing import Any

from sqlalchemy import insert, select

from capture import datasets, lineage
from capture.datasets import Filters
from capture.db import Store
from capture.settings import ViewSettings
from students.erasure import purge, taught, with_taught
from students.registry import Training, register_local
from students.tables import evaluation_answers, evaluations
from tests.factories.datasets import LATER, UPSTREAMS, task_of
from tests.factories.store import add_exchange


def test_answers_of_evaluations_go_with_their_exchange(store: Store) -> None:
    erased, kept = add_exchange(store), add_exchange(store)
    one = {"dataset_id": "d", "student_id": "s", "output": "{}", "duration_ms": 1.0, "scores": {}}
    with store.write() as connection:
        connection.execute(insert(evaluation_answers), [one | {"exchange_id": name} for name in (erased, kept)])
    lineage.erase(store, [erased], None, "ann", lambda: 1.0, [purge])
    with store.read() as connection:
        assert connection.scalars(select(evaluation_answers.c.exchange_id)).all() == [kept]
    assert taught(store, ["d"]) == ()


def build(store: Store) -> str:
    dataset_id = datasets.queue_build(store, "triage", Filters(), lambda: LATER)
    datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: LATER)
    return dataset_id


def evaluation_of(name: str, dataset_id: str | None, report: dict[str, Any]) -> dict[str, Any]:
    row = {"id": name, "task": "triage", "dataset_id": dataset_id, "students": [], "asked": {}, "report": report}
    return {**row, "state": "succeeded", "progress": {}, "created_at": 1.0}


def test_texts_in_reports_go_with_their_exchange_and_figures_stay(store: Store) -> None:
    erased, kept = add_exchange(store), add_exchange(store)
    dataset_id = build(store)
    worst = [{"exchange_id": one, "output": f"said of {one}"} for one in (erased, kept)]
    report = {"rows": 2, "arms": [{"rows": 2, "worst": []}, {"rows": 2, "worst": worst}]}
    rows = [evaluation_of("of-dataset", dataset_id, report), evaluation_of("replayed", None, report)]
    with store.write() as connection:
        connection.execute(insert(evaluations), [*rows, evaluation_of("queued", None, {})])
    lineage.erase(store, [erased], None, "ann", lambda: 1.0, [purge])
    with store.read() as connection:
        rows_found = connection.execute(select(evaluations.c.id, evaluations.c.report)).all()
    found = {row.id: row.report for row in rows_found}
    left = {"rows": 2, "arms": [{"rows": 2, "worst": []}, {"rows": 2, "worst": worst[1:]}]}
    assert found == {"of-dataset": left, "replayed": left, "queued": {}}


def test_who_learnt_from_what_was_erased_is_named(store: Store) -> None:
    erased = add_exchange(store)
    dataset_id = build(store)
    made = Training("ftjob-1", "triage", "tiny", dataset_id, "models/1", "h", ViewSettings(), ("fp1",), tools=False)
    student = register_local(store, made, lambda: 1.0)
    report = lineage.erase(store, [erased], None, "ann", lambda: 1.0, [purge])
    found = with_taught(store, report)
    assert (found.erased, found.datasets, found.students) == (1, (dataset_id,), (student.name,))
