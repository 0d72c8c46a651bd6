"""Judges on pairs: licensed ones, on what is kept, once; who cannot be heard, and what that holds."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select, update

import students.tables as tables
from capture import reviews
from capture.db import Store
from capture.graders.python_process import PythonProcesses
from capture.settings import PriceSettings, PythonGraderSettings, Settings, TaskSettings, UpstreamSettings
from capture.tables import scores
from students.clients import Client
from students.controller import tick
from students.judging import AGAIN_S, LICENCE_S, NOT_YET, PATIENCE_S, Judging
from students.pairs import JUDGING
from students.rollout_start import Start, start
from students.rollouts import Rollout, list_verdicts, load_rollout
from students.workshop import Workshop
from tests.factories.clock import Clock
from tests.factories.judged import JUDGE, judge, license_judges
from tests.factories.moving import add_pairs, new_student, verdict_rows
from tests.factories.store import add_exchange
from tests.fakes.chat_server import ChatServer

RIGHT, WRONG = '{"category": "card"}', '{"category": "other"}'
TRUTH = {"type": "json_fields", "against": "truth", "fields": {"category": 1.0}}
CODE = {"type": "python", "source": "def grade(sample, item): return float('card' in sample['output_text'])"}


def task_of(graders: dict[str, Any], **rollout: Any) -> TaskSettings:
    policy = {"shares": [0.25, 0.95], "margin": 0.1, "minimum_pairs": 5, "minimum_sessions": 5, **rollout}
    return TaskSettings.model_validate(
        {
            "kind": "classification",
            "teacher": {"upstream": "stand-in", "model": "large"},
            "graders": graders,
            "judges": {"upstreams": ["court"]},
            "rollout": policy,
        }
    )


TASK = task_of({"category": TRUTH, "tone": JUDGE}, gates=["category", "tone"])


class Scene:
    """One rollout of TASK, its judge at a court that says what `court.answering` does."""

    def __init__(self, store: Store, clock: Clock, court: ChatServer) -> None:
        self.store, self.clock, self.court = store, clock, court
        upstream = UpstreamSettings(base_url=court.url, worker_key_env="COURT_KEY")
        self.settings = Settings(upstreams={"court": upstream}, prices={"judge-1": PriceSettings(input=1, output=1)})
        license_judges(store, self.settings, TASK)
        asked = Start("triage", new_student(store, clock), "tester", reason="a test", force=True)
        self.rollout = start(store, asked, TASK, clock)
        self.client = Client()
        self.stopping = threading.Event()
        self.judging = Judging(Workshop(store, self.settings, self.client, dict, clock, self.stopping))
        court.requests.clear()

    def pairs(self, count: int, student: str | None = RIGHT, teacher: str = RIGHT) -> None:
        """Pairs as the pairer keeps them: their truth is known, their judge has yet to speak."""
        ids = add_pairs(self.store, self.rollout, [0.0] * count, state=JUDGING)
        for pair in ids:
            exchange = add_exchange(self.store, text=f"ticket {pair} about my card", answer=teacher)
            said = {"exchange_id": exchange, "teacher_output": teacher, "student_output": student}
            with self.store.write() as connection:
                of_pair = update(tables.pairs).where(tables.pairs.c.id == pair)
                connection.execute(of_pair.values(created_at=self.clock.now, **said))

    def turn(self) -> int:
        return self.judging.turn({"triage": TASK})

    def tick(self) -> Rollout:
        tick(self.store, self.clock, "a", unheard=self.judging.unheard({"triage": TASK}))
        return load_rollout(self.store, self.rollout.id)

    def rows(self) -> list[Any]:
        with self.store.read() as connection:
            return list(connection.execute(select(tables.pairs).order_by(tables.pairs.c.id)).all())


@pytest.fixture
def court(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("COURT_KEY", "sk-court")
    with ChatServer(judge) as server:
        yield server


@pytest.fixture
def scene(store: Store, clock: Clock, court: ChatServer) -> Iterator[Scene]:
    scene = Scene(store, clock, court)
    yield scene
    scene.client.close()


def test_a_licensed_judge_scores_both_answers_and_its_gate_is_proven(scene: Scene) -> None:
    scene.pairs(60)
    assert scene.turn() == 50
    assert scene.turn() == 10
    assert {(row.state, row.differences["tone"]) for row in scene.rows()} == {("scored", 0.0)}
    assert scene.tick().stage == 1
    assert "tone is at most 10 points worse" in list_verdicts(scene.store, scene.rollout.id)[-1].sentence
    with scene.store.read() as connection:
        spent = connection.execute(select(tables.spend.c.purpose, func.count()).group_by(tables.spend.c.purpose)).all()
    assert dict(spent) == {"judge": 20 + 60}  # both answers of a pair are the same text: one question


def test_what_was_asked_before_is_remembered(scene: Scene) -> None:
    scene.pairs(1, student=WRONG)
    scene.turn()
    assert len(scene.court.requests) == 2
    with scene.store.write() as connection:
        connection.execute(update(tables.pairs).values(state=JUDGING))
    scene.turn()
    assert len(scene.court.requests) == 2
    assert scene.rows()[0].differences == {"category": 0.0, "tone": -1.0}


def test_a_worse_student_is_rolled_back_by_its_judge(scene: Scene) -> None:
    scene.pairs(50, student=WRONG)
    scene.turn()
    assert scene.tick().state == "rolled_back"
    assert "tone" in list_verdicts(scene.store, scene.rollout.id)[-1].sentence


def test_a_student_that_erred_scores_nothing_and_is_shown_to_nobody(scene: Scene) -> None:
    scene.pairs(1, student=None)
    scene.turn()
    assert (scene.rows()[0].student_scores, scene.rows()[0].differences["tone"]) == ({"tone": 0.0}, -1.0)
    assert len(scene.court.requests) == 1


@pytest.mark.parametrize(
    ("derailed", "given", "difference"),
    [("other", ({"tone": 0.0}, {"tone": 1.0}), -1.0), ("card", ({}, {}), None)],
    ids=["the student's answer", "both"],
)
def test_an_answer_that_derails_a_judge_counts_against_the_student_alone(
    scene: Scene, derailed: str, given: Any, difference: float | None
) -> None:
    """Nothing usable on the teacher's answer is no evidence for anybody."""

    def said(request: dict[str, Any]) -> str:
        return "no verdict" if f'"category": "{derailed}"' in request["messages"][-1]["content"] else judge(request)

    scene.court.answering = said
    scene.pairs(1, student=RIGHT if derailed == "card" else WRONG)
    scene.turn()
    row = scene.rows()[0]
    assert row.state == "scored"
    assert (row.student_scores, row.teacher_scores) == given
    assert row.differences.get("tone") == difference


