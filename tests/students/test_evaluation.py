"""Evaluations: real servers, made data with known answers, nothing asked twice, nobody examined on its own lessons."""

import json
import threading
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from scipy import stats
from sqlalchemy import select

import students.tables as tables
from capture.db import Store
from capture.errors import RefusedError, UpstreamAwayError
from capture.settings import GraderSettings, ViewSettings
from students import evaluation, overlap
from students.answering import Room, asked
from students.caps import Caps
from students.clients import Client
from students.exams import Exam, exams_of
from students.registry import Server, Student, register_upstream
from students.report import Answered, summarise
from students.workshop import Stopping
from tests.factories.clock import Clock
from tests.factories.examined import LABELS, ROWS, Scene, answering, clock, put_dataset, put_rows, row_of
from tests.fakes.chat_server import ChatServer


@pytest.fixture
def store(examined_store: Store) -> Store:
    return examined_store


def up(student_id: str, url: str) -> Server:
    return Server(student_id, "ready", url, "m", None, None, 0.0)


def test_a_student_is_compared_with_the_teacher_row_by_row(store: Store, client: Client) -> None:
    wrong = {0, 1, 2, 9, 19}  # the teacher is wrong on 9, 19, 29, 39
    with ChatServer(answering(wrong)) as server:
        scene = Scene(store, client)
        student = scene.student(url=server.url)
        evaluation_id = scene.evaluate(student)
        evaluation.carry_out(scene.shop, evaluation_id)
    row, report = scene.row(evaluation_id), scene.report(evaluation_id)
    teacher, own = report.arms
    assert row.state == "succeeded"
    assert row.progress["done"] == row.progress["total"] == ROWS
    assert (teacher.role, own.role, own.name) == ("teacher", "student", student.name)
    assert teacher.scores["category"].mean == pytest.approx(36 / 40)
    figure = own.scores["category"]
    exact = stats.binomtest(35, 40).proportion_ci(0.95, "exact")
    assert (figure.n, figure.mean) == (40, 35 / 40)
    assert (figure.low, figure.high) == pytest.approx((exact.low, exact.high))
    differences = [(number not in wrong) - (number % 10 != 9) for number in range(ROWS)]
    assert own.differences["category"].mean == pytest.approx(sum(differences) / ROWS)
    low, high = own.differences["category"].low, own.differences["category"].high
    theirs = stats.bootstrap((differences,), lambda x, axis: x.mean(axis=axis), method="percentile", rng=1)
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)
    assert own.confusion["card"] == {"card": 12, "(other)": 2}
    assert {worst.exchange_id for worst in own.worst} == {f"holdout{number:030x}" for number in (0, 1, 2)}
    assert own.slices["label"].keys() == set(LABELS)
    assert own.latency_p50_ms is not None
    assert (report.rows, report.rows_with_truth, report.looks, own.errors) == (40, 40, 1, 0)
    assert server.requests[0]["temperature"] == 0.4


def test_the_untuned_base_is_examined_beside_its_student(store: Store, client: Client) -> None:
    with ChatServer(answering(set())) as good, ChatServer(lambda _: "I am a helpful assistant.") as raw:
        scene = Scene(store, client)
        student = scene.student(url=good.url)
        evaluation_id = scene.evaluate(student, with_base=True)
        base = scene.base()
        scene.serve(base.id, raw.url)
        evaluation.carry_out(scene.shop, evaluation_id)
    scores = {arm.role: arm.scores["category"].mean for arm in scene.report(evaluation_id).arms}
    assert scores == {"teacher": 0.9, "student": 1.0, "base": 0.0}


