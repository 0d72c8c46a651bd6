"""Better targets: the best of several answers is kept, nothing is asked twice, lineage says who said what."""

import json
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select

import students.tables as tables
from capture.datasets import Filters, Row, load_card, queue_build, rows
from capture.datasets.balance import Pick, capped
from capture.datasets.filters import Relabel
from capture.db import Store
from capture.errors import RefusedError, UpstreamAwayError
from capture.exchange import Answer
from capture.settings import (
    GraderSettings,
    JudgeSettings,
    PriceSettings,
    RolloutSettings,
    Settings,
    TaskSettings,
    TeacherSettings,
    UpstreamSettings,
)
from students.clients import Client
from students.comparison import judges_of
from students.relabelling import best, carry_out, misses
from students.workshop import Workshop
from tests.factories.examined import LABELS, NOW
from tests.fakes.chat_server import ChatServer

TASK = TaskSettings(
    label="/category",
    teacher=TeacherSettings(upstream="strong", model="large"),
    graders={"category": GraderSettings(type="json_fields", against="truth")},
)


@pytest.fixture
def store(examined_store: Store) -> Store:
    return examined_store


def shop_of(store: Store, client: Client, url: str, *, allowed: bool = True) -> Workshop:
    upstream = UpstreamSettings(base_url=url, worker_key_env="WORKER_KEY", training_allowed=allowed)
    return Workshop(store, Settings(upstreams={"strong": upstream}), client, lambda: {"triage": TASK}, lambda: NOW)


def queued(store: Store, samples: int = 1, system: str | None = None) -> str:
    wanted = Relabel(of="ds_1", upstream="strong", model="larger", samples=samples, system=system)
    return queue_build(store, "triage", Filters(relabel=wanted), lambda: NOW)


def saying(request: dict[str, Any]) -> str:
    """Right on every ticket."""
    number = int(request["messages"][-1]["content"].split()[2].removesuffix(":"))
    return json.dumps({"category": LABELS[number % 3], "by": "larger"})


@pytest.mark.usefixtures("worker_key")
def test_a_stronger_teacher_answers_the_training_rows_anew(store: Store, client: Client) -> None:
    dataset_id = queued(store, system="Think twice.")
    with ChatServer(saying) as server:
        shop = shop_of(store, client, server.url)
        carry_out(shop, dataset_id)
        carry_out(shop, dataset_id)
        assert len(server.requests) == 20
        assert {request["messages"][0]["content"] for request in server.requests} == {"Think twice."}
        again = queued(store, system="Think twice.")
        carry_out(shop, again)
        assert len(server.requests) == 20  # the answers were kept
    card, old = load_card(store, dataset_id), load_card(store, "ds_1")
    assert (card.state, card.rows, card.sources) == ("ready", {"train": 20, "holdout": 40}, {"relabel": 20})
    assert card.hash == load_card(store, again).hash != old.hash
    before = {row.exchange_id: row for row in rows(store, "ds_1", "train")}
    for row in rows(store, dataset_id, "train"):
        assert (row.labelled_by, row.original) == ("strong/larger", before[row.exchange_id].target)
        assert row.label == row.truth["category"]
        assert row.request == before[row.exchange_id].request
    assert list(rows(store, dataset_id, "holdout")) == list(rows(store, "ds_1", "holdout"))
    with store.read() as connection:
        assert set(connection.execute(select(tables.spend.c.purpose)).scalars()) == {"relabelling"}


@pytest.mark.usefixtures("worker_key")
def test_of_several_answers_the_graders_keep_the_best(store: Store, client: Client) -> None:
    seen: dict[str, int] = {}

    def answer(request: dict[str, Any]) -> str:
        text = request["messages"][-1]["content"]
        seen[text] = seen.get(text, 0) + 1
        return saying(request) if seen[text] == 2 else '{"category": "nonsense"}'

    dataset_id = queued(store, samples=3)
    with ChatServer(answer) as server:
        carry_out(shop_of(store, client, server.url), dataset_id)
        assert len(server.requests) == 60
    found = list(rows(store, dataset_id, "train"))
    assert all(json.loads(row.text)["category"] == row.truth["category"] for row in found)


