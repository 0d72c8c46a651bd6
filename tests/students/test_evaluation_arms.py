"""Who else is examined, and on what: models at upstreams, a rival by prompting, a referee, replays, rows kept apart."""

import json
from typing import Any

import pytest
from scipy import stats
from sqlalchemy import insert, select

import students.tables as tables
from capture.datasets.row import Row
from capture.db import Store
from capture.errors import RefusedError
from capture.ids import new_id
from capture.settings import EvaluationSettings, GraderSettings, Settings, UpstreamSettings
from students import evaluation
from students.clients import Client
from students.report import Report
from students.rival import last_word
from students.workshop import Workshop
from tests.factories.examined import NOW, ROWS, Scene, answering, put_dataset, put_rows, row_of
from tests.factories.store import add_exchange
from tests.fakes.chat_server import ChatServer

TRUTH = GraderSettings(type="json_fields", against="truth")

pytestmark = pytest.mark.usefixtures("worker_key")


@pytest.fixture
def store(examined_store: Store) -> Store:
    return examined_store


def row_saying(identity: str, text: str, started_at: float = NOW) -> Row:
    return Row(
        exchange_id=identity,
        request={"messages": [{"role": "user", "content": text}]},
        target={"role": "assistant", "content": '{"category": "card"}'},
        label="card",
        conversation=identity,
        truth={"category": "card"},
        started_at=started_at,
    )


def carry_out(scene: Scene, *students: Any, **asked: Any) -> Report:
    evaluation_id = scene.evaluate(*students, **asked)
    evaluation.carry_out(scene.shop, evaluation_id)
    return scene.report(evaluation_id)


def test_any_model_with_any_system_prompt_is_examined_and_paid_for(store: Store, client: Client) -> None:
    def answer(request: dict[str, Any]) -> str:
        strict = request["messages"][0]["content"] == "Be strict."
        return str(answering(set() if strict else set(range(10)))(request))

    with ChatServer(answer) as server:
        scene = Scene(store, client, server.url)
        models = [
            {"upstream": "stand-in", "model": "gpt-4.1-mini"},
            {"upstream": "stand-in", "model": "gpt-4.1-mini", "system": "Be strict."},
        ]
        report = carry_out(scene, models=models)
    teacher, plain, strict = report.arms
    assert (plain.role, plain.scores["category"].mean, strict.scores["category"].mean) == ("model", 0.75, 1.0)
    assert strict.name == "stand-in/gpt-4.1-mini, own system prompt"
    assert plain.cost_usd is not None
    assert plain.cost_usd > 0
    assert teacher.cost_usd is None  # its captured exchanges are gone: unknown, not free
    heads = {request["messages"][0]["content"] for request in server.requests}
    assert heads == {"Sort the ticket.", "Be strict."}
    assert all(len(request["messages"]) == 2 for request in server.requests)
    with store.read() as connection:
        assert connection.execute(select(tables.spend.c.purpose)).scalars().all() == ["evaluation"] * 2 * ROWS


def test_arms_are_compared_with_each_other_row_by_row(store: Store, client: Client) -> None:
    with ChatServer(answering({0, 1, 2})) as one, ChatServer(answering({0, *range(20, 32)})) as other:
        scene = Scene(store, client)
        first, second = scene.student("ft_1", one.url), scene.student("ft_2", other.url)
        report = carry_out(scene, first, second)
    figure = report.arms[1].versus[second.id]["category"]
    assert (figure.n, figure.mean) == (ROWS, pytest.approx((12 - 2) / ROWS))
    assert figure.p == pytest.approx(stats.binomtest(12, 14).pvalue)
    assert 0 < figure.low < figure.mean < figure.high
    mirrored = report.arms[2].versus[first.id]["category"]
    assert (mirrored.mean, mirrored.p) == (pytest.approx(-figure.mean), pytest.approx(figure.p))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (set(), "Prompting alone reaches the bar"),
        (set(range(20)), "Prompting alone misses the bar"),
        ({9, 19, 1, 2, 3}, "Whether prompting alone reaches the bar is open"),
    ],
)
def test_the_rival_is_heard_before_anything_is_trained(
    store: Store, client: Client, wrong: set[int], said: str
) -> None:
    with ChatServer(answering(wrong)) as raw:
        scene = Scene(store, client)
        scene.serve(scene.base().id, raw.url)
        carry_out(scene, bases=["tiny"])
        assert last_word(store, "triage") is None
        report = carry_out(scene, bases=["tiny"], few_shot=3)
        carry_out(scene, bases=["tiny"])
    assert [arm.role for arm in report.arms] == ["teacher", "base", "few_shot"]
    (told,) = [note for note in report.notes if note.startswith(said)]
    assert last_word(store, "triage") == told


