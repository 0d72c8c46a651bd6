"""The loop: one turn at a time, each step made once whatever crashes, gates that wait, and what is worth a rollout."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Table, func, insert, select, update

import students.tables as tables
from capture import reviews
from capture.db import Store
from capture.errors import RefusedError
from capture.graders import graders_of
from capture.settings import (
    GraderSettings,
    JudgeSettings,
    LoopSettings,
    RolloutSettings,
    Settings,
    TaskSettings,
    ViewSettings,
)
from capture.tables import datasets, scores
from students import turning, turns
from students.bar import bar_of
from students.registry import Training, register_local
from students.report import Answered, Arm, Report, summarise, versus
from students.rollouts import list_rollouts
from students.steering import abort
from students.turning import Turning
from tests.factories.datasets import UPSTREAMS, task_of
from tests.factories.store import NOON, add_exchange, new_store

SETTINGS = Settings(upstreams=UPSTREAMS)
GATE = "fields"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    yield store
    store.close()


class Scene:
    """A task with a loop, whose jobs are done by hand in place of the worker's workflows."""

    def __init__(self, store: Store, **loop: Any) -> None:
        self.store = store
        self.now = NOON + 1_000_000
        self.task: TaskSettings = task_of(
            loop=LoopSettings(**({"after_rows": 3} | loop)), rollout=RolloutSettings(margin=0.1)
        )

    def clock(self) -> float:
        return self.now

    def turning(self) -> Turning:
        """As a worker that has just started."""
        return Turning(self.store, SETTINGS, lambda: {"triage": self.task}, self.clock)

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.turning().tick()

    def turn(self) -> turns.Turn:
        return turns.list_turns(self.store, "triage")[0]

    def count(self, table: Table) -> int:
        with self.store.read() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    def set(self, table: Table, row_id: str | None, **values: Any) -> None:
        with self.store.write() as connection:
            assert connection.execute(update(table).where(table.c.id == row_id).values(values)).rowcount == 1

    def build(self) -> None:
        self.set(datasets, self.turn().dataset_id, state="ready", hash="h")

    def train(self) -> str:
        turn = self.turn()
        made = Training(
            fine_tune_id=str(turn.fine_tune_id),
            task="triage",
            base="tiny",
            dataset_id=turn.dataset_id,
            folder="x",
            weights_hash="w",
            view=ViewSettings(),
            fingerprints=["fp1"],
            tools=False,
        )
        student = register_local(self.store, made, self.clock)
        self.set(tables.fine_tunes, turn.fine_tune_id, state="succeeded", student_id=student.id)
        return student.id

    def evaluate(self, right: int, incumbent_right: int | None = None) -> None:
        turn = self.turn()
        own = answered(right)
        arms = [summarise("teacher", "large", "teacher", own), arm_of(str(turn.student_id), right)]
        if incumbent_right is not None:
            other = {str(turn.incumbent_id): versus(own, answered(incumbent_right))}
            arms[1] = msgspec.structs.replace(arms[1], versus=other)
            arms.append(arm_of(str(turn.incumbent_id), incumbent_right))
        report = Report(
            dataset_id=turn.dataset_id,
            dataset_hash="h",
            rows=100,
            rows_with_truth=100,
            graders={GATE: "truth"},
            arms=arms,
            looks=1,
            notes=[],
            bar=bar_of(arms, [GATE], 0.1),
        )
        self.set(tables.evaluations, turn.evaluation_id, state="succeeded", report=msgspec.to_builtins(report))

    def a_whole_turn(self, right: int, incumbent_right: int | None = None) -> str:
        self.tick(2)
        self.build()
        self.tick(2)
        student = self.train()
        self.tick(2)
        self.evaluate(right, incumbent_right)
        self.tick(3)
        return student


def answered(right: int) -> list[Answered]:
    """100 rows, the first `right` of them right; the teacher is right on 90."""
    return [
        Answered(
            exchange_id=f"{number}",
            conversation=f"c{number}",
            slices={},
            scores={GATE: float(number < right)},
            differences={GATE: float(number < right) - float(number < 90)},
        )
        for number in range(100)
    ]