@pytest.mark.usefixtures("worker_key")
def test_judges_choose_where_the_task_has_them(store: Store, client: Client) -> None:
    asks = {"upstream": "strong", "model": "judge", "input": "{{sample.output_text}}"}
    judged = TASK.model_copy(
        update={
            "graders": {"kind": GraderSettings(type="score_model", **asks)},
            "judges": JudgeSettings(upstreams=("strong",)),
        }
    )

    def answer(request: dict[str, Any]) -> str:
        if request["model"] == "larger":
            return "thank you, it is about " + saying(request)
        return '{"score": 1}' if "thank you" in request["messages"][-1]["content"] else '{"score": 0}'

    dataset_id = queued(store)
    with ChatServer(answer) as server:
        shop = shop_of(store, client, server.url)
        shop.settings.prices["judge"] = PriceSettings(input=1, output=1)
        shop.load_tasks = lambda: {"triage": judged}
        carry_out(shop, dataset_id)
    assert load_card(store, dataset_id).sources == {"relabel": 20}
    assert all(row.text.startswith("thank you") for row in rows(store, dataset_id, "train"))


@pytest.mark.usefixtures("worker_key")
def test_what_a_row_had_is_kept_where_nothing_better_was_said(store: Store, client: Client) -> None:
    dataset_id = queued(store)
    with ChatServer(lambda _: '{"category": "nonsense"}') as server:
        carry_out(shop_of(store, client, server.url), dataset_id)
    sources = {row.exchange_id: row.source for row in rows(store, dataset_id, "train")}
    wrong_before = {row.exchange_id for row in rows(store, "ds_1", "train") if row.label == "other"}
    assert {identity for identity, source in sources.items() if source == "relabel"} == wrong_before


@pytest.mark.usefixtures("worker_key")
def test_relabelling_stops_at_the_tasks_spend_cap_and_keeps_what_was_paid_for(store: Store, client: Client) -> None:
    dataset_id = queued(store, samples=2)
    capped_task = TASK.model_copy(update={"rollout": RolloutSettings(spend_cap_usd=1.0)})
    with ChatServer(saying) as server:
        shop = shop_of(store, client, server.url)
        shop.load_tasks = lambda: {"triage": capped_task}
        shop.settings.prices["larger"] = PriceSettings(input=10_000, output=0)  # two dollars for 20 rows of 10 tokens
        with pytest.raises(UpstreamAwayError, match="today's spend cap"):
            carry_out(shop, dataset_id)
        assert len(server.requests) == 20
        shop.load_tasks = lambda: {"triage": TASK}
        carry_out(shop, dataset_id)
        assert len(server.requests) == 40
    assert load_card(store, dataset_id).state == "ready"


def test_terms_that_forbid_training_forbid_relabelling(store: Store, client: Client) -> None:
    dataset_id = queued(store)
    with pytest.raises(RefusedError, match="training_allowed"):
        carry_out(shop_of(store, client, "http://127.0.0.1:1/v1", allowed=False), dataset_id)


def test_without_truth_what_most_say_is_kept() -> None:
    judges = judges_of(
        TASK.model_copy(update={"graders": {"same": GraderSettings(type="json_fields", against="teacher")}})
    )
    row = Row(exchange_id="a", request={"messages": []}, target={}, conversation="c", started_at=0.0)
    said = [Answer(message={"role": "assistant", "content": json.dumps({"category": word})}) for word in "abbc"]
    assert best(said, row, judges) == 1
    assert best(said[:1] + said[3:], row, judges) == 0  # nobody agrees: the first


def test_a_students_misses_go_first(store: Store) -> None:
    values = {"dataset_id": "replay:triage", "student_id": "st_1", "output": "", "duration_ms": 1.0}
    answers = [
        {**values, "exchange_id": "right", "error": None, "scores": {"category": 1.0}},
        {**values, "exchange_id": "wrong", "error": None, "scores": {"category": 0.0}},
        {**values, "exchange_id": "erred", "error": "status 500", "scores": {}},
        {**values, "student_id": "st_2", "exchange_id": "another's", "error": None, "scores": {"category": 0.0}},
    ]
    with store.write() as connection:
        connection.execute(insert(tables.evaluation_answers), answers)
    found = misses(store, "st_1")
    assert set(found) == {"wrong", "erred"}
    picks = [Pick(name, None, None, None, None, name) for name in ("a", "b", "c", "wrong", "right", "erred")]
    filters = Filters(first=found, misses_of="st_1", max_rows=3)
    kept, drops = capped(picks, filters)
    assert {"wrong", "erred"} < {pick.id for pick in kept}
    assert (len(kept), drops["max_rows"]) == (3, 3)
    assert msgspec.convert(msgspec.to_builtins(filters), Filters) == filters
