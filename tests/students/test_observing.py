"""Marks of live exchanges: by assignment, kept when the store is away, nobody blamed for a client that left."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from capture.db import Store
from capture.exchange import Answer, Arm, Assignment, Usage
from capture.settings import PriceSettings
from students.observing import Mark, Observer, mark_of
from students.tables import observations, rollouts
from tests.factories.exchanges import new_exchange
from tests.factories.rollouts import add_rollout, add_student
from tests.factories.store import new_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    yield store
    store.close()


@pytest.mark.parametrize(
    ("changes", "mark"),
    [
        ({"assignment": Assignment.STUDENT, "arm": Arm.STUDENT}, Mark.STUDENT_GOOD),
        ({"assignment": Assignment.STUDENT, "arm": Arm.STUDENT, "status": 500}, Mark.STUDENT_BAD),
        ({"assignment": Assignment.STUDENT, "arm": Arm.FALLBACK}, Mark.FALLBACK_GOOD),
        (
            {"assignment": Assignment.STUDENT, "arm": Arm.FALLBACK, "complete": False, "cause": "upstream_stalled"},
            Mark.FALLBACK_BAD,
        ),
        ({"assignment": Assignment.CONTROL}, Mark.TEACHER_GOOD),
        ({"assignment": Assignment.TEACHER, "status": 429}, Mark.TEACHER_BAD),
        ({"assignment": Assignment.STUDENT, "complete": False, "cause": "client_left"}, None),
        ({"assignment": None}, None),
        ({"rollout": None, "assignment": Assignment.STUDENT}, None),
    ],
)
def test_marks(changes: dict[str, Any], mark: Mark | None) -> None:
    assert mark_of(new_exchange(**{"rollout": "ro_1", **changes})) == mark


def test_one_row_a_rollout_and_flush_in_order(store: Store) -> None:
    add_student(store)
    rollout = add_rollout(store)
    observer = Observer()
    for arm in (Arm.STUDENT, Arm.FALLBACK, Arm.STUDENT):
        observer.see(new_exchange(rollout=rollout, assignment=Assignment.STUDENT, arm=arm), None, 1.0)
    observer.see(new_exchange(rollout="gone", assignment=Assignment.STUDENT), None, 1.0)
    assert observer.flush(store) == 4
    assert observer.flush(store) == 0
    with store.read() as connection:
        assert connection.execute(select(observations.c.rollout_id, observations.c.marks)).all() == [(rollout, "AFA")]


def test_what_could_not_be_written_is_kept(store: Store, tmp_path: Path) -> None:
    add_student(store)
    rollout = add_rollout(store)
    observer = Observer()
    observer.see(new_exchange(rollout=rollout, assignment=Assignment.STUDENT, arm=Arm.STUDENT), None, 1.0)
    away = new_store(tmp_path / "other")
    rollouts.metadata.drop_all(away.engine)
    with pytest.raises(Exception, match="no such table"):
        observer.flush(away)
    away.close()
    observer.see(new_exchange(rollout=rollout, assignment=Assignment.TEACHER), None, 1.0)
    assert observer.flush(store) == 2
    with store.read() as connection:
        assert connection.execute(select(observations.c.marks)).scalar_one() == "AT"


def test_how_long_it_took_what_it_cost_and_how_likely_it_was_kept_goes_along(store: Store) -> None:
    add_student(store)
    rollout = add_rollout(store)
    observer = Observer({"small": PriceSettings(input=100.0, output=200.0)})
    noted = {"rollout": rollout, "assignment": Assignment.STUDENT, "first_ms": 12.0, "duration_ms": 34.0}
    answer = Answer(message={"role": "assistant", "content": "x"}, usage=Usage(1_000, 500))
    observer.see(new_exchange(**noted, served_model="small"), answer, 1.0)
    observer.see(new_exchange(**noted, served_model="of unknown price"), answer, 0.5)
    observer.see(new_exchange(**{**noted, "first_ms": None}, served_model="small"), None, 1.0)
    observer.flush(store)
    with store.read() as connection:
        row = connection.execute(select(observations)).one()
    kept = [[12.0, 34.0, pytest.approx(0.2), 1.0], [12.0, 34.0, None, 0.5], [None, 34.0, None, 1.0]]
    assert [measure[:4] for measure in row.measures] == kept
    assert len({measure[4] for measure in row.measures}) == 3  # each exchange's own luck
    assert len(row.measures) == len(row.marks)