def test_greedy_and_few_shot_are_sat_beside_the_live_parameters(store: Store, client: Client) -> None:
    likeliest = ChatServer(answering({1}))
    with ChatServer(answering({1, 2})) as good, ChatServer(answering(set(range(20)))) as raw, likeliest:
        scene = Scene(store, client)
        student = scene.student(url=good.url)
        scene.shop.greedily = lambda student: nullcontext(up(student.id, likeliest.url))
        evaluation_id = scene.evaluate(student, with_base=True, greedy=True, few_shot=3)
        base = scene.base()
        scene.serve(base.id, raw.url)
        evaluation.carry_out(scene.shop, evaluation_id)
    report = scene.report(evaluation_id)
    assert [arm.role for arm in report.arms] == ["teacher", "student", "base", "greedy", "few_shot"]
    for server, temperature in ((good, 0.4), (likeliest, 0)):
        assert [request["temperature"] for request in server.requests] == [temperature] * ROWS
    assert [arm.scores["category"].mean for arm in report.arms if arm.role in ("student", "greedy")] == [0.95, 0.975]
    shown = [request["messages"] for request in raw.requests if len(request["messages"]) > 2]
    assert len(shown) == ROWS
    assert [message["role"] for message in shown[0]] == ["system", *["user", "assistant"] * 3, "user"]
    assert {json.loads(message["content"])["category"] for message in shown[0][2::2]} == set(LABELS)
    row = scene.row(evaluation_id)
    assert row.progress["done"] == row.progress["total"] == 4 * ROWS


def test_one_whose_live_traffic_is_greedy_needs_no_second_server(store: Store, client: Client) -> None:
    greedy = [msgspec.structs.replace(row_of(n, "train"), request={"messages": []}) for n in range(5)]
    put_rows(store, "ds_9", 9, greedy, [row_of(n, "holdout") for n in range(ROWS)])
    with ChatServer(answering(set())) as server:
        scene = Scene(store, client)
        evaluation_id = scene.evaluate(scene.student(url=server.url, dataset="ds_9"), dataset="ds_9", greedy=True)
        evaluation.carry_out(scene.shop, evaluation_id)
        assert len(server.requests) == 2 * ROWS


def test_a_greedy_server_that_does_not_come_up_ends_it_with_its_reason(store: Store, client: Client) -> None:
    with ChatServer(answering(set())) as server:
        scene = Scene(store, client)
        evaluation_id = scene.evaluate(scene.student(url=server.url), greedy=True)
        with pytest.raises(UpstreamAwayError, match="served in one way alone"):
            evaluation.carry_out(scene.shop, evaluation_id)
        assert len(server.requests) == ROWS  # and what it said is kept


def test_going_on_after_a_stop_asks_nothing_twice(store: Store, client: Client) -> None:
    stop_after = 10
    scene = Scene(store, client)

    def answer(request: dict[str, Any]) -> str:
        if len(server.requests) == stop_after:
            scene.shop.stopping.set()
        return str(answering(set())(request))

    with ChatServer(answer) as server:
        student = scene.student(url=server.url)
        evaluation_id = scene.evaluate(student)
        with pytest.raises(Stopping):
            evaluation.carry_out(scene.shop, evaluation_id)
        asked = len(server.requests)
        assert asked < ROWS
        assert scene.row(evaluation_id).state == "running"
        scene.shop.stopping = threading.Event()
        evaluation.carry_out(scene.shop, evaluation_id)
        assert len(server.requests) == ROWS
        evaluation.carry_out(scene.shop, evaluation_id)
        assert len(server.requests) == ROWS
    assert scene.report(evaluation_id).arms[1].rows == ROWS


def test_errors_count_against_the_student_and_are_shown(store: Store, client: Client) -> None:
    def answer(request: dict[str, Any]) -> Any:
        said = answering(set())(request)
        return (500, {"error": {"message": "no"}}) if "ticket 3:" in request["messages"][-1]["content"] else said

    with ChatServer(answer) as server:
        scene = Scene(store, client)
        evaluation_id = scene.evaluate(scene.student(url=server.url))
        evaluation.carry_out(scene.shop, evaluation_id)
    own = scene.report(evaluation_id).arms[1]
    assert (own.errors, own.scores["category"].n, own.scores["category"].mean) == (1, 40, 39 / 40)
    assert own.worst[0].output == "status 500"


def at_upstream(scene: Scene) -> Student:
    upstreams = ("stand-in", scene.shop.settings.upstreams)
    return register_upstream(scene.store, "triage", "small", upstreams, ViewSettings(), clock)


