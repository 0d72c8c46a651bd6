"""The same on PostgreSQL: feedback, reviews, scoring, builds, erasure; and the same bytes as on SQLite."""

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from capture import datasets, feedback, lineage, reviews, scoring
from capture.datasets import Card, Filters, writing
from capture.datasets.lines import Lines
from capture.db import Store
from capture.feedback import Feedback
from capture.tables import dataset_rows, scores
from tests.factories.datasets import LATER, UPSTREAMS, task_of
from tests.factories.store import add_exchange, new_store


@pytest.fixture
def store(postgres_store: Store) -> Store:
    return postgres_store


def fill(store: Store) -> list[str]:
    """Exchanges of both sides with truths, reviews, a correction and a duplicate; the same whatever the store."""
    made = [f"{number:032d}" for number in range(12)]
    for number, identity in enumerate(made):
        text = f"ticket {min(number, 10)} about something"
        add_exchange(store, id=identity, text=text, holdout=number in (3, 4), started_at=float(number), session=None)
        if number < 6:
            tell(store, identity, "truth", {"category": "billing" if number else "login"})
    tell(store, made[6], "correction", "mended by the app")
    tell(store, made[7], "score", 0.5)
    reviews.review(store, made[8], "correct", "mended by ann", "ann", lambda: 1.0)
    reviews.review(store, made[9], "reject", None, "ann", lambda: 1.0)
    return made


def tell(store: Store, identity: str, kind: Any, value: Any) -> str:
    return feedback.record(
        store, Feedback(id=identity, kind=kind, value=value), None, lambda: 1.0, lambda _, kept: kept
    )


def build(store: Store) -> Card:
    dataset_id = datasets.queue_build(store, "triage", Filters(), lambda: LATER)
    return datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: LATER)


def test_the_loop_on_postgresql_gives_the_bytes_of_sqlite(store: Store, tmp_path: Path) -> None:
    small = new_store(tmp_path)
    made = fill(small)
    fill(store)
    for one in (small, store):
        while scoring.score_new(one, {"triage": task_of()}, lambda: 2.0, limit=5):
            pass
    assert values(store) == values(small)
    assert values(store)[made[0]] == 0
    cards = [build(small), build(store)]
    assert cards[0].hash == cards[1].hash
    assert cards[1].rows == {"train": 8, "holdout": 2}
    assert cards[1].drops == {"duplicate": 1, "rejected": 1}
    assert list(datasets.rows(store, cards[1].id)) == list(datasets.rows(small, cards[0].id))
    small.close()


def values(store: Store) -> dict[str, float]:
    with store.read() as connection:
        return {row.exchange_id: row.value for row in connection.execute(select(scores))}


def test_idempotency_queues_and_erasure_on_postgresql(store: Store) -> None:
    made = fill(store)
    assert tell(store, made[0], "truth", {"category": "login"}) == tell(store, made[0], "truth", {"category": "login"})
    assert reviews.queue(store, "triage", "oldest", limit=2) == made[:2]
    scoring.score_new(store, {"triage": task_of()}, lambda: 2.0)
    assert reviews.queue(store, "triage", "disagreeing")[0] == made[0]
    assert reviews.queue(store, "triage", "uncertain")
    first = build(store)
    report = lineage.erase(store, [made[0], made[3]], None, "ann", lambda: 3.0)
    assert (report.erased, report.rows, report.datasets) == (2, 2, (first.id,))
    assert datasets.load_card(store, first.id).erased == 2
    found = datasets.diff(store, first.id, build(store).id)
    assert found.removed.exchanges == [made[0], made[3]]


def test_an_erasure_waits_for_rows_that_are_being_written(store: Store) -> None:
    (erased,) = fill(store)[:1]
    first = build(store)
    queued = datasets.queue_build(store, "triage", Filters(), lambda: LATER)
    writing.begin(store, queued)
    found = next(row for row in datasets.rows(store, first.id) if row.exchange_id == erased)
    eraser = threading.Thread(target=lineage.erase, args=(store, [erased], None, "ann", lambda: 3.0))
    with store.write() as connection:
        writing.insert_rows(connection, [Lines(queued).line("train", found, None)])
        eraser.start()
        while not waits(store):
            assert eraser.is_alive()
    eraser.join()
    with store.read() as connection:
        mine = dataset_rows.c.exchange_id == erased
        assert [row for (row,) in connection.execute(select(dataset_rows.c.row).where(mine))] == [b"", b""]


def waits(store: Store) -> bool:
    with store.read() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))
