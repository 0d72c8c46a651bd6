"""Judges: asked on a real socket, once for each question, within caps; their licence is what people say of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from capture import reviews, scoring
from capture.db import Store
from capture.intervals import clopper_pearson
from capture.judges import TaskJudges
from capture.licences import licence_of, licences
from capture.settings import JudgeSettings, PriceSettings, Settings, TaskSettings, UpstreamSettings
from capture.tables import judging, scores
from students.caps import Caps
from students.tables import spend
from tests.factories.store import NOON, add_exchange, new_store, store_at
from tests.fakes.chat_server import ChatServer

KIND = {
    "type": "score_model",
    "upstream": "court",
    "model": "judge-1",
    "range": [1, 5],
    "input": [{"role": "user", "content": "Question: {{item.input}}\nAnswer: {{sample.output_text}}\nHow good is it?"}],
}
LABEL = {**KIND, "type": "label_model", "range": [0, 1], "labels": ["good", "bad"], "passing_labels": ["good"]}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("COURT_KEY", "sk-court")
    store = new_store(tmp_path)
    yield store
    store.close()


def task_of(grader: dict[str, Any] = KIND, **judges: Any) -> TaskSettings:
    teacher = {"upstream": "teacher", "model": "gpt-4.1"}
    allowed = {"upstreams": ["court"], **judges}
    return TaskSettings.model_validate({"teacher": teacher, "graders": {"kind": grader}, "judges": allowed})


class Bench:
    """A task's judges at a fake server; time is `now`."""

    def __init__(self, store: Store, server: ChatServer | None, priced: bool = True) -> None:
        url = server.url if server else "http://127.0.0.1:9/v1"
        upstream = UpstreamSettings(base_url=url, worker_key_env="COURT_KEY")
        prices = {"judge-1": PriceSettings(input=1000, output=1000)} if priced else {}
        self.settings = Settings(upstreams={"court": upstream}, prices=prices)
        self.store, self.now = store, NOON

    def judges(self, name: str, task: TaskSettings) -> TaskJudges:
        caps = Caps(self.store, self.settings, lambda: self.now)
        return TaskJudges(self.store, self.settings, (name, task), caps, lambda: self.now)

    def score(self, task: TaskSettings) -> int:
        scoring.score_new(self.store, {"triage": task}, lambda: self.now)
        return scoring.judge_next(self.store, {"triage": task}, self.judges, lambda: self.now)


def values(store: Store) -> list[float]:
    with store.read() as connection:
        return list(connection.scalars(select(scores.c.value).order_by(scores.c.exchange_id)))


def obstacles(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.scalars(select(judging.c.obstacle)))


def test_a_judge_scores_and_is_asked_once_for_each_question(store: Store) -> None:
    with ChatServer(lambda _: '{"score": 4}') as server:
        bench = Bench(store, server)
        for _ in range(2):
            add_exchange(store, text="where is it?", answer="In the post.")
        assert bench.score(task_of()) == 2
        assert values(store) == [0.75, 0.75]
        assert bench.score(task_of()) == 0
        scoring.rescore(store, "triage")
        bench.score(task_of())
        assert len(server.requests) == 1
        assert server.authorizations == ["Bearer sk-court"]
    asked = server.requests[0]
    assert "tools" not in asked
    assert asked["temperature"] == 0
    assert asked["response_format"]["type"] == "json_schema"
    mark = asked["messages"][0]["content"].split("two marks ")[1].split(" is data")[0]
    assert asked["messages"][1]["content"].count(mark) == 4
    assert len(mark) > 20


def test_labels_and_thresholds(store: Store) -> None:
    with ChatServer(lambda request: json.dumps({"label": "good" if "fine" in str(request) else "bad"})) as server:
        add_exchange(store, answer="fine")
        add_exchange(store, answer="poor")
        Bench(store, server).score(task_of(LABEL))
    assert values(store) == [1, 0]


@pytest.mark.parametrize("said", ["no JSON", '{"score": 9}', '{"score": true}', "[4]", '{"mark": 4}', ""])
def test_nonsense_is_asked_again_and_then_is_no_score(store: Store, said: str) -> None:
    with ChatServer(lambda _: said) as server:
        add_exchange(store)
        assert Bench(store, server).score(task_of()) == 1
        assert len(server.requests) == 3
    assert values(store) == []
    assert obstacles(store) == []


def test_a_dead_judge_puts_off_what_waits_and_is_asked_again_later(store: Store) -> None:
    add_exchange(store)
    bench = Bench(store, None)
    bench.score(task_of())
    assert values(store) == []
    assert obstacles(store) == ["judge judge-1 at upstream court: APIConnectionError"]
    with ChatServer(lambda _: '{"score": 5}') as server:
        back = Bench(store, server)
        assert back.score(task_of()) == 0
        back.now += scoring.JUDGE_AGAIN_S
        assert back.score(task_of()) == 1
    assert values(store) == [1]


def test_a_question_that_is_refused_is_no_score_and_stops_no_other(store: Store) -> None:
    _, kept = add_exchange(store, answer="odd"), add_exchange(store, answer="plain")
    odd = (400, {"error": {"message": "no"}})
    with ChatServer(lambda asked: odd if "odd" in str(asked) else '{"score": 5}') as server:
        assert Bench(store, server).score(task_of()) == 2
        assert len(server.requests) == 2
    with store.read() as connection:
        assert connection.scalars(select(scores.c.exchange_id)).all() == [kept]
    assert obstacles(store) == []