def test_bases_are_examined_on_some_rows_where_that_is_set(store: Store, client: Client) -> None:
    with ChatServer(answering(set())) as good, ChatServer(answering({1})) as raw:
        scene = Scene(store, client)
        task = scene.shop.load_tasks()["triage"]
        few = task.model_copy(update={"evaluation": EvaluationSettings(base_rows=12)})
        scene.shop.load_tasks = lambda: {"triage": few}
        student = scene.student(url=good.url)
        scene.serve(scene.base().id, raw.url)
        report = carry_out(scene, student, with_base=True, few_shot=2)
        again = carry_out(scene, student, with_base=True, few_shot=2)
    assert {arm.role: arm.rows for arm in report.arms} == {"teacher": 40, "student": 40, "base": 12, "few_shot": 12}
    assert report.arms[1].versus[scene.base().id]["category"].n == 12
    assert len(raw.requests) == 24  # the same rows each time: their answers were kept
    assert [arm.scores for arm in again.arms] == [arm.scores for arm in report.arms]


def test_the_referee_sees_both_orders_and_knows_ties(store: Store, client: Client) -> None:
    """It likes right answers; of two right ones the first (ticket 0-9), neither (10-19), or talks nonsense (20-29)."""

    def judge(request: dict[str, Any]) -> str:
        if "response_format" not in request:
            return str(answering(set())(request))
        text = request["messages"][-1]["content"]
        number = int(text.split("holdout ticket ")[1].split(":")[0])
        parts = [part for part in text.split("answer") if '"category"' in part]
        first, second = ('"nothing"' not in parts[0], '"nothing"' not in parts[1])
        if first != second:
            return json.dumps({"verdict": "first" if first else "second"})
        if number >= 20 and number < 30:
            return "the first one is nicer"
        return json.dumps({"verdict": "first" if number < 10 else "tie"})

    with ChatServer(answering({30, 31, 32})) as own, ChatServer(judge) as upstream:
        scene = Scene(store, client, upstream.url)
        student = scene.student(url=own.url)
        report = carry_out(scene, student, referee={"upstream": "stand-in", "model": "gpt-4.1"})
        asked = len(upstream.requests)
        carry_out(scene, student, referee={"upstream": "stand-in", "model": "gpt-4.1"})
        assert len(upstream.requests) == asked == 2 * ROWS
    (found,) = report.head_to_head
    assert (found.wins, found.losses, found.ties, found.contradictions, found.unclear) == (0, 3, 27, 10, 10)
    assert found.rate is not None
    assert (found.rate.n, found.rate.mean) == (30, pytest.approx(13.5 / 30))
    marks = {request["messages"][0]["content"] for request in upstream.requests}
    assert len(marks) == ROWS  # nobody can guess the marks that the answers stand between


def test_an_older_student_is_not_examined_on_what_it_nearly_knows(store: Store, client: Client) -> None:
    words = "the card that I was given last week does not work in any shop of the town where I live and work"
    known = [row_saying(f"{number:032x}", f"{words} number {number}") for number in range(4)]
    fresh = [
        row_saying(f"f{number:031x}", f"a quite different thing {number} happened to my loan") for number in range(6)
    ]
    near = row_saying("e" * 32, f"{words} number 2 please")
    put_rows(store, "ds_old", 2, known, [])
    put_rows(store, "ds_new", 3, [row_saying("d" * 32, "nothing of the kind")], [*fresh, near])
    with ChatServer(lambda _: '{"category": "card"}') as server:
        scene = Scene(store, client)
        student = scene.student(url=server.url, dataset="ds_old")
        with pytest.raises(RefusedError, match="1 holdout rows are among the training rows"):
            carry_out(scene, student, dataset="ds_new")
        assert server.requests == []
        report = carry_out(scene, student, dataset="ds_new", leave_out=True)
    assert (report.rows, report.arms[1].rows) == (6, 6)
    assert any(note.startswith("1 rows are among the training rows") for note in report.notes)