def arm_of(student_id: str, right: int) -> Arm:
    return summarise(student_id, student_id, "student", answered(right))


def add_rows(store: Store, count: int, **more: Any) -> None:
    for _ in range(count):
        add_exchange(store, **more)


def test_a_turn_goes_from_new_rows_to_a_rollout_in_shadow(store: Store) -> None:
    scene = Scene(store)
    add_rows(store, 2)
    add_rows(store, 5, holdout=True)
    add_rows(store, 5, status=500)
    scene.tick()
    assert turns.list_turns(store) == []  # two accepted rows are not three
    add_rows(store, 1)
    student = scene.a_whole_turn(right=90)
    turn = scene.turn()
    assert (turn.state, turn.rows, turn.student_id) == ("rolled_out", 3, student)
    (rollout,) = list_rollouts(store, "triage")
    assert (rollout.id, rollout.student_id, rollout.stage) == (turn.rollout_id, student, 0)
    assert [line["who"] for line in turn.record] == ["loop"] * len(turn.record)
    said = " | ".join(line["text"] for line in turn.record)
    for word in ("3 new accepted rows", "builds", "ready", "trains", "is trained", "evaluates", "in shadow"):
        assert word in said
    scene.tick(3)
    assert scene.count(tables.loop_turns) == 1  # its rows are taken: no turn without new ones


def test_new_rows_wait_while_a_rollout_is_under_way(store: Store) -> None:
    scene = Scene(store)
    add_rows(store, 3)
    scene.a_whole_turn(right=90)
    scene.now += 10
    add_rows(store, 4, started_at=scene.now)
    scene.tick()
    assert scene.count(tables.loop_turns) == 1
    abort(store, list_rollouts(store)[0].id, "ann", "not yet", scene.clock)
    scene.tick()
    assert (scene.turn().rows, scene.turn().state) == (4, "running")


@pytest.mark.parametrize("crash_at", ["build", "train", "evaluate"])
def test_a_crash_between_a_job_and_its_record_makes_nothing_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch, crash_at: str
) -> None:
    scene = Scene(store)
    add_rows(store, 3)
    real: Callable[..., bool] = turning.go_on
    crashed: list[str] = []

    def go_on(store: Store, turn: turns.Turn, *rest: Any) -> bool:
        if turn.step == crash_at and not crashed:
            crashed.append(turn.step)
            raise KeyboardInterrupt
        return real(store, turn, *rest)

    monkeypatch.setattr(turning, "go_on", go_on)
    scene.tick()
    for work in (lambda: None, scene.build, scene.train, lambda: scene.evaluate(90)):
        work()
        for _ in range(4):
            try:
                scene.tick()
            except KeyboardInterrupt:
                continue
            if scene.turn().step == crash_at and crashed:
                _name_the_job(scene, crash_at)
    assert crashed == [crash_at]
    assert scene.turn().state == "rolled_out"
    for table in (datasets, tables.fine_tunes, tables.evaluations, tables.rollouts, tables.loop_turns):
        assert scene.count(table) == 1


def _name_the_job(scene: Scene, step: str) -> None:
    """What the crash kept out of the row, for the hands that stand in for the workflows."""
    name, prefix = {
        "build": ("dataset_id", "ds_"),
        "train": ("fine_tune_id", "ftjob-"),
        "evaluate": ("evaluation_id", "ev_"),
    }[step]
    scene.set(tables.loop_turns, scene.turn().id, **{name: scene.turn().named(prefix)})


def test_two_turns_of_a_task_are_never_under_way(store: Store) -> None:
    scene = Scene(store)
    fresh = turns.Fresh(0.0, scene.now, 5)
    turns.begin(store, "triage", scene.task.loop, fresh, ("ann", scene.clock))
    with pytest.raises(RefusedError, match="under way"):
        turns.begin(store, "triage", scene.task.loop, fresh, ("loop", scene.clock))
    turns.begin(store, "another", scene.task.loop, fresh, ("loop", scene.clock))
    assert len(turns.moving_turns(store)) == 2