@pytest.mark.parametrize("body", ["<html>", None, [], {}, {"choices": [{}]}, {"choices": []}, {"choices": "none"}])
def test_what_is_no_completion_puts_off_and_is_paid_where_it_says_so(store: Store, body: Any) -> None:
    for _ in range(2):
        add_exchange(store)
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    with ChatServer(lambda _: (200, body | {"usage": usage} if isinstance(body, dict) else body)) as server:
        Bench(store, server).score(task_of())
        assert len(server.requests) == 1
    assert set(obstacles(store)) == {"judge judge-1 at upstream court: what it answered is no completion"}
    with store.read() as connection:
        assert connection.scalars(select(spend.c.cost_usd)).all() == ([0.015] if isinstance(body, dict) else [])


def test_what_one_process_judges_no_other_does(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURT_KEY", "sk-court")
    store = store_at(database_url)
    for _ in range(3):
        add_exchange(store)
    tried: list[int] = []

    def while_another_looks(_: dict[str, Any]) -> str:
        tried.append(scoring.judge_next(store, {"triage": task_of()}, bench.judges, lambda: bench.now))
        return '{"score": 5}'

    with ChatServer(while_another_looks) as server:
        bench = Bench(store, server)
        assert bench.score(task_of()) == 3
        assert len(server.requests) == 3
    assert tried == [0, 0, 0]
    assert values(store) == [1, 1, 1]
    store.close()


def test_what_a_process_that_died_had_taken_is_judged_later(store: Store) -> None:
    add_exchange(store)
    with ChatServer(lambda _: '{"score": 5}') as server:
        bench = Bench(store, server)
        scoring.score_new(store, {"triage": task_of()}, lambda: bench.now)
        (lost,) = scoring._taken(store, bench.now, 50)
        assert bench.score(task_of()) == 0
        bench.now += scoring.CLAIM_S
        assert bench.score(task_of()) == 1
    assert values(store) == [1]
    assert scoring._taken_on(store, lost, bench.now) is None


def test_caps_hold_by_the_day_and_by_the_run(store: Store) -> None:
    for _ in range(4):
        add_exchange(store)  # each answer costs 0.015 USD
    with ChatServer(lambda _: '{"score": 5}') as server:
        bench = Bench(store, server)
        bench.score(task_of(run_cap_usd=0.01))
        assert len(server.requests) == 1
        assert set(obstacles(store)) == {"this run's cap of 0.01 USD is reached"}
        bench.now += 3600
        bench.score(task_of(spend_cap_usd=0.02))
        assert len(server.requests) == 2
        assert set(obstacles(store)) == {"today's spend cap of 0.02 USD is reached"}
        bench.now += 86_400
        bench.score(task_of(spend_cap_usd=0.03))
        assert len(server.requests) == 4


def test_no_key_no_price_no_leave(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        add_exchange(store)
    with ChatServer(lambda _: '{"score": 5}') as server:
        Bench(store, server, priced=False).score(task_of())
        assert len(server.requests) == 1
        assert "no known price" in obstacles(store)[0]
        monkeypatch.delenv("COURT_KEY")
        later = Bench(store, server)
        later.now += 3600
        later.score(task_of())
        assert "has no worker key" in obstacles(store)[0]
    with pytest.raises(ValueError, match="asks upstream 'court': name it in the task"):
        task_of(upstreams=[])


def test_a_licence_is_agreement_with_people_on_both_sides(store: Store) -> None:
    with ChatServer(
        lambda request: json.dumps({"score": 5 if "right" in str(request["messages"][1:]) else 1})
    ) as server:
        bench, task = Bench(store, server), task_of(minimum_of_each=5)
        for number in range(30):
            identity = add_exchange(store, answer=f"{'right' if number % 2 else 'wrong'} {number}")
            reviews.review(store, identity, "accept" if number % 2 else "reject", None, "ann", lambda: NOON)
        assert licences(store, "triage", task)["kind"].obstacle is not None
        bench.score(task)
    found = licences(store, "triage", task)["kind"]
    assert (found.good, found.good_agreed, found.bad, found.bad_agreed, found.obstacle) == (15, 15, 15, 15, None)
    assert found.low == pytest.approx(0.8843, abs=1e-4)
    with store.write() as connection:
        connection.execute(update(scores).values(version="older"))
    assert "0 of the exchanges" in str(licences(store, "triage", task)["kind"].obstacle)


def test_a_judge_that_always_says_yes_gets_no_licence() -> None:
    told = [(True, True)] * 200 + [(False, True)] * 6
    assert "of what people rejected or corrected it agrees on 0 of 6" in str(
        licence_of("j", told, JudgeSettings()).obstacle
    )
    chance = [(True, True), (True, False), (False, True), (False, False)] * 20
    assert "at least 39% of the time, 70% are needed" in str(licence_of("j", chance, JudgeSettings()).obstacle)
    assert "cannot vouch" in str(
        licence_of("j", [(True, True), (False, False)] * 50, JudgeSettings(), reads=True).obstacle
    )


def test_the_interval_is_exact() -> None:
    assert clopper_pearson(0, 10, 0.95) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert clopper_pearson(8, 10, 0.95) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert clopper_pearson(0, 0, 0.95) == (0.0, 1.0)
