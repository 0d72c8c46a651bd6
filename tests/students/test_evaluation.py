"""Evaluations: real servers, made data with known answers, nothing asked twice, nobody examined on its own lessons."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scipy import stats
from sqlalchemy import insert, select, update

import students.tables as tables
from capture.datasets.row import Row, encode_row
from capture.db import Store, metadata, open_store
from capture.errors import RefusedError
from capture.ids import new_id
from capture.settings import GraderSettings, Settings, TaskSettings, TeacherSettings, UpstreamSettings, ViewSettings
from capture.tables import dataset_rows, datasets
from students import evaluation
from students.clients import Client
from students.registry import Student, Training, ensure_base, register_local, want
from students.report import Answered, Report, summarise
from students.workshop import Stopping, Workshop
from tests.fakes.chat_server import ChatServer

NOW = 1_800_000_000.0
LABELS = ("card", "loan", "account")
ROWS = 40


def clock() -> float:
    return NOW


def row_of(number: int, split: str) -> Row:
    """The truth is by the number; the teacher is wrong on every tenth."""
    truth = LABELS[number % 3]
    said = "other" if number % 10 == 9 else truth
    return Row(
        exchange_id=f"{split}{number:030x}",
        request={
            "messages": [
                {"role": "system", "content": "Sort the ticket."},
                {"role": "user", "content": f"{split} ticket {number}: the {truth} is not what it was"},
            ],
            "temperature": 0.4,
        },
        target={"role": "assistant", "content": json.dumps({"category": said})},
        label=said,
        fingerprint="f" * 16,
        conversation=f"c{number}",
        truth={"category": truth},
        started_at=NOW,
    )


def put_dataset(store: Store, dataset_id: str, version: int, holdout_like: str = "holdout") -> None:
    rows = [("train", row_of(number, "train")) for number in range(20)]
    rows += [("holdout", row_of(number, holdout_like)) for number in range(ROWS)]
    with store.write() as connection:
        values = {"id": dataset_id, "task": "triage", "version": version, "state": "ready", "hash": "h"}
        connection.execute(insert(datasets).values(**values, filters={}, card={}, created_at=NOW))
        lines = [
            {
                "dataset_id": dataset_id,
                "position": position,
                "split": split,
                "exchange_id": row.exchange_id,
                "row": encode_row(row),
            }
            for position, (split, row) in enumerate(rows)
        ]
        connection.execute(insert(dataset_rows), lines)


def answering(wrong: set[int]) -> Any:
    """Answers by the ticket's number, wrong on some."""

    def answer(request: dict[str, Any]) -> str:
        text = request["messages"][-1]["content"]
        number = int(text.split()[2].removesuffix(":"))
        return json.dumps({"category": "nothing" if number in wrong else LABELS[number % 3]})

    return answer


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client(pause=lambda _: None)
    yield client
    client.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'stillhouse.db'}")
    metadata.create_all(store.engine)
    put_dataset(store, "ds_1", 1)
    yield store
    store.close()


class Scene:
    def __init__(
        self, store: Store, client: Client, teacher_url: str = "http://127.0.0.1:1/v1", **graders: GraderSettings
    ) -> None:
        self.store = store
        task = TaskSettings(
            label="/category",
            teacher=TeacherSettings(upstream="stand-in", model="large"),
            graders=graders or {"category": GraderSettings(type="json_fields", against="truth")},
        )
        settings = Settings(upstreams={"stand-in": UpstreamSettings(base_url=teacher_url, worker_key_env="WORKER_KEY")})
        self.shop = Workshop(store, settings, client, lambda: {"triage": task}, clock)

    def student(self, fine_tune: str = "ft_1", url: str = "", dataset: str = "ds_1") -> Student:
        made = Training(
            fine_tune_id=fine_tune,
            task="triage",
            base="tiny",
            dataset_id=dataset,
            folder="x",
            weights_hash="w",
            view=ViewSettings(),
            fingerprints=["f" * 16],
            tools=False,
        )
        student = register_local(self.store, made, clock)
        self.serve(student.id, url)
        return student

    def base(self) -> Student:
        return ensure_base(self.store, "triage", "tiny", ViewSettings(), clock)

    def serve(self, student_id: str, url: str) -> None:
        want(self.store, student_id, clock)
        values = {"state": "ready", "url": url, "served_model": "m", "seen_at": NOW}
        with self.store.write() as connection:
            row = tables.student_servers.c.student_id == student_id
            connection.execute(update(tables.student_servers).where(row).values(values))

    def evaluate(self, *students: Student, dataset: str | None = "ds_1", **asked: Any) -> str:
        evaluation_id = new_id("ev_")
        values = {
            "id": evaluation_id,
            "task": "triage",
            "dataset_id": dataset,
            "students": [student.id for student in students],
            "asked": {"with_base": False, **asked},
            "state": "queued",
            "progress": {},
            "report": {},
            "created_at": NOW,
        }
        with self.store.write() as connection:
            connection.execute(insert(tables.evaluations).values(values))
        return evaluation_id

    def row(self, evaluation_id: str) -> Any:
        with self.store.read() as connection:
            query = select(tables.evaluations).where(tables.evaluations.c.id == evaluation_id)
            return connection.execute(query).one()

    def report(self, evaluation_id: str) -> Report:
        return msgspec.convert(self.row(evaluation_id).report, Report)


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
    with ChatServer(answering({1, 2})) as good, ChatServer(answering(set(range(20)))) as raw:
        scene = Scene(store, client)
        student = scene.student(url=good.url)
        evaluation_id = scene.evaluate(student, with_base=True, greedy=True, few_shot=3)
        base = scene.base()
        scene.serve(base.id, raw.url)
        evaluation.carry_out(scene.shop, evaluation_id)
    report = scene.report(evaluation_id)
    assert [arm.role for arm in report.arms] == ["teacher", "student", "base", "greedy", "few_shot"]
    assert [request["temperature"] for request in good.requests] == [0.4] * ROWS + [0] * ROWS
    shown = [request["messages"] for request in raw.requests if len(request["messages"]) > 2]
    assert len(shown) == ROWS
    assert [message["role"] for message in shown[0]] == ["system", *["user", "assistant"] * 3, "user"]
    assert {json.loads(message["content"])["category"] for message in shown[0][2::2]} == set(LABELS)
    row = scene.row(evaluation_id)
    assert row.progress["done"] == row.progress["total"] == 4 * ROWS


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


def test_against_the_teacher_the_ceiling_is_its_agreement_with_itself(
    store: Store, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_KEY", "sk-worker")
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