def test_a_temporal_holdout_is_newer_than_every_training_row(store: Store, client: Client) -> None:
    holdout = [row_saying(f"f{n:031x}", f"a story of its own {n} {n * 7919}", NOW - 5 + n) for n in range(10)]
    put_rows(store, "ds_late", 2, [row_saying("a" * 32, "what was learnt", NOW)], holdout)
    with ChatServer(lambda _: '{"category": "card"}') as server:
        scene = Scene(store, client)
        student = scene.student(url=server.url, dataset="ds_late")
        report = carry_out(scene, student, dataset="ds_late", temporal=True)
    assert report.rows == 4
    assert any("newer than every training row" in note for note in report.notes)


def test_captured_traffic_is_replayed_without_what_was_learnt(store: Store, client: Client) -> None:
    said = {"category": "card"}
    for number in range(12):
        app = {"app": "mail" if number < 8 else "shop"}
        text = row_of(3, "train").request["messages"][1]["content"] if number == 0 else f"mail {number} of {number**5}"
        add_exchange(store, text=text, answer=json.dumps(said), metadata=app, redactions=number % 2, holdout=number > 5)
    with ChatServer(lambda _: json.dumps(said)) as server:
        scene = Scene(store, client, agreement=GraderSettings(type="json_fields", against="teacher"))
        scene.shop.settings = Settings(
            upstreams={"stand-in": UpstreamSettings(base_url="http://127.0.0.1:1/v1")}  # no worker key
        )
        student = scene.student(url=server.url)
        replay = {"filters": {"metadata": {"app": "mail"}}, "rows": 100}
        report = carry_out(scene, student, dataset=None, replay=replay)
    assert (report.dataset_id, report.rows, report.looks) == (None, 7, 0)
    assert report.arms[1].scores["agreement"].mean == 1.0
    assert report.arms[0].cost_usd == pytest.approx(0.007)
    assert any("1 rows are among the training rows" in note for note in report.notes)
    assert set(report.arms[1].slices["redacted"]) == {"yes", "no"}


def test_looks_at_mostly_the_same_holdout_are_one_count_and_a_fresh_one_is_asked_for(
    store: Store, client: Client
) -> None:
    put_dataset(store, "ds_2", 2)
    with store.write() as connection:
        values = {"task": "triage", "students": [], "state": "succeeded", "progress": {}, "report": {}}
        done = [{**values, "id": new_id("ev_"), "dataset_id": "ds_1", "created_at": NOW} for _ in range(20)]
        connection.execute(insert(tables.evaluations), done)
    with ChatServer(answering(set())) as server:
        scene = Scene(store, client)
        report = carry_out(scene, scene.student(url=server.url, dataset="ds_2"), dataset="ds_2")
    assert report.looks == 21
    assert any("capture a fresh one" in note for note in report.notes)


def test_the_teacher_asked_twice_tells_its_agreement_with_itself(store: Store, client: Client) -> None:
    with ChatServer(answering({0, 1})) as teacher, ChatServer(answering(set())) as own:
        scene = Scene(store, client, teacher.url, category=TRUTH)
        report = carry_out(scene, scene.student(url=own.url), twice=True)
    assert report.agreement["category"].mean == pytest.approx(34 / 40)
    assert report.arms[0].scores["category"].mean == pytest.approx(36 / 40)  # against the truth, as it was captured


def test_a_model_that_is_away_ends_it_and_what_was_answered_is_kept(store: Store, client: Client) -> None:
    with ChatServer(answering(set())) as own:
        scene = Scene(store, client)
        student = scene.student(url=own.url)
        evaluation_id = scene.evaluate(student, models=[{"upstream": "stand-in", "model": "large"}])
        with pytest.raises(Exception, match="does not answer"):
            evaluation.run(scene.shop, evaluation_id)
        assert len(own.requests) == ROWS
        carry_out(scene, student)
        assert len(own.requests) == ROWS
    assert isinstance(scene.shop, Workshop)
