"""Judges and Python in evaluations: every arm's answers judged once each, within caps, without one deciding alone."""

from typing import Any

import pytest
from sqlalchemy import select

import students.tables as tables
from capture.db import Store
from capture.graders.python_process import PythonProcesses
from capture.settings import GraderSettings, JudgeSettings, PriceSettings, PythonGraderSettings, UpstreamSettings
from students import evaluation
from students.clients import Client
from tests.factories.examined import ROWS, Scene, answering
from tests.fakes.chat_server import ChatServer

QUALITY = GraderSettings.model_validate(
    {
        "type": "score_model",
        "upstream": "court",
        "model": "judge-1",
        "input": "Asked: {{item.input}} Said: {{sample.output_text}}",
    }
)
CATEGORY = GraderSettings(type="json_fields", against="truth")


@pytest.fixture
def store(examined_store: Store) -> Store:
    return examined_store


@pytest.fixture(autouse=True)
def court_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURT_KEY", "sk-court")


def verdict(request: dict[str, Any]) -> str:
    """Half a point for nonsense."""
    return '{"score": 0.5}' if '"nothing"' in str(request) or '\\"nothing\\"' in str(request) else '{"score": 1}'


def judged_scene(store: Store, client: Client, court: str, **judges: Any) -> Scene:
    scene = Scene(store, client)
    scene.shop.settings.upstreams["court"] = UpstreamSettings(base_url=court, worker_key_env="COURT_KEY")
    scene.shop.settings.prices["judge-1"] = PriceSettings(input=1000, output=1000)  # 1.5 cents a question
    changes = {
        "graders": {"quality": QUALITY, "category": CATEGORY},
        "judges": JudgeSettings(upstreams=("court",), **judges),
    }
    task = scene.shop.load_tasks()["triage"].model_copy(update=changes)
    scene.shop.load_tasks = lambda: {"triage": task}
    return scene


def test_every_arm_is_judged_and_each_question_asked_once(store: Store, client: Client) -> None:
    with ChatServer(answering({0, 1})) as own, ChatServer(verdict) as court:
        scene = judged_scene(store, client, court.url)
        student = scene.student(url=own.url)
        first = scene.evaluate(student)
        evaluation.carry_out(scene.shop, first)
        asked = len(court.requests)
        again = scene.evaluate(student)
        evaluation.carry_out(scene.shop, again)
        assert len(court.requests) == asked
    teacher, learner = scene.report(first).arms
    assert (teacher.scores["quality"].n, teacher.scores["quality"].mean) == (ROWS, 1.0)
    assert learner.scores["quality"].mean == pytest.approx(1 - 2 * 0.5 / ROWS)
    assert learner.differences["quality"].mean == pytest.approx(-2 * 0.5 / ROWS)
    assert asked == ROWS + 6  # the student said what the teacher said, but for its own faults and the teacher's
    assert scene.report(again).arms[1].scores == learner.scores
    assert scene.row(first).progress == {"done": 2 * ROWS, "total": 2 * ROWS}
    with store.read() as connection:
        spent = connection.execute(select(tables.spend.c.purpose, tables.spend.c.model)).all()
    assert set(spent) == {("judge", "judge-1")}


def test_a_judge_without_a_licence_is_shown_and_decides_nothing(store: Store, client: Client) -> None:
    with ChatServer(answering(set())) as own, ChatServer(lambda _: '{"score": 1}') as court:
        scene = judged_scene(store, client, court.url)
        evaluation_id = scene.evaluate(scene.student(url=own.url))
        evaluation.carry_out(scene.shop, evaluation_id)
    report = scene.report(evaluation_id)
    assert report.bar is not None
    assert (report.bar.gates, set(report.bar.standings.values())) == (["quality"], {"open"})
    assert any(note.startswith("Judge quality decides nothing here: 0 of the exchanges") for note in report.notes)


def test_at_its_cap_a_judge_has_spoken_on_whole_rows_and_the_next_goes_on(store: Store, client: Client) -> None:
    with ChatServer(answering({0, 1})) as own, ChatServer(verdict) as court:
        scene = judged_scene(store, client, court.url, run_cap_usd=0.3)
        student = scene.student(url=own.url)
        first, second, third = (scene.evaluate(student) for _ in range(3))
        evaluation.carry_out(scene.shop, first)
        report = scene.report(first)
        figures = [arm.scores["quality"].n for arm in report.arms]
        assert 0 < figures[0] < ROWS
        assert figures == [report.arms[1].differences["quality"].n] * 2
        assert report.arms[1].scores["category"].n == ROWS
        assert any("this run's cap of 0.30 USD is reached" in note for note in report.notes)
        evaluation.carry_out(scene.shop, second)
        evaluation.carry_out(scene.shop, third)
        assert len(court.requests) == ROWS + 6
    assert scene.report(third).arms[0].scores["quality"].n == ROWS
    assert not any("were judged" in note for note in scene.report(third).notes)


def test_a_judge_that_is_away_takes_its_own_scores_alone(store: Store, client: Client) -> None:
    with ChatServer(answering({0})) as own:
        scene = judged_scene(store, client, "http://127.0.0.1:1/v1")
        evaluation_id = scene.evaluate(scene.student(url=own.url))
        evaluation.carry_out(scene.shop, evaluation_id)
    report = scene.report(evaluation_id)
    assert [list(arm.scores) for arm in report.arms] == [["category"]] * 2
    assert any("0 of 40 rows were judged by quality: judge judge-1" in note for note in report.notes)


def test_a_judge_that_cannot_be_asked_is_told(store: Store, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURT_KEY")
    with ChatServer(answering({0})) as own, ChatServer(verdict) as court:
        scene = judged_scene(store, client, court.url)
        evaluation_id = scene.evaluate(scene.student(url=own.url))
        evaluation.carry_out(scene.shop, evaluation_id)
        assert court.requests == []
    report = scene.report(evaluation_id)
    assert list(report.graders) == ["category"]
    assert "There are no scores by quality: upstream court has no worker key." in report.notes


def test_python_graders_mark_where_the_settings_allow_them(store: Store, client: Client) -> None:
    source = "def grade(sample, item): return float('nothing' not in sample['output_text'])"
    code = GraderSettings(type="python", source=source)
    python = PythonProcesses(PythonGraderSettings(allowed=True))
    with ChatServer(answering({0, 1})) as own:
        scene = Scene(store, client, code=code)
        scene.shop.python = python
        student = scene.student(url=own.url)
        evaluation_id = scene.evaluate(student)
        evaluation.carry_out(scene.shop, evaluation_id)
    python.close()
    teacher, learner = scene.report(evaluation_id).arms
    assert (teacher.scores["code"].mean, learner.scores["code"].mean) == (1.0, 38 / 40)
    assert learner.differences["code"].mean == pytest.approx(-2 / 40)
    kept = tables.evaluation_answers.c
    with store.read() as connection:
        scores = connection.execute(select(kept.scores).where(kept.student_id == student.id)).scalars()
        assert sum(one["code"] for one in scores) == 38  # what a build from its misses goes by
