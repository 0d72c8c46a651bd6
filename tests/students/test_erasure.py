"""Erasure reaches this room's tables in the transaction that erases, and tells who learnt from what."""

from typing import Any

from sqlalchemy import insert, select, update

from capture import datasets, lineage
from capture.datasets import Filters
from capture.db import Store
from capture.settings import TrainingSettings, ViewSettings
from students.erasure import purge, with_taught
from students.queueing import FineTune, queue_fine_tune
from students.registry import Training, load_student, register_local
from students.tables import evaluation_answers, evaluations, fine_tunes
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


def fine_tuned(store: Store, name: str, dataset_id: str, state: str) -> Training:
    with store.write() as connection:
        known: Any = {"task": "triage", "base": "tiny", "trainer": "local", "settings": TrainingSettings()}
        wanted = FineTune(id=name, dataset_id=dataset_id, **known)
        queue_fine_tune(connection, wanted, 1.0)
        connection.execute(update(fine_tunes).where(fine_tunes.c.id == name).values(state=state))
    return Training(name, "triage", "tiny", dataset_id, "models/1", "h", ViewSettings(), ("fp1",), tools=False)


def marks(store: Store) -> dict[str, int]:
    with store.read() as connection:
        return {row.id: row.erased for row in connection.execute(select(fine_tunes.c.id, fine_tunes.c.erased))}


def test_who_learnt_from_what_was_erased_is_named_and_marked(store: Store) -> None:
    erased, later, held = add_exchange(store), add_exchange(store), add_exchange(store, holdout=True)
    dataset_id = build(store)
    done = fine_tuned(store, "ftjob-1", dataset_id, "succeeded")
    running = fine_tuned(store, "ftjob-2", dataset_id, "running")
    fine_tuned(store, "ftjob-3", dataset_id, "queued")
    student = register_local(store, done, lambda: 1.0)
    report = lineage.erase(store, [erased, held], None, "ann", lambda: 1.0, [purge])
    found = with_taught(store, report)
    assert (found.erased, found.rows, found.datasets) == (2, 2, (dataset_id,))
    assert (found.fine_tunes, found.students) == (("ftjob-1", "ftjob-2"), (student.name,))
    assert found.lines()[0] == "erased 2 exchanges and 2 rows of datasets"
    assert f"students touched: {student.name}" in found.lines()
    assert marks(store) == {"ftjob-1": 1, "ftjob-2": 1, "ftjob-3": 0}
    assert load_student(store, student.id).erased == 1
    assert register_local(store, running, lambda: 2.0).erased == 1  # it had read the row already
    lineage.erase(store, [erased, later], None, "ann", lambda: 1.0, [purge])  # what is gone counts once
    assert marks(store) == {"ftjob-1": 2, "ftjob-2": 2, "ftjob-3": 0}
    assert load_student(store, student.id).erased == 2


def test_the_holdout_teaches_nobody(store: Store) -> None:
    add_exchange(store)
    held = add_exchange(store, holdout=True)
    dataset_id = build(store)
    student = register_local(store, fine_tuned(store, "ftjob-1", dataset_id, "succeeded"), lambda: 1.0)
    found = with_taught(store, lineage.erase(store, [held], None, "ann", lambda: 1.0, [purge]))
    assert (found.datasets, found.fine_tunes, found.students) == ((dataset_id,), (), ())
    assert load_student(store, student.id).erased == 0
