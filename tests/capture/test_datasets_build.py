"""Builds: what becomes a row and what does not, the seal, the same bytes twice, crashes, cards."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update

from capture import datasets, feedback, lineage, reviews, scoring
from capture.datasets import Card, Filters, Row, freeze
from capture.db import Store
from capture.errors import NotFoundError, RefusedError, StoreAwayError
from capture.feedback import Feedback
from capture.settings import DatasetSettings, GraderSettings, TaskSettings, TeacherSettings
from capture.tables import dataset_rows, exchanges
from capture.tables import datasets as table
from tests.factories.datasets import LATER, UPSTREAMS, task_of
from tests.factories.store import NOON, add_exchange, answer_of, answer_with, new_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    yield store
    store.close()


def build(store: Store, task: TaskSettings | None = None, **filters: Any) -> Card:
    dataset_id = datasets.queue_build(store, "triage", Filters(**filters), lambda: LATER)
    return datasets.build(store, dataset_id, {"triage": task or task_of()}, UPSTREAMS, lambda: LATER)


def rows(store: Store, card: Card, split: Any = "train") -> list[Row]:
    return list(datasets.rows(store, card.id, split))


def ids(store: Store, card: Card, split: Any = "train") -> list[str]:
    return [row.exchange_id for row in rows(store, card, split)]


def tell(store: Store, identity: str, kind: Any, value: Any) -> None:
    feedback.record(store, Feedback(id=identity, kind=kind, value=value), None, lambda: 1.0, lambda _, kept: kept)


def review(store: Store, identity: str, verdict: Any, output: str | None = None) -> None:
    reviews.review(store, identity, verdict, output, "ann", lambda: 2.0)


def score(store: Store) -> None:
    scoring.score_new(store, {"triage": task_of()}, lambda: 3.0)


def test_whole_answers_of_the_teacher_become_rows(store: Store) -> None:
    teacher = add_exchange(store, text="my card was declined", metadata={"app": "desk"}, session="s1")
    fallback = add_exchange(store, arm="fallback")
    held = add_exchange(store, holdout=True)
    add_exchange(store, status=429)
    add_exchange(store, complete=False)
    add_exchange(store, arm="student")
    add_exchange(store, task="other")
    card = build(store)
    assert ids(store, card) == [teacher, fallback]
    assert ids(store, card, "holdout") == [held]
    first = rows(store, card)[0]
    assert first.request["messages"][1]["content"] == "my card was declined"
    assert "model" not in first.request
    assert first.target == {"role": "assistant", "content": '{"category": "billing"}'}
    assert (first.label, first.session, first.metadata, first.source) == ("billing", "s1", {"app": "desk"}, "teacher")
    assert card.state == "ready"
    assert card.rows == {"train": 2, "holdout": 1}
    assert card.drops == {"student_answer": 1, "unanswered": 2}


def test_the_card_tells_what_is_in_it(store: Store) -> None:
    for number, label in enumerate(["billing", "billing", "login"]):
        add_exchange(store, label=label, fingerprint=f"fp{number}", started_at=NOON + number)
    add_exchange(store, holdout=True, input_tokens=None, started_at=NOON)
    card = build(store)
    assert card.labels["train"] == {"billing": 2, "login": 1}
    assert card.prompt_versions["train"] == {"fp0": 1, "fp1": 1, "fp2": 1}
    assert (card.tokens["train"].input, card.tokens["train"].output, card.tokens["holdout"].unknown) == (60, 24, 1)
    assert (card.since, card.until) == (NOON, NOON + 2)
    assert card.upstreams == {"teacher": 4}
    assert card.considered == {"train": 3, "holdout": 1}
    assert len(card.samples) == 3
    assert card.near_duplicate == 0.85
    assert datasets.load_card(store, card.id) == card


def test_versions_count_up_per_task(store: Store) -> None:
    add_exchange(store)
    first, second = build(store), build(store)
    assert [card.name for card in datasets.list_datasets(store, "triage")] == ["triage@2", "triage@1"]
    assert datasets.resolve(store, "triage@2") == datasets.resolve(store, second.id) == second.id
    assert datasets.queue_build(store, "other", Filters(), lambda: 1.0) != first.id
    for wrong in ("triage@3", "nothing", "triage@x", "@"):
        with pytest.raises(NotFoundError):
            datasets.resolve(store, wrong)


def test_the_same_inputs_give_the_same_bytes(store: Store) -> None:
    for _ in range(20):
        exchange = add_exchange(store)
        tell(store, exchange, "truth", {"b": 1, "a": 2})
    add_exchange(store, holdout=True)
    score(store)
    first, second = build(store), build(store)
    assert first.hash == second.hash
    assert stored(store, first.id) == stored(store, second.id)
    assert first.samples == second.samples
    tell(store, exchange, "truth", {"b": 1, "a": 3})
    assert build(store).hash != first.hash


def stored(store: Store, dataset_id: str) -> list[tuple[Any, ...]]:
    columns = (dataset_rows.c.position, dataset_rows.c.split, dataset_rows.c.exchange_id, dataset_rows.c.row)
    with store.read() as connection:
        chosen = select(*columns).where(dataset_rows.c.dataset_id == dataset_id).order_by(dataset_rows.c.position)
        return [tuple(row) for row in connection.execute(chosen)]


KILLED = """
import os, sys
from sqlalchemy import event
from capture import datasets
from capture.db import open_store
from tests.factories.datasets import UPSTREAMS, task_of
store, inserted = open_store(sys.argv[1]), []
def stop_at_the_second(_connection, _cursor, statement, *_):
    inserted.append("dataset_rows" in statement and statement.startswith("INSERT"))
    if sum(inserted) == 2:
        os.kill(os.getpid(), 9)
