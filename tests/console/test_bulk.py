"""Acts on a filter: the count is what was shown, what is more is refused, nothing is judged twice."""

import json
from pathlib import Path

import pytest

from capture import reviews
from capture.db import Store
from capture.errors import DiskError, NotFoundError, RefusedError
from capture.settings import Settings
from capture.traffic import TrafficFilter, count_exchanges
from console import bulk
from console.access import Actor, Desk, Role
from tests.factories.store import add_exchange, new_store

BILLING = TrafficFilter(label="billing")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


def desk(store: Store, folder: Path) -> Desk:
    return Desk(store, Settings(data=folder), Actor("mara", Role.OPERATOR))


def test_all_that_match_are_accepted_once(store: Store, tmp_path: Path) -> None:
    ids = [add_exchange(store) for _ in range(5)]
    add_exchange(store, label="bug")
    assert bulk.review_all(desk(store, tmp_path), BILLING, "accept", 5) == 5
    assert bulk.review_all(desk(store, tmp_path), BILLING, "accept", 5) == 0
    assert bulk.review_all(desk(store, tmp_path), BILLING, "reject", 5) == 5
    with store.read() as connection:
        assert {one.verdict for one in reviews.latest(connection, ids).values()} == {"reject"}
    assert count_exchanges(store, TrafficFilter(review="reject")) == 5
    assert count_exchanges(store, TrafficFilter(review="none")) == 1


def test_more_than_was_shown_is_refused_and_nothing_is_done(store: Store, tmp_path: Path) -> None:
    for _ in range(3):
        add_exchange(store)
    with pytest.raises(RefusedError, match="3 exchanges match by now, 2 were shown"):
        bulk.review_all(desk(store, tmp_path), BILLING, "accept", 2)
    with pytest.raises(RefusedError, match="3 exchanges match by now"):
        bulk.erase_all(desk(store, tmp_path), BILLING, 2)
    assert count_exchanges(store, TrafficFilter(review="none")) == 3


def test_erasing_needs_a_filter_and_something_in_it(store: Store, tmp_path: Path) -> None:
    add_exchange(store)
    with pytest.raises(RefusedError, match="narrow it first"):
        bulk.erase_all(desk(store, tmp_path), TrafficFilter(), 1)
    with pytest.raises(NotFoundError):
        bulk.erase_all(desk(store, tmp_path), TrafficFilter(label="bug"), 1)
    assert bulk.erase_all(desk(store, tmp_path), BILLING, 1).erased == 1
    assert count_exchanges(store, TrafficFilter()) == 0


def test_an_export_is_json_whatever_was_captured(store: Store, tmp_path: Path) -> None:
    """A formula stays a string of JSON: no file of ours is opened by a spreadsheet as cells."""
    formula = '=HYPERLINK("http://127.0.0.1:9","x")\r\n+1'
    add_exchange(store, text=formula, answer=formula)
    file = tmp_path / "all.jsonl"
    assert bulk.export_all(desk(store, tmp_path), BILLING, file) == 1
    (line,) = file.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["request"]["messages"][1]["content"] == formula
    with pytest.raises(DiskError, match="exists"):
        bulk.export_all(desk(store, tmp_path), BILLING, file)
