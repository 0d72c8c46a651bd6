"""Reviews: the newest counts, wrong ones are refused, queues put the right exchange first."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from capture import reviews
from capture.db import Store
from capture.errors import NotFoundError, RefusedError
from capture.tables import exchanges, scores
from tests.factories.store import add_exchange, new_store


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = new_store(tmp_path)
    yield store
    store.close()


def judge(store: Store, identity: str, verdict: Any, output: str | None = None, at: float = 1.0) -> str:
    return reviews.review(store, identity, verdict, output, "ann", lambda: at)


def give_score(store: Store, identity: str, value: float) -> None:
    row = {"exchange_id": identity, "grader": "g", "version": "1", "input_hash": "", "value": value, "scored_at": 0.0}
    with store.write() as connection:
        connection.execute(insert(scores), row)


def test_the_newest_review_counts_and_asks_for_scoring(store: Store) -> None:
    exchange = add_exchange(store, score_wanted=0)
    judge(store, exchange, "accept", at=1)
    judge(store, exchange, "correct", "better", at=2)
    with store.read() as connection:
        assert reviews.latest(connection, [exchange, "none"])[exchange].output == "better"
        assert connection.scalar(select(exchanges.c.score_wanted)) == 2


def test_wrong_reviews_are_refused(store: Store) -> None:
    exchange = add_exchange(store)
    for verdict, output in [("correct", None), ("correct", "  "), ("accept", "x"), ("reject", "x"), ("maybe", None)]:
        with pytest.raises(RefusedError):
            judge(store, exchange, verdict, output)
    with pytest.raises(NotFoundError):
        judge(store, "nowhere", "accept")
    with store.read() as connection:
        assert reviews.latest(connection, [exchange]) == {}


def test_a_corrected_output_is_a_message() -> None:
    call = '{"role": "assistant", "content": null, "tool_calls": []}'
    assert reviews.corrected(call) == {"role": "assistant", "content": None, "tool_calls": []}
    assert reviews.corrected('{"a": 1}') == {"role": "assistant", "content": '{"a": 1}'}
    assert reviews.corrected({"a": 1}) == {"role": "assistant", "content": '{"a": 1}'}
    assert reviews.corrected("plain") == {"role": "assistant", "content": "plain"}


def test_queues(store: Store) -> None:
    low, middle, high = (add_exchange(store) for _ in range(3))
    for identity, value in ((low, 0.1), (middle, 0.55), (high, 1.0)):
        give_score(store, identity, value)
    add_exchange(store, status=500)
    add_exchange(store, complete=False)
    add_exchange(store, task="other")
    judge(store, add_exchange(store), "accept")
    assert reviews.queue(store, "triage", "oldest") == [low, middle, high]
    assert reviews.queue(store, "triage", "oldest", limit=1) == [low]
    assert reviews.queue(store, "triage", "disagreeing") == [low, middle, high]
    assert reviews.queue(store, "triage", "uncertain") == [middle, low, high]
    assert sorted(reviews.queue(store, "triage", "sampled")) == sorted([low, middle, high])
    with pytest.raises(RefusedError, match="order"):
        reviews.queue(store, "triage", "newest")  # type: ignore[arg-type]