event.listen(store.engine, "before_cursor_execute", stop_at_the_second)
datasets.build(store, sys.argv[2], {"triage": task_of()}, UPSTREAMS, lambda: 1.0)
"""


def test_a_build_that_was_killed_is_done_over(store: Store, tmp_path: Path) -> None:
    for _ in range(1100):
        add_exchange(store)
    whole = build(store)
    dataset_id = datasets.queue_build(store, "triage", Filters(), lambda: LATER)
    killed = [sys.executable, "-c", KILLED, f"sqlite:///{tmp_path / 'test.db'}", dataset_id]
    assert subprocess.run(killed, check=False).returncode == -signal.SIGKILL
    assert datasets.load_card(store, dataset_id).state == "building"
    assert len(stored(store, dataset_id)) == 500
    with pytest.raises(RefusedError, match="building"):
        datasets.rows(store, dataset_id, "train")
    card = datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: LATER)
    assert (card.state, card.hash) == ("ready", whole.hash)


def test_a_ready_dataset_is_left_alone(store: Store) -> None:
    add_exchange(store)
    card = build(store)
    add_exchange(store)
    assert datasets.build(store, card.id, {}, {}, lambda: 0.0) == card


def test_what_comes_after_the_build_was_asked_for_is_not_in_it(store: Store) -> None:
    early = add_exchange(store, started_at=100.0)
    dataset_id = datasets.queue_build(store, "triage", Filters(), lambda: 150.0)
    add_exchange(store, started_at=200.0)
    card = datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: 300.0)
    assert ids(store, card) == [early]


def test_a_correction_becomes_the_target(store: Store) -> None:
    teacher = add_exchange(store, answer='{"category": "login"}', label="login")
    student = add_exchange(store, arm="student", answer='{"category": "login"}')
    told = add_exchange(store, answer='{"category": "login"}')
    review(store, teacher, "correct", '{"category": "billing"}')
    review(store, student, "correct", '{"category": "billing"}')
    tell(store, told, "correction", {"category": "billing"})
    card = build(store, minimum_score={"fields": 1})
    found = rows(store, card)
    assert [row.exchange_id for row in found] == [teacher, student, told]
    assert {row.target["content"] for row in found} == {'{"category": "billing"}'}
    assert {row.label for row in found} == {"billing"}
    assert {row.source for row in found} == {"correction"}
    assert found[0].original == {"role": "assistant", "content": '{"category": "login"}'}
    assert found[0].truth == '{"category": "billing"}'
    assert found[2].truth is None
    assert card.sources == {"correction": 3}


def test_a_row_that_can_be_none_any_more_is_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, gone = add_exchange(store), add_exchange(store)
    mended = add_exchange(store, answer=answer_of("cut o", "length"))
    review(store, mended, "correct", '{"category": "billing"}')
    write = freeze._write

    def meanwhile(*given: Any) -> Any:
        review(store, mended, "accept")
        lineage.erase(store, [gone], None, "ann", lambda: 1.0)
        return write(*given)

    monkeypatch.setattr(freeze, "_write", meanwhile)
    card = build(store)
    assert ids(store, card) == [kept]
    assert card.drops == {"erased": 1, "truncated": 1}
    assert card.considered["train"] == card.rows["train"] + sum(card.drops.values())


def test_reviews_accept_and_reject(store: Store) -> None:
    plain, accepted, rejected = (add_exchange(store) for _ in range(3))
    tell(store, rejected, "correction", "an older correction of the app's")
    review(store, accepted, "accept")
    review(store, rejected, "reject")
    assert ids(store, build(store)) == [plain, accepted]
    card = build(store, reviews="approved")
    assert ids(store, card) == [accepted]
    assert card.drops == {"not_reviewed": 1, "rejected": 1}


def test_a_students_answer_that_was_only_accepted_is_no_target(store: Store) -> None:
    add_exchange(store)
    student = add_exchange(store, arm="student")
    review(store, student, "accept")
    assert student not in ids(store, build(store))


def test_scores_bound_the_train_split_alone(store: Store) -> None:
    good, bad, unknown, held = (add_exchange(store, holdout=number == 3) for number in range(4))
    tell(store, good, "truth", {"category": "billing"})
    tell(store, bad, "truth", {"category": "login"})
    tell(store, held, "truth", {"category": "login"})
    score(store)
    card = build(store, minimum_score={"fields": 0.5})
    assert ids(store, card) == [good]
    assert card.drops == {"low_score:fields": 1, "not_scored": 1}
    assert rows(store, card, "holdout")[0].truth == {"category": "login"}
    assert card.with_truth == {"holdout": 1, "train": 1}
    task = task_of(dataset=DatasetSettings(minimum_rows=1, minimum_score={"fields": 0.5}))
    assert ids(store, build(store, task)) == [good]
    assert ids(store, build(store, truth="agree")) == [good, unknown]
    assert ids(store, build(store, truth="required")) == [good]


def test_filters_by_time_prompt_version_metadata_and_arm(store: Store) -> None:
    one = add_exchange(store, started_at=100.0, fingerprint="a", metadata={"app": "x", "more": "1"})
    two = add_exchange(store, started_at=200.0, fingerprint="b", metadata={"app": "y"}, arm="fallback")
    add_exchange(store, started_at=100.0, holdout=True)
    assert ids(store, build(store, since=150.0)) == [two]
    assert ids(store, build(store, until=150.0)) == [one]
    assert ids(store, build(store, fingerprints=("a",))) == [one]
    assert ids(store, build(store, metadata={"app": "y"})) == [two]
    card = build(store, arms=("teacher",), since=50.0)
    assert ids(store, card) == [one]
    assert card.drops == {"arm": 1}
    assert card.rows["holdout"] == 1


def test_exchanges_that_cannot_be_rows_are_counted(store: Store) -> None:
    good = add_exchange(store)
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}]}
    add_exchange(store, request={"messages": [image]}, conversation="c1", content_hash="h1")
    add_exchange(store, request={"messages": "none"}, conversation="c2", content_hash="h2")
    add_exchange(store, answer="")
    add_exchange(store, answer=answer_of("and then", "length"))
    add_exchange(store, answer=answer_with({"role": "assistant", "content": None, "refusal": "No."}))
    stateful = {"input": "and now?", "previous_response_id": "resp_1"}
    add_exchange(store, request=stateful, conversation="c3", content_hash="h3")
    add_exchange(store, text="x" * 50_000_000)
    card = build(store)
    assert ids(store, card) == [good]
    assert card.drops == {
        "empty": 1,
        "no_messages": 1,
        "not_text": 1,
        "refusal": 1,
        "stateful": 1,
        "too_large": 1,
        "truncated": 1,
    }


def test_duplicates_are_judged_on_the_variable_part(store: Store) -> None:
    text = "hello there, the invoice of last month names the wrong address, please send a new one to the office"
    first = add_exchange(store, text=text, system="One way to ask.")
    add_exchange(store, text=text.upper(), system="Another.")
    add_exchange(store, text=text + " today", system="A third.")
    other = add_exchange(store, text="something else entirely that nobody has said before")
    card = build(store)
    assert ids(store, card) == [first, other]
    assert card.drops == {"duplicate": 1, "near_duplicate": 1}
    assert len(ids(store, build(store, near_duplicate=1.0))) == 3


def test_of_duplicates_the_corrected_one_is_kept(store: Store) -> None:
    add_exchange(store, text="the same text in both")
    mended = add_exchange(store, text="the same text in both")
    review(store, mended, "correct", "better")
    assert ids(store, build(store)) == [mended]


def test_train_keeps_clear_of_the_holdout(store: Store) -> None:
    text = "hello there, the invoice of last month names the wrong address, please send a new one to the office"
    add_exchange(store, text=text, holdout=True, conversation="c1")
    add_exchange(store, text=text, conversation="c2")
    add_exchange(store, text=text + " today", conversation="c3")
    add_exchange(store, text="another turn of the held out conversation", conversation="c1")
    free = add_exchange(store, text="what has nothing to do with any of these at all")
    card = build(store)
    assert ids(store, card) == [free]
    assert card.drops == {"holdout_conversation": 1, "near_holdout": 2}


def test_holdouts_of_earlier_datasets_stay_sealed(store: Store) -> None:
    held = add_exchange(store, text="a text that was once held out and is now not", holdout=True)
    add_exchange(store)
    first = build(store)
    assert ids(store, first, "holdout") == [held]
    with store.write() as connection:
        connection.execute(update(exchanges).where(exchanges.c.id == held).values(holdout=False))
    second = build(store)
    assert held not in ids(store, second)
    assert second.drops == {"holdout_conversation": 1}


def test_caps_and_balance(store: Store) -> None:
    for number in range(12):
        add_exchange(store, label="billing" if number < 8 else "login", user=f"u{number % 2}", key_id="k1")
    assert build(store, per_label=3).labels["train"] == {"billing": 3, "login": 3}
    assert build(store, balance=1.5).labels["train"] == {"billing": 6, "login": 4}
    card = build(store, per_user=2)
    assert (card.rows["train"], card.drops) == (4, {"user_cap": 8})
    assert build(store, per_key=5).rows["train"] == 5
    assert build(store, max_rows=7).rows["train"] == 7
    assert ids(store, build(store, max_rows=7)) == ids(store, build(store, max_rows=7))
    assert ids(store, build(store, max_rows=7)) != ids(store, build(store, max_rows=7, seed=1))


def test_a_large_holdout_may_be_thinned(store: Store) -> None:
    for number in range(20):
        add_exchange(store, holdout=number > 0)
    card = build(store, max_holdout=5)
    assert card.rows == {"train": 1, "holdout": 5}
    assert card.holdout_drops == {"max_holdout": 14}


def failed(store: Store, message: str, task: TaskSettings | None = None, **filters: Any) -> Card:
    dataset_id = datasets.queue_build(store, "triage", Filters(**filters), lambda: LATER)
    with pytest.raises((RefusedError, NotFoundError), match=message):
        datasets.build(store, dataset_id, {"triage": task} if task else {}, UPSTREAMS, lambda: LATER)
    card = datasets.load_card(store, dataset_id)
    assert card.state == "failed"
    assert stored(store, dataset_id) == []
    return card


def test_builds_that_cannot_be_say_why(store: Store) -> None:
    add_exchange(store)
    add_exchange(store, status=500)
    card = failed(
        store, r"no exchange passes the filters, of 2 .*metadata 1, unanswered 1", task_of(), metadata={"a": "b"}
    )
    assert card.error is not None
    assert card.error.startswith("triage@1:")
    few = task_of(dataset=DatasetSettings(minimum_rows=2))
    failed(store, r"only 1 training rows, 2 are needed, .*unanswered 1", few)
    failed(store, "minimum_score names 'nonsense'", task_of(), minimum_score={"nonsense": 1})
    failed(
        store,
        'needs a grader with against = "truth"',
        task_of(graders={"w": GraderSettings(type="empty")}),
        truth="agree",
    )
    failed(store, "no task 'triage'")
    closed = task_of().model_copy(update={"teacher": TeacherSettings(upstream="closed", model="m")})
    failed(store, "training_allowed = false", closed)


def test_rows_of_upstreams_whose_terms_forbid_it_are_left_out(store: Store) -> None:
    good = add_exchange(store)
    add_exchange(store, upstream="closed")
    add_exchange(store, upstream="no longer configured")
    card = build(store)
    assert ids(store, card) == [good]
    assert card.drops == {"terms": 2}


def test_a_store_that_is_away_fails_nothing_for_good(store: Store) -> None:
    add_exchange(store)
    dataset_id = datasets.queue_build(store, "triage", Filters(), lambda: LATER)

    def away(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO dataset_rows"):
            raise StoreAwayError("gone")

    event.listen(store.engine, "before_cursor_execute", away)
    with pytest.raises(StoreAwayError):
        datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: LATER)
    event.remove(store.engine, "before_cursor_execute", away)
    assert datasets.load_card(store, dataset_id).state == "building"
    assert datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: LATER).state == "ready"


def test_rows_of_an_unknown_dataset(store: Store) -> None:
    with pytest.raises(NotFoundError):
        datasets.rows(store, "ds_none", "train")
    with store.read() as connection:
        assert connection.execute(select(table)).all() == []