@pytest.mark.usefixtures("worker_key")
def test_a_student_at_an_upstream_is_asked_and_paid_for_as_an_upstream_is(store: Store, client: Client) -> None:
    refusals = iter([429, 503])

    def answer(request: dict[str, Any]) -> Any:
        status = next(refusals, None) if "ticket 3:" in request["messages"][-1]["content"] else None
        return answering({1})(request) if status is None else (status, {"error": {"message": "not now"}})

    with ChatServer(answer) as server:
        scene = Scene(store, client, server.url)
        student = at_upstream(scene)
        evaluation_id = scene.evaluate(student)
        evaluation.carry_out(scene.shop, evaluation_id)
        own = scene.report(evaluation_id).arms[1]
        assert (own.name, own.errors, own.scores["category"].n) == (student.name, 0, ROWS)
        assert own.scores["category"].mean == 39 / 40
        assert len(server.requests) == ROWS + 2
    with store.read() as connection:
        assert connection.execute(select(tables.spend.c.purpose)).scalars().all() == ["evaluation"] * ROWS


@pytest.mark.usefixtures("worker_key")
def test_an_upstream_that_has_no_room_is_not_its_students_error(store: Store, client: Client) -> None:
    full = True

    def answer(request: dict[str, Any]) -> Any:
        busy = full and "ticket 3:" in request["messages"][-1]["content"]
        return (429, {"error": {"message": "not now"}}) if busy else answering(set())(request)

    with ChatServer(answer) as server:
        scene = Scene(store, client, server.url)
        student = at_upstream(scene)
        first = scene.evaluate(student)
        evaluation.carry_out(scene.shop, first)
        assert (scene.report(first).arms[1].rows, scene.report(first).arms[1].errors) == (ROWS - 1, 0)
        full = False
        again = scene.evaluate(student)
        evaluation.carry_out(scene.shop, again)
        assert len(server.requests) == ROWS - 1 + 3 + 1
    assert scene.report(again).arms[1].scores["category"].mean == 1.0


@pytest.mark.usefixtures("worker_key")
def test_an_upstream_whose_limit_is_nearly_used_up_is_left_alone_for_a_while(
    store: Store, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "19"}
    with ChatServer(answering(set()), headers) as server:
        scene, now = Scene(store, client, server.url), Clock()
        scene.shop.caps = Caps(store, scene.shop.settings, now)
        pauses: list[tuple[float, int]] = []

        def pause(seconds: float) -> None:
            pauses.append((seconds, len(server.requests)))
            now.now += seconds

        monkeypatch.setattr(scene.shop, "pause", pause)
        evaluation_id = scene.evaluate(at_upstream(scene))
        evaluation.carry_out(scene.shop, evaluation_id)
    assert pauses == [(30.0, 32)]
    assert scene.report(evaluation_id).arms[1].rows == ROWS


def test_what_is_answered_beside_a_call_that_fails_is_given_out_all_the_same(store: Store, client: Client) -> None:
    scene = Scene(store, client)
    exams = list(exams_of(scene.shop, "ds_1"))[:8]
    all_under_way = threading.Barrier(len(exams), timeout=20)

    def ask(exam: Exam) -> str:
        all_under_way.wait()
        if exam is exams[2]:
            raise UpstreamAwayError("the line is cut")
        return exam.id

    said = asked(Room(shop=scene.shop, task="triage", kept_under="ds_1"), exams, ask)
    given = {next(said)[1] for _ in exams[1:]}
    with pytest.raises(UpstreamAwayError, match="the line is cut"):
        next(said)
    assert given == {exam.id for exam in exams if exam is not exams[2]}


@pytest.mark.usefixtures("worker_key")
def test_only_answers_whose_scores_are_read_are_scored(store: Store, client: Client) -> None:
    with ChatServer(answering({1})) as own, ChatServer(answering(set())) as upstream:
        scene = Scene(store, client, upstream.url)
        student = scene.student(url=own.url)
        evaluation_id = scene.evaluate(student, twice=True, models=[{"upstream": "stand-in", "model": "large"}])
        evaluation.carry_out(scene.shop, evaluation_id)
    kept = tables.evaluation_answers.c
    with store.read() as connection:
        scored = select(kept.student_id, kept.exchange_id, kept.scores)
        found = [row for row in connection.execute(scored) if row.scores]
    assert {row.student_id for row in found} == {student.id}
    assert len(found) == ROWS
    assert [arm.scores["category"].mean for arm in scene.report(evaluation_id).arms] == [0.9, 39 / 40, 1.0]


