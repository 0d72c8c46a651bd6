"""Erasure: nothing of an exchange is left but its tombstone, and every dataset it touched is named and marked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from capture import datasets, feedback, lineage, reviews, scoring
from capture.datasets import Filters, Row
from capture.datasets.card import Split
from capture.datasets.derive import derive
from capture.db import Store, metadata
from capture.errors import NotFoundError, RefusedError
from capture.feedback import Feedback
from capture.tables import counters, tombstones
from tests.factories.datasets import LATER, UPSTREAMS, task_of
from tests.factories.store import add_exchange, new_store

MARK = "a sentence that only the erased one said"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    with store.write() as connection:
        connection.execute(insert(counters).values(task="triage", name="stored", value=3))
    yield store
    store.close()


def build(store: Store) -> str:
    dataset_id = datasets.queue_build(store, "triage", Filters(), lambda: LATER)
    datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: LATER)
    return dataset_id


def erase(store: Store, *ids: str, user: str | None = None, **more: Any) -> lineage.ErasureReport:
    return lineage.erase(store, ids, user, "ann", lambda: 9.0, **more)


def tell(store: Store, identity: str, value: Any) -> None:
    feedback.record(store, Feedback(id=identity, kind="truth", value=value), None, lambda: 1.0, lambda _, kept: kept)


def everything(store: Store) -> str:
    """All that every table says, bodies as they are in dataset rows."""
    with store.read() as connection:
        found = [str(connection.execute(select(table)).all()) for table in metadata.sorted_tables]
    return "\n".join(found)


def test_an_erased_exchange_is_gone_from_everywhere(store: Store) -> None:
    kept, erased = add_exchange(store), add_exchange(store, text=MARK)
    tell(store, erased, MARK)
    reviews.review(store, erased, "correct", MARK, "ann", lambda: 1.0)
    scoring.score_new(store, {"triage": task_of()}, lambda: 2.0)
    first, second = build(store), build(store)
    assert MARK in everything(store)
    report = erase(store, erased)
    assert report == lineage.ErasureReport(erased=1, datasets=(first, second), rows=2)
    assert MARK not in everything(store)
    assert [row.exchange_id for row in datasets.rows(store, first)] == [kept]
    card = datasets.load_card(store, first)
    assert (card.erased, [row.exchange_id for row in card.samples]) == (1, [kept])
    assert [one.name for one in lineage.touched(store, erased)] == ["triage@1", "triage@2"]


def test_it_leaves_a_tombstone_and_moves_the_count(store: Store) -> None:
    erased = add_exchange(store)
    erase(store, erased)
    with store.read() as connection:
        assert connection.execute(select(tombstones)).one() == (erased, "triage", "ann", 9.0)
        found = {row.name: row.value for row in connection.execute(select(counters))}
    assert found.pop("body_bytes") < 0
    assert found == {"stored": 2, "erased": 1}
    with pytest.raises(RefusedError, match="was erased"):
        tell(store, erased, "x")


def test_all_of_a_users(store: Store) -> None:
    mine = [add_exchange(store, user="u1") for _ in range(3)]
    other = add_exchange(store, user="u2")
    dataset_id = build(store)
    assert erase(store, user="u1").erased == 3
    assert [row.exchange_id for row in datasets.rows(store, dataset_id)] == [other]
    assert all(lineage.touched(store, identity) for identity in mine)


def test_feedback_that_named_the_completion_goes_too(store: Store) -> None:
    tell(store, "chatcmpl-early", MARK)
    erased = add_exchange(store, completion_id="chatcmpl-early")
    erase(store, erased)
    assert MARK not in everything(store)


def test_other_rooms_take_part_in_the_transaction(store: Store) -> None:
    erased = add_exchange(store)
    seen: list[list[str]] = []

    def purge(connection: Any, ids: Any) -> None:
        seen.append(list(ids))
        raise RuntimeError("cannot")

    with pytest.raises(RuntimeError):
        erase(store, erased, purge=[purge])
    assert seen == [[erased]]
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(tombstones)) == 0


def test_nothing_to_erase(store: Store) -> None:
    with pytest.raises(RefusedError):
        erase(store)
    with pytest.raises(NotFoundError):
        erase(store, "nowhere")
    with pytest.raises(NotFoundError, match="nobody"):
        erase(store, user="nobody")


def test_a_holdout_that_was_erased_is_built_again_without_it(store: Store) -> None:
    add_exchange(store)
    held = add_exchange(store, holdout=True)
    build(store)
    erase(store, held)
    again = build(store)
    assert list(datasets.rows(store, again, "holdout")) == []


def test_what_is_erased_while_a_dataset_is_built_is_not_in_it(store: Store) -> None:
    kept, erased = add_exchange(store), add_exchange(store, text=MARK)
    dataset_id = datasets.queue_build(store, "triage", Filters(), lambda: LATER)

    def meanwhile() -> float:
        erase(store, erased)
        return LATER

    card = datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, meanwhile)
    assert MARK not in everything(store)
    assert (card.state, card.erased, [row.exchange_id for row in card.samples]) == ("ready", 1, [kept])
    assert [row.exchange_id for row in datasets.rows(store, dataset_id)] == [kept]


def test_what_is_erased_while_a_dataset_is_derived_is_not_in_it(store: Store) -> None:
    kept, erased = add_exchange(store), add_exchange(store, text=MARK)
    source = build(store)
    found = list(datasets.rows(store, source))
    derived = datasets.queue_build(store, "triage", Filters(), lambda: LATER)

    def rows() -> Iterator[tuple[Split, Row]]:
        yield "train", found[0]
        erase(store, erased)
        yield "train", found[1]

    derive(store, derived, source, rows(), lambda: LATER)
    card = datasets.load_card(store, derived)
    assert MARK not in everything(store)
    assert (card.state, card.erased, [row.exchange_id for row in card.samples]) == ("ready", 1, [kept])
    assert [row.exchange_id for row in datasets.rows(store, derived)] == [kept]
