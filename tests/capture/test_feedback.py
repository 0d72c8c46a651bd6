"""Feedback: kept once, validated, owned, found by the exchange whichever comes first."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from capture import feedback, reviews
from capture.db import Store
from capture.errors import RefusedError
from capture.feedback import Feedback
from capture.tables import exchanges
from tests.factories.clock import Ticking
from tests.factories.store import add_exchange, new_store


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = new_store(tmp_path)
    yield store
    store.close()


CLOCK = Ticking(1000.0)


def tell(store: Store, identity: str, kind: Any, value: Any, key_id: str | None = None, **more: Any) -> str:
    return feedback.record(store, Feedback(id=identity, kind=kind, value=value, **more), key_id, CLOCK, unredacted)


def unredacted(exchange_id: str, value: Any) -> Any:
    return value


def truths(store: Store, *ids: str) -> dict[str, Any]:
    with store.read() as connection:
        return feedback.truths(connection, ids)


def wanted(store: Store, identity: str) -> int:
    with store.read() as connection:
        return connection.scalar(select(exchanges.c.score_wanted).where(exchanges.c.id == identity)) or 0


def rows(store: Store) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(feedback.feedback)) or 0


def test_by_our_id_or_the_completions(store: Store) -> None:
    first, second = add_exchange(store), add_exchange(store, completion_id="chatcmpl-x")
    tell(store, first, "truth", {"category": "billing"})
    tell(store, "chatcmpl-x", "truth", "login")
    assert truths(store, first, second, "none") == {first: {"category": "billing"}, second: "login"}


def test_the_same_twice_is_kept_once(store: Store) -> None:
    exchange = add_exchange(store)
    assert tell(store, exchange, "truth", {"a": 1, "b": 2}) == tell(store, exchange, "truth", {"b": 2, "a": 1})
    assert tell(store, exchange, "truth", "x", idempotency_key="k") == tell(
        store, exchange, "truth", "y", idempotency_key="k"
    )
    assert rows(store) == 2


def test_one_keys_idempotency_key_is_not_anothers(store: Store) -> None:
    mine, yours = add_exchange(store, key_id="k1"), add_exchange(store, key_id="k2")
    tell(store, mine, "truth", "x", "k1", idempotency_key="1")
    tell(store, yours, "truth", "y", "k2", idempotency_key="1")
    assert truths(store, mine, yours) == {mine: "x", yours: "y"}


def test_a_key_rates_its_own_exchanges_alone(store: Store) -> None:
    mine = add_exchange(store, key_id="k1")
    open_one = add_exchange(store, key_id=None)
    for foreign in (mine, open_one):
        with pytest.raises(RefusedError, match="another key"):
            tell(store, foreign, "truth", "x", "k2")
    assert rows(store) == 0


def test_a_guess_before_the_exchange_came_counts_for_nothing(store: Store) -> None:
    tell(store, "f" * 32, "truth", "poison", "k2")
    tell(store, "chatcmpl-guess", "truth", "poison", "k2")
    first = add_exchange(store, id="f" * 32, key_id="k1")
    second = add_exchange(store, completion_id="chatcmpl-guess", key_id="k1")
    with store.write() as connection:
        feedback.link(connection, [first, second])
    assert truths(store, first, second) == {}


def test_feedback_may_come_before_its_exchange(store: Store) -> None:
    tell(store, "e" * 32, "truth", "x")
    tell(store, "chatcmpl-early", "truth", "y")
    assert feedback.settle(store) == 2
    first, second = add_exchange(store, id="e" * 32), add_exchange(store, completion_id="chatcmpl-early")
    with store.write() as connection:
        feedback.link(connection, [first, second])
    assert truths(store, first, second) == {first: "x", second: "y"}


def test_settling_asks_for_scoring_once(store: Store) -> None:
    exchange = add_exchange(store, score_wanted=0)
    tell(store, exchange, "truth", "x")
    assert feedback.settle(store) == 1
    assert wanted(store, exchange) == 1
    assert feedback.settle(store) == 0
    assert wanted(store, exchange) == 1


def test_the_newest_truth_counts_and_named_ones_are_its_fields(store: Store) -> None:
    exchange = add_exchange(store)
    tell(store, exchange, "truth", {"category": "login", "priority": 1})
    tell(store, exchange, "truth", 2, name="priority")
    assert truths(store, exchange) == {exchange: {"category": "login", "priority": 2}}
    tell(store, exchange, "truth", {"category": "other"})
    assert truths(store, exchange) == {exchange: {"category": "other"}}


def test_a_review_goes_before_an_outcome(store: Store) -> None:
    exchange = add_exchange(store, answer="teacher's")
    tell(store, exchange, "truth", "outcome")
    reviews.review(store, exchange, "accept", None, "ann", CLOCK)
    assert truths(store, exchange) == {exchange: {"role": "assistant", "content": "teacher's"}}
    reviews.review(store, exchange, "correct", "better", "ann", CLOCK)
    assert truths(store, exchange) == {exchange: "better"}
    reviews.review(store, exchange, "reject", None, "ann", CLOCK)
    assert truths(store, exchange) == {exchange: "outcome"}


def test_scores_and_corrections_are_no_truth(store: Store) -> None:
    exchange = add_exchange(store)
    tell(store, exchange, "score", 1, name="solved")
    tell(store, exchange, "score", 0.25, name="solved")
    tell(store, exchange, "correction", {"category": "x"})
    assert truths(store, exchange) == {}
    with store.read() as connection:
        assert feedback.outcomes(connection, [exchange]) == {exchange: {"solved": 0.25}}
        assert feedback.corrections(connection, [exchange]) == {exchange: {"category": "x"}}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("score", 1.01),
        ("score", -0.1),
        ("score", True),
        ("score", "1"),
        ("score", float("nan")),
        ("comment", 3),
        ("correction", ""),
        ("correction", ["x"]),
        ("truth", None),
        ("truth", "nul \x00"),
        ("truth", {"a \x00": 1}),
        ("truth", "a backslash and a nul \\\x00"),
        ("comment", "x" * 300_000),
    ],
)
def test_values_that_do_not_suit_the_kind_are_refused(store: Store, kind: Any, value: Any) -> None:
    with pytest.raises(RefusedError):
        tell(store, add_exchange(store), kind, value)
    assert rows(store) == 0


def test_a_nul_that_is_only_written_of_is_kept(store: Store) -> None:
    exchange, code = add_exchange(store), r"text.replace('\u0000', '') or \\u0000"
    tell(store, exchange, "correction", code)
    with store.read() as connection:
        assert feedback.corrections(connection, [exchange]) == {exchange: code}


def test_what_is_kept_is_redacted_as_its_exchange_is(store: Store) -> None:
    exchange = add_exchange(store, completion_id="chatcmpl-r")
    given = Feedback(id="chatcmpl-r", kind="truth", value={"mail": "a@b.c"})
    feedback.record(store, given, None, CLOCK, lambda identity, value: dict.fromkeys(value, f"redacted for {identity}"))
    assert truths(store, exchange) == {exchange: {"mail": f"redacted for {exchange}"}}