def test_of_two_workers_that_carry_a_turn_on_one_wins(store: Store) -> None:
    scene = Scene(store, wait_for_person=("build",))
    turn = turns.begin(store, "triage", scene.task.loop, turns.Fresh(0.0, 1.0, 5), ("loop", scene.clock))
    assert turns.go_on(store, turn, {"state": "waiting"}, "waits", scene.clock)
    assert not turns.go_on(store, turn, {"state": "waiting"}, "waits", scene.clock)
    assert [line["text"] for line in scene.turn().record].count("waits") == 1


def test_every_gate_can_wait_for_a_person(store: Store) -> None:
    scene = Scene(store, wait_for_person=turns.STEPS)
    add_rows(store, 3)
    work: list[Callable[[], object]] = [scene.build, scene.train, lambda: scene.evaluate(90), lambda: None]
    made = (datasets, tables.fine_tunes, tables.evaluations, tables.rollouts)
    for step, table, finish in zip(turns.STEPS, made, work, strict=True):
        scene.tick(4)
        assert (scene.turn().state, scene.turn().step, scene.count(table)) == ("waiting", step, 0)
        turns.approve(store, scene.turn().id, "ann", scene.clock)
        scene.tick(2)
        assert scene.count(table) == 1
        finish()
    scene.tick(2)
    turn = scene.turn()
    assert turn.state == "rolled_out"
    assert [line["text"] for line in turn.record if line["who"] == "ann"] == [f"let it {step}" for step in turns.STEPS]
    with pytest.raises(RefusedError, match="nothing to approve"):
        turns.approve(store, turn.id, "ann", scene.clock)


def test_a_student_that_misses_the_bar_is_not_rolled_out(store: Store) -> None:
    scene = Scene(store)
    add_rows(store, 3)
    scene.a_whole_turn(right=50)
    assert scene.turn().state == "ended"
    assert "more than 10 points below the teacher" in str(scene.turn().outcome)
    assert list_rollouts(store) == []


@pytest.mark.parametrize(("right", "state"), [(95, "rolled_out"), (90, "ended"), (85, "ended")])
def test_the_incumbent_has_to_be_beaten(store: Store, right: int, state: str) -> None:
    scene = Scene(store)
    add_rows(store, 3)
    first = scene.a_whole_turn(right=90)
    scene.set(tables.rollouts, scene.turn().rollout_id, state="full", share=0.95)
    scene.now += 10
    add_rows(store, 3, started_at=scene.now)
    scene.a_whole_turn(right=right, incumbent_right=90)
    turn = scene.turn()
    assert (turn.state, turn.incumbent_id) == (state, first)
    with store.read() as connection:
        row = connection.execute(select(tables.evaluations).where(tables.evaluations.c.id == turn.evaluation_id)).one()
    assert row.students == [turn.student_id, first]
    assert row.asked["leave_out"] is True


def test_by_its_interval_a_small_gain_is_not_proven(store: Store) -> None:
    scene = Scene(store, proof="interval")
    add_rows(store, 3)
    scene.a_whole_turn(right=90)
    scene.set(tables.rollouts, scene.turn().rollout_id, state="full", share=0.95)
    scene.now += 10
    add_rows(store, 3, started_at=scene.now)
    scene.a_whole_turn(right=92, incumbent_right=90)
    assert scene.turn().state == "ended"


def test_a_failed_job_ends_the_turn_with_its_reason(store: Store) -> None:
    scene = Scene(store)
    add_rows(store, 3)
    scene.tick(2)
    scene.set(datasets, scene.turn().dataset_id, state="failed", error="only 1 training rows, 10 are needed")
    scene.tick()
    assert scene.turn().state == "ended"
    assert "only 1 training rows" in str(scene.turn().outcome)
    scene.now += 10
    add_rows(store, 3, started_at=scene.now)
    scene.tick(2)
    scene.build()
    scene.tick(2)
    scene.set(tables.fine_tunes, scene.turn().fine_tune_id, state="failed", error="no room for a checkpoint")
    scene.tick()
    assert scene.turn().state == "failed"
    assert "no room for a checkpoint" in str(scene.turn().outcome)
    assert scene.count(tables.students) == 0


