"""Erasure reaches this room's tables in the transaction that erases, and tells who learnt from what."""

from pathlib import Path

from sqlalchemy import insert, select

from capture import lineage
from students.erasure import purge, taught
from students.tables import evaluation_answers
from tests.factories.store import add_exchange, new_store


def test_answers_of_evaluations_go_with_their_exchange(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    erased, kept = add_exchange(store), add_exchange(store)
    one = {"dataset_id": "d", "student_id": "s", "output": "{}", "duration_ms": 1.0, "scores": {}}
    with store.write() as connection:
        connection.execute(insert(evaluation_answers), [one | {"exchange_id": name} for name in (erased, kept)])
    lineage.erase(store, [erased], None, "ann", lambda: 1.0, [purge])
    with store.read() as connection:
        assert connection.scalars(select(evaluation_answers.c.exchange_id)).all() == [kept]
    assert taught(store, ["d"]) == ()
    store.close()
