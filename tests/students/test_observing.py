"""Marks of live exchanges: by assignment, kept when the store is away, nobody blamed for a client that left."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from capture.db import Store
from capture.exchange import Answer, Arm, Assignment, Usage
from capture.settings import PriceSettings
from students.evidence import Harm
from students.observing import Mark, Observer, forget_ended, mark_of
from students.tables import observations, rollouts
from students.unpaired import TwoSample
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
    assert [measure[4] for measure in row.measures] == [True, True, True]
    assert len(row.measures) == len(row.marks)


def compared(store: Store) -> list[bool]:
    with store.read() as connection:
        rows = connection.execute(select(observations.c.measures).order_by(observations.c.id)).scalars()
        return [measure[4] for measures in rows for measure in measures]


def test_a_sessions_first_of_the_day_speaks_for_it(store: Store) -> None:
    add_student(store)
    rollout, observer = add_rollout(store), Observer()
    today, tomorrow = 1_780_000_000.0, 1_780_086_400.0
    for session, at in [("a", today), ("a", today), ("b", today), (None, today), (None, today), ("a", tomorrow)]:
        noted = {"rollout": rollout, "assignment": Assignment.TEACHER, "session": session, "started_at": at}
        observer.see(new_exchange(**noted), None, 1.0)
    observer.flush(store)
    assert compared(store) == [True, False, True, True, True, True]


def test_a_session_speaks_anew_at_each_stage(store: Store) -> None:
    """What is compared by assignment begins anew there; its day may be the same."""
    add_student(store)
    rollout, observer = add_rollout(store), Observer()
    for stage_at in (1.0, 2.0):
        with store.write() as connection:
            connection.execute(update(rollouts).values(stage_at=stage_at))
        for _ in range(2):
            observer.see(new_exchange(rollout=rollout, assignment=Assignment.TEACHER, session="a"), None, 1.0)
        observer.flush(store)
    assert compared(store) == [True, False, True, False]


def test_who_has_no_session_drives_nobody_out_of_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("students.claims.MOST_CLAIMS", 10)
    add_student(store)
    rollout, observer = add_rollout(store), Observer()
    for session in ("a", *[None] * 20, "a"):
        observer.see(new_exchange(rollout=rollout, assignment=Assignment.TEACHER, session=session), None, 1.0)
    observer.flush(store)
    assert compared(store) == [True] * 21 + [False]


def test_one_that_is_not_drawn_does_not_speak_for_its_session(store: Store) -> None:
    """Kept whole where a tenth was promised: of ten, one or so is drawn, and it alone has the session's word."""
    add_student(store)
    rollout, observer = add_rollout(store), Observer()
    with store.write() as connection:
        connection.execute(update(rollouts).values(evidence={"floor": 0.1}))
    for number in range(400):
        noted = {"rollout": rollout, "assignment": Assignment.TEACHER, "session": f"session {number // 4}"}
        observer.see(new_exchange(**noted), None, 1.0)
    observer.flush(store)
    assert 20 <= sum(compared(store)) <= 50  # 1 - 0.9 ** 4 of a hundred sessions


def test_a_key_with_much_of_the_traffic_is_no_session(store: Store) -> None:
    add_student(store)
    rollout, observer = add_rollout(store), Observer()
    for _ in range(80):
        noted = {"rollout": rollout, "assignment": Assignment.TEACHER, "session": "everybody", "task": "triage"}
        observer.see(new_exchange(**noted), None, 1.0)
    observer.flush(store)
    assert compared(store) == [True] + [False] * 49 + [True] * 30


def test_equal_arms_whose_sessions_fail_as_a_whole_are_no_harm(store: Store) -> None:
    """One session in ten fails in all of its requests, whoever answers; taken one by one, that looks like harm."""
    add_student(store)
    rollout, observer = add_rollout(store), Observer()
    random = np.random.default_rng(7)
    false, naive = 0, 0
    for run in range(20):
        by_session, by_request = (TwoSample(Harm(0.02, 0.05)) for _ in range(2))
        ours, bad = random.random(100) < 0.5, random.random(100) < 0.1
        for number in random.permutation(np.repeat(np.arange(100), 50)):
            assignment = Assignment.STUDENT if ours[number] else Assignment.TEACHER
            noted = {"rollout": rollout, "assignment": assignment, "session": f"{run} {number}"}
            observer.see(new_exchange(**noted, status=400 if bad[number] else 200), None, 1.0)
        observer.flush(store)
        with store.write() as connection:
            rows = connection.execute(select(observations)).all()
            connection.execute(delete(observations))
        for row in rows:
            for mark, measure in zip(map(Mark, row.marks), row.measures, strict=True):
                by_request.update(mark.student, float(mark.good))
                if measure[4]:
                    by_session.update(mark.student, float(mark.good))
        false += by_session.test.proven
        naive += by_request.test.proven
    assert false <= 1  # of twenty, as alpha says
    assert naive >= 3


def test_what_is_seen_of_a_rollout_that_has_ended_is_forgotten(store: Store) -> None:
    add_student(store)
    rollout = add_rollout(store)
    observer = Observer()
    observer.see(new_exchange(rollout=rollout, assignment=Assignment.STUDENT, arm=Arm.STUDENT), None, 1.0)
    observer.flush(store)
    assert forget_ended(store) == 0
    with store.write() as connection:
        connection.execute(update(rollouts).values(state="rolled_back"))
    assert forget_ended(store) == 1
    with store.read() as connection:
        assert connection.execute(select(observations)).all() == []
