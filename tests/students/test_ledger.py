"""The ledger's arithmetic on made traffic."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from capture.db import Store, metadata, open_store
from capture.ids import new_id
from capture.removal import EXPIRED
from capture.tables import counters, exchanges
from students.ledger import DAY_S, account, accounts, total
from students.tables import fine_tunes, spend

SINCE = 1_800_000_000.0
NOW = SINCE + 10 * DAY_S


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'stillhouse.db'}")
    metadata.create_all(store.engine)
    yield store
    store.close()


def put(
    store: Store,
    arm: str,
    count: int,
    cost_usd: float | None,
    duration_ms: float,
    task: str = "triage",
    probability: float = 1.0,
    since: float = SINCE,
    stored: bool = False,
) -> None:
    """Answers spread evenly from `since`, the first of the ten days, to their end."""
    rows = [
        {
            "id": new_id(),
            "started_at": since + (NOW - since) * (number + 0.5) / count,
            "route": "chat.completions",
            "task": task,
            "arm": arm,
            "upstream": "u",
            "model": "m",
            "served_model": "m",
            "status": 200,
            "stream": False,
            "stored": stored,
            "complete": True,
            "duration_ms": duration_ms,
            "tokens_estimated": False,
            "cost_usd": cost_usd,
            "metadata": {},
            "probability": probability,
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


def pay(store: Store, purpose: str, cost_usd: float | None, at: float = SINCE + 1, task: str = "triage") -> None:
    row = {"id": new_id(), "at": at, "task": task, "purpose": purpose, "upstream": "u", "model": "m"}
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
    assert found.unpriced_models == ("m",)
    assert found.would_have_cost_usd == pytest.approx(4.0)


def test_an_unpriced_call_leaves_the_saving_unknown(store: Store) -> None:
    put(store, "teacher", 100, 0.01, 900.0)
    pay(store, "pairing", None)
    found = account(store, "triage", SINCE, NOW)
    assert (found.unpriced_calls, found.saved_usd) == (1, None)


def test_without_traffic_nothing_is_known(store: Store) -> None:
    found = account(store, "triage", SINCE, NOW)
    assert (found.arms, found.would_have_cost_usd, found.saved_usd, found.latency_gained_ms) == ({}, None, None, None)


def test_what_goes_on_costs_also_what_is_saved_of_late(store: Store) -> None:
    put(store, "teacher", 100, 0.01, 900.0)
    put(store, "student", 100, 0.0, 200.0)  # 0.1 USD a day
    pay(store, "training", 3.0)
    pay(store, "pairing", 0.35, at=NOW - DAY_S)  # 0.05 USD a day over the last seven
    found = account(store, "triage", SINCE, NOW)
    assert found.saved_usd == pytest.approx(1.0 - 3.35)
    assert found.saved_a_day_usd == pytest.approx(0.05)
    assert found.break_even_at == pytest.approx(NOW + 47 * DAY_S)


def test_it_never_breaks_even_while_nothing_is_saved(store: Store) -> None:
    put(store, "teacher", 100, 0.01, 900.0)
    pay(store, "training", 3.0)
    found = account(store, "triage", SINCE, NOW)
    assert found.saved_usd == pytest.approx(-3.0)
    assert found.break_even_at is None


def test_what_was_spent_beside_exchanges_that_expired_is_not_counted(store: Store) -> None:
    """Else the saving would fall from day to day, as its exchanges go and their background calls stay."""
    put(store, "teacher", 10, 0.01, 900.0, since=NOW - 2 * DAY_S)
    put(store, "student", 10, 0.0, 200.0, since=NOW - 2 * DAY_S)
    put(store, "teacher", 1, 0.01, 900.0, since=SINCE - 8 * DAY_S, stored=True)  # its client asked to keep it
    pay(store, "pairing", 5.0)
    pay(store, "pairing", 0.02, at=NOW - DAY_S)
    assert account(store, "triage", SINCE, NOW).saved_usd == pytest.approx(0.1 - 5.02)
    with store.write() as connection:
        connection.execute(insert(counters).values(task="triage", name=EXPIRED, value=80))
    found = account(store, "triage", SINCE, NOW)
    assert found.saved_usd == pytest.approx(0.1 - 0.02)
    assert found.since == pytest.approx(NOW - 1.9 * DAY_S)
    assert account(store, "triage", NOW - DAY_S, NOW).since == NOW - DAY_S


def test_savings_of_late_are_those_of_the_days_with_traffic(store: Store) -> None:
    """One whose traffic began yesterday saves in a day what it saved since, not a seventh of it."""
    put(store, "teacher", 1_000, 0.01, 900.0, since=NOW - DAY_S)
    put(store, "student", 1_000, 0.0, 200.0, since=NOW - DAY_S)
    pay(store, "training", 30.0)
    found = account(store, "triage", SINCE, NOW)
    assert found.saved_a_day_usd == pytest.approx(10.0, rel=0.001)
    assert found.break_even_at == pytest.approx(NOW + 2 * DAY_S, rel=0.001)


def test_what_was_sampled_out_is_counted_in(store: Store) -> None:
    put(store, "teacher", 50, 0.01, 900.0, probability=0.1)
    put(store, "student", 20, None, 200.0, probability=0.5)
    found = account(store, "triage", SINCE, NOW)
    assert (found.arms["teacher"].requests, found.arms["student"].unpriced) == (500, 40)
    assert found.arms["teacher"].cost_usd == pytest.approx(5.0)
    assert found.would_have_cost_usd == pytest.approx(5.4)


@pytest.mark.parametrize(
    ("trainer", "cost_usd", "background", "unpriced"),
    [("openai", 2.5, {"training": 2.5}, 0), ("openai", None, {}, 1), ("local", None, {}, 0)],
)
def test_a_hosted_fine_tune_of_unknown_price_is_unknown_and_a_local_one_is_free(
    store: Store, trainer: str, cost_usd: float | None, background: dict[str, float], unpriced: int
) -> None:
    row = {
        "id": "ftjob-1",
        "task": "triage",
        "base": "small",
        "trainer": trainer,
        "settings": {},
        "state": "succeeded",
        "cancel_asked": False,
        "progress": {},
        "cost_usd": cost_usd,
        "created_at": SINCE + 1,
    }
    with store.write() as connection:
        connection.execute(insert(fine_tunes).values(row))
    put(store, "teacher", 10, 0.01, 900.0)
    found = account(store, "triage", SINCE, NOW)
    assert (found.background, found.unpriced_calls) == (background, unpriced)
    assert (found.saved_usd is None) == bool(unpriced)


def test_the_total_adds_up_and_one_unknown_makes_it_unknown(store: Store) -> None:
    put(store, "teacher", 100, 0.01, 900.0)
    put(store, "student", 300, 0.0, 200.0)
    put(store, "teacher", 100, 0.02, 500.0, task="extract")
    put(store, "student", 100, 0.0, 400.0, task="extract")
    pay(store, "judge", 1.0, task="extract")
    both = accounts(store, ["triage", "extract", "idle"], SINCE, NOW)
    found = total(both, NOW)
    assert found.arms["student"].requests == 400
    assert found.arms["teacher"].mean_ms == pytest.approx(700.0)
    assert found.would_have_cost_usd == pytest.approx(4.0 + 4.0)
    assert found.saved_usd == pytest.approx(3.0 + 1.0)
    assert found.background == {"judge": 1.0}
    assert found.latency_gained_ms == pytest.approx((300 * 700 + 100 * 100) / 400)
    assert found.break_even_at == NOW
    pay(store, "pairing", None)
    unknown = total(accounts(store, ["triage", "extract"], SINCE, NOW), NOW)
    assert (unknown.saved_usd, unknown.unpriced_calls) == (None, 1)
    assert unknown.would_have_cost_usd == pytest.approx(8.0)


def test_the_total_of_nothing_is_unknown() -> None:
    assert total([], NOW).saved_usd is None
