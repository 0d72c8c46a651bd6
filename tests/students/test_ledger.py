"""The ledger's arithmetic on made traffic."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from capture.db import Store, metadata, open_store
from capture.ids import new_id
from capture.tables import exchanges
from students.ledger import DAY_S, account
from students.tables import spend

SINCE = 1_800_000_000.0
NOW = SINCE + 10 * DAY_S


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'stillhouse.db'}")
    metadata.create_all(store.engine)
    yield store
    store.close()


def put(store: Store, arm: str, count: int, cost_usd: float | None, duration_ms: float) -> None:
    rows = [
        {
            "id": new_id(),
            "started_at": SINCE + number,
            "route": "chat.completions",
            "task": "triage",
            "arm": arm,
            "upstream": "u",
            "model": "m",
            "served_model": "m",
            "status": 200,
            "stream": False,
            "stored": False,
            "complete": True,
            "duration_ms": duration_ms,
            "tokens_estimated": False,
            "cost_usd": cost_usd,
            "metadata": {},
            "probability": 1.0,
            "holdout": False,
            "conversation": "c",
            "content_hash": "h",
            "redactions": 0,
            "preview": "",
        }
        for number in range(count)
    ]
    with store.write() as connection:
        connection.execute(insert(exchanges), rows)


def pay(store: Store, purpose: str, cost_usd: float | None) -> None:
    row = {"id": new_id(), "at": SINCE + 1, "task": "triage", "purpose": purpose, "upstream": "u", "model": "m"}
    with store.write() as connection:
        connection.execute(insert(spend).values(**row, input_tokens=1, output_tokens=1, cost_usd=cost_usd))


def test_saved_is_what_it_would_have_cost_less_all_that_was_spent(store: Store) -> None:
    put(store, "teacher", 100, 0.01, 900.0)
    put(store, "student", 300, 0.001, 200.0)
    pay(store, "pairing", 0.5)
    found = account(store, "triage", SINCE, NOW)
    assert found.would_have_cost_usd == pytest.approx(4.0)
    assert found.saved_usd == pytest.approx(4.0 - 1.0 - 0.3 - 0.5)
    assert found.break_even_at == NOW
    assert found.latency_gained_ms == pytest.approx(700.0)
    assert found.background == {"pairing": 0.5}


def test_break_even_lies_ahead_at_the_savings_of_late(store: Store) -> None:
    put(store, "teacher", 100, 0.01, 900.0)
    put(store, "student", 100, 0.0, 200.0)  # 1 USD saved in 10 days
    pay(store, "training", 3.0)
    found = account(store, "triage", SINCE, NOW)
    assert found.saved_usd == pytest.approx(-2.0)
    assert found.break_even_at == pytest.approx(NOW + 20 * DAY_S)


def test_unknown_prices_stay_unknown(store: Store) -> None:
    put(store, "teacher", 100, 0.01, 900.0)
    put(store, "student", 300, None, 200.0)
    found = account(store, "triage", SINCE, NOW)
    assert (found.saved_usd, found.break_even_at) == (None, None)
    assert found.arms["student"].unpriced == 300
    assert found.would_have_cost_usd == pytest.approx(4.0)


def test_an_unpriced_call_leaves_the_saving_unknown(store: Store) -> None:
    put(store, "teacher", 100, 0.01, 900.0)
    pay(store, "pairing", None)
    found = account(store, "triage", SINCE, NOW)
    assert (found.unpriced_calls, found.saved_usd) == (1, None)


def test_without_traffic_nothing_is_known(store: Store) -> None:
    found = account(store, "triage", SINCE, NOW)
    assert (found.arms, found.would_have_cost_usd, found.saved_usd, found.latency_gained_ms) == ({}, None, None, None)