def test_a_dead_judge_promotes_nobody_and_the_other_tests_go_on(scene: Scene, clock: Clock) -> None:
    scene.pairs(60)
    while scene.turn():
        pass
    scene.court.answering = lambda _: (503, {"error": {"message": "down"}})
    scene.pairs(10)
    clock.now += 1
    assert scene.turn() == 0
    assert scene.tick().stage == 0
    verdict = list_verdicts(scene.store, scene.rollout.id)[-1]
    assert (verdict.kind, verdict.reason) == ("hold", "unheard")
    assert "judge judge-1 at upstream court: InternalServerError" in verdict.sentence
    asked = len(scene.court.requests)
    clock.now += AGAIN_S - 1
    assert scene.turn() == 0
    assert len(scene.court.requests) == asked  # left alone for a while
    clock.now += PATIENCE_S
    scene.turn()
    assert {row.state for row in scene.rows()} == {"consumed", "scored"}
    assert scene.tick().stage == 0
    with scene.store.write() as connection:
        connection.execute(update(tables.pairs).where(tables.pairs.c.state == "consumed").values(state="void"))
    add_pairs(scene.store, scene.rollout, [-1.0] * 60)  # by its truth
    assert scene.tick().state == "rolled_back"


def test_a_judge_that_is_back_is_heard_again(scene: Scene, clock: Clock) -> None:
    scene.court.answering = lambda _: (503, {"error": {"message": "down"}})
    scene.pairs(80)
    scene.turn()
    assert "InternalServerError" in scene.judging.unheard({"triage": TASK})[scene.rollout.id]
    scene.court.answering = judge
    clock.now += AGAIN_S
    assert (scene.turn(), scene.turn()) == (50, 30)
    assert scene.judging.unheard({"triage": TASK}) == {}
    assert scene.tick().stage == 1