def test_a_person_stops_a_turn_and_its_fine_tune(store: Store) -> None:
    scene = Scene(store)
    add_rows(store, 3)
    scene.tick(2)
    scene.build()
    scene.tick(2)
    turns.stop(store, scene.turn().id, "ann", "wrong base", scene.clock)
    with store.read() as connection:
        assert connection.execute(select(tables.fine_tunes.c.cancel_asked)).scalar() is True
    scene.tick(3)
    assert (scene.turn().state, scene.count(tables.loop_turns)) == ("stopped", 1)
    with pytest.raises(RefusedError, match="has ended"):
        turns.stop(store, scene.turn().id, "ann", "", scene.clock)


JUDGE = GraderSettings(type="score_model", upstream="teacher", model="m", input="Grade {{ sample.output_text }}")


def judged_task(scene: Scene) -> TaskSettings:
    """Gated by a judge beside the grader against truth."""
    changes = {
        "graders": {**scene.task.graders, "tone": JUDGE},
        "judges": JudgeSettings(upstreams=("teacher",)),
        "rollout": RolloutSettings(margin=0.1, gates=(GATE, "tone")),
    }
    return scene.task.model_copy(update=changes)


def license_tone(scene: Scene) -> None:
    """15 exchanges that people accepted and 15 that they rejected; the judge said the same of each."""
    version = graders_of(scene.task).graders["tone"].version
    for number in range(30):
        good = number % 2 == 0
        one = add_exchange(scene.store)
        reviews.review(scene.store, one, "accept" if good else "reject", None, "ann", scene.clock)
        said = {"exchange_id": one, "grader": "tone", "version": version, "input_hash": "h", "value": float(good)}
        with scene.store.write() as connection:
            connection.execute(insert(scores).values(**said, scored_at=scene.now))


@pytest.mark.parametrize("licensed", [True, False])
def test_a_judge_gates_a_turns_rollout_where_it_has_its_licence(store: Store, licensed: bool) -> None:
    scene = Scene(store)
    scene.task = judged_task(scene)
    if licensed:
        license_tone(scene)
    add_rows(store, 3)
    scene.a_whole_turn(right=90)
    assert scene.turn().state == ("rolled_out" if licensed else "failed")
    if licensed:
        assert list_rollouts(store)[0].policy.gates == (GATE, "tone")
    else:
        assert "judge tone has no licence to gate" in str(scene.turn().outcome)


def test_a_task_whose_graders_cannot_work_ends_its_own_turn_alone(store: Store) -> None:
    scene = Scene(store)
    add_rows(store, 3)
    scene.tick(2)
    scene.build()
    scene.tick(2)
    scene.train()
    scene.tick(2)
    scene.evaluate(right=90)
    parts = {"shape": GraderSettings(type="empty")}
    half = GraderSettings(type="multi", graders=parts, calculate_output="shape +")
    scene.task = scene.task.model_copy(update={"graders": {**scene.task.graders, "half": half}})
    scene.tick(2)
    assert scene.turn().state == "failed"
    assert "rollout: grader 'half': calculate_output" in str(scene.turn().outcome)


def test_new_rows_are_counted_once_a_minute_at_most(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(store)
    add_rows(store, 3, status=500)  # there are enough exchanges, but none that a build would take
    counts: list[float] = []
    real = turning.accepted

    def accepted(*given: Any) -> turns.Fresh:
        counts.append(scene.now)
        return real(*given)

    monkeypatch.setattr(turning, "accepted", accepted)
    worker, began = scene.turning(), scene.now
    for _ in range(90):
        worker.tick()
        scene.now += 1
    assert counts == [began, began + turning.COUNT_EVERY_S]
    scene.now = began
    worker.tick()
    assert len(counts) == 3  # a clock that was put back holds nothing up
    scene.now += turning.COUNT_EVERY_S
    add_rows(store, 3)
    worker.tick()
    assert scene.turn().rows == 3