@pytest.mark.usefixtures("worker_key")
def test_a_grader_that_cannot_score_here_asks_nobody_and_says_so(store: Store, client: Client) -> None:
    code = GraderSettings(type="python", against="teacher", source="def grade(sample, item): return item['reference']")
    with ChatServer(answering(set())) as server, ChatServer(answering(set())) as teacher:
        scene = Scene(store, client, teacher.url, code=code, category=GraderSettings(type="empty"))
        evaluation_id = scene.evaluate(scene.student(url=server.url))
        evaluation.carry_out(scene.shop, evaluation_id)
        assert teacher.requests == []
    report = scene.report(evaluation_id)
    assert report.bar is not None
    assert (list(report.graders), report.bar.gates, list(report.bar.standings.values())) == (
        ["category"],
        ["code"],
        ["open"],
    )
    assert any("no scores by code" in note for note in report.notes)


@pytest.mark.usefixtures("worker_key")
def test_against_the_teacher_the_ceiling_is_its_agreement_with_itself(store: Store, client: Client) -> None:
    agreement = GraderSettings(type="json_fields", against="teacher")
    with ChatServer(answering(set())) as student_server, ChatServer(answering({0, 1})) as teacher:
        scene = Scene(store, client, teacher.url, agreement=agreement)
        evaluation_id = scene.evaluate(scene.student(url=student_server.url))
        evaluation.carry_out(scene.shop, evaluation_id)
    report = scene.report(evaluation_id)
    ceiling = report.arms[0].scores["agreement"].mean
    assert ceiling == pytest.approx(34 / 40)  # it contradicts itself on 0, 1 and where its captured answer was wrong
    assert report.arms[1].differences["agreement"].mean == pytest.approx(36 / 40 - 34 / 40)
    with store.read() as connection:
        assert len(connection.execute(select(tables.spend.c.id)).all()) == ROWS


def test_without_a_worker_key_the_ceiling_is_unknown_and_said_so(store: Store, client: Client) -> None:
    agreement = GraderSettings(type="json_fields", against="teacher")
    with ChatServer(answering(set())) as server:
        scene = Scene(store, client, agreement=agreement)
        evaluation_id = scene.evaluate(scene.student(url=server.url))
        evaluation.carry_out(scene.shop, evaluation_id)
    report = scene.report(evaluation_id)
    assert report.arms[0].scores == {}
    assert report.arms[1].scores["agreement"].mean == pytest.approx(36 / 40)
    assert report.arms[1].differences == {}
    assert any("twice" in note for note in report.notes)


def test_a_holdout_that_the_student_was_trained_on_is_refused(store: Store, client: Client) -> None:
    put_dataset(store, "ds_2", 2, holdout_like="train")
    with ChatServer(answering(set())) as server:
        scene = Scene(store, client)
        evaluation_id = scene.evaluate(scene.student(url=server.url), dataset="ds_2")
        with pytest.raises(RefusedError, match="among the training rows"):
            evaluation.carry_out(scene.shop, evaluation_id)
        assert server.requests == []


def test_likeness_is_not_looked_for_where_the_build_has(
    store: Store, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_signing(_: object) -> None:
        raise AssertionError("signed")

    monkeypatch.setattr(overlap, "signatures", no_signing)
    with ChatServer(answering(set())) as server:
        scene = Scene(store, client)
        evaluation_id = scene.evaluate(scene.student(url=server.url))
        evaluation.carry_out(scene.shop, evaluation_id)
    assert scene.report(evaluation_id).rows == ROWS


def test_looks_are_counted(store: Store, client: Client) -> None:
    with ChatServer(answering(set())) as server:
        scene = Scene(store, client)
        student = scene.student(url=server.url)
        for _ in range(3):
            evaluation_id = scene.evaluate(student)
            evaluation.carry_out(scene.shop, evaluation_id)
        assert len(server.requests) == ROWS  # the answers were kept
    assert scene.report(evaluation_id).looks == 3


def test_the_same_rows_make_the_same_report() -> None:
    rows = [
        Answered(
            exchange_id=f"{number:032x}",
            conversation=f"c{number // 4}",
            slices={"language": "de" if number % 3 else "en"},
            scores={"text": (number % 7) / 6},
            differences={"text": (number % 5) / 4 - 0.5},
            duration_ms=float(number),
            label="a",
            true_label="b" if number % 2 else "a",
        )
        for number in range(60)
    ]
    one, other = (summarise("s", "s", "student", rows) for _ in range(2))
    assert one == other
    assert one.confusion == {"a": {"a": 30}, "b": {"a": 30}}
    assert one.latency_p95_ms == pytest.approx(56.05)