def test_a_judge_without_a_licence_any_more_is_not_asked(scene: Scene, clock: Clock) -> None:
    scene.pairs(80)
    assert (scene.turn(), scene.turn()) == (50, 30)
    scene.pairs(5)
    for number in range(20):  # people come to other verdicts
        identity = add_exchange(scene.store, text=f"new ticket {number} about my card", answer=RIGHT)
        reviews.review(scene.store, identity, "reject", None, "ben", clock)
        _scored(scene.store, identity)
    clock.now += LICENCE_S
    asked = len(scene.court.requests)
    assert scene.turn() == 0
    assert len(scene.court.requests) == asked
    assert scene.tick().stage == 0
    verdict = list_verdicts(scene.store, scene.rollout.id)[-1]
    assert (verdict.kind, verdict.reason) == ("hold", "unheard")
    assert "judge tone has no licence: it agrees with people at least" in verdict.sentence


def _scored(store: Store, identity: str) -> None:
    """The judge called this exchange good, as it did the others."""
    with store.write() as connection:
        row = connection.execute(select(scores).where(scores.c.grader == "tone").limit(1)).one()._asdict()
        connection.execute(scores.insert().values({**row, "exchange_id": identity, "value": 1.0}))


def test_a_worker_that_ends_asks_about_no_other_pair(scene: Scene) -> None:
    def last(request: dict[str, Any]) -> str:
        scene.stopping.set()
        return judge(request)

    scene.court.answering = last
    scene.pairs(50)
    assert scene.turn() < 50
    assert {row.state for row in scene.rows()} == {"judging", "scored"}


def test_who_has_just_begun_to_lead_has_heard_nobody(scene: Scene) -> None:
    assert scene.judging.unheard({"triage": TASK}) == {scene.rollout.id: NOT_YET}
    scene.pairs(50)
    scene.turn()
    assert scene.judging.unheard({"triage": TASK}) == {}
    scene.judging.stand_down()
    assert scene.tick().stage == 0
    assert verdict_rows(scene.store, scene.rollout)[-1] == ("hold", "unheard")


def test_a_pair_may_wait_for_its_truth_after_its_judge(scene: Scene) -> None:
    scene.pairs(1)
    with scene.store.write() as connection:
        connection.execute(update(tables.pairs).values(differences={}))
    scene.turn()
    row = scene.rows()[0]
    assert (row.state, row.differences) == ("waiting", {"tone": 0.0})


@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        ({}, "task triage is gone"),
        ({"triage": task_of({"tone": JUDGE})}, "the task has no grader category any more"),
        ({"triage": task_of({"category": CODE, "tone": JUDGE})}, "category runs Python, which is off here"),
        (
            {"triage": task_of({"category": {"type": "multi", "graders": {"a": TRUTH}, "calculate_output": "a +"}})},
            "its task cannot be graded",
        ),
    ],
)
def test_a_gate_that_nobody_can_speak_for_is_told(scene: Scene, tasks: dict[str, TaskSettings], why: str) -> None:
    scene.judging.turn(tasks)
    assert why in scene.judging.unheard(tasks)[scene.rollout.id]


def test_where_python_may_run_its_gate_can_speak(scene: Scene) -> None:
    python = PythonProcesses(PythonGraderSettings(allowed=True))
    judging = Judging(Workshop(scene.store, scene.settings, scene.client, dict, scene.clock, python=python))
    assert judging.unheard({"triage": task_of({"category": CODE, "tone": JUDGE})}) == {scene.rollout.id: NOT_YET}
    assert judging.unheard({"triage": task_of({"category": CODE, "tone": TRUTH})}) == {}
    python.close()


def test_pairs_of_a_policy_that_asks_no_judge_any_more_wait_for_none(scene: Scene) -> None:
    scene.pairs(3)
    scene.judging.turn({"triage": task_of({"category": TRUTH, "tone": TRUTH})})
    assert {row.state for row in scene.rows()} == {"waiting"}  # for the truth of what was the judge
