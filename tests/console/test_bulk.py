"""Acts on a filter: the count is what was shown, what is more is refused, nothing is judged twice."""

import json
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from capture import reviews
from capture.db import Store
from capture.errors import DiskError, NotFoundError, RefusedError
from capture.settings import Settings
from capture.tables import audit
from capture.traffic import TrafficFilter, count_exchanges, end_of, ids_of
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
    assert bulk.review_all(desk(store, tmp_path), BILLING, "accept", 5).reviewed == 5
    assert bulk.review_all(desk(store, tmp_path), BILLING, "accept", 5).reviewed == 0
    assert bulk.review_all(desk(store, tmp_path), BILLING, "reject", 5).reviewed == 5
    with store.read() as connection:
        assert {one.verdict for one in reviews.latest(connection, ids).values()} == {"reject"}
    assert count_exchanges(store, TrafficFilter(review="reject")) == 5
    assert count_exchanges(store, TrafficFilter(review="none")) == 1


def test_what_somebody_corrected_or_what_failed_is_not_accepted_with_the_rest(store: Store, tmp_path: Path) -> None:
    good, corrected = add_exchange(store), add_exchange(store)
    failed, cut = add_exchange(store, status=502), add_exchange(store, complete=False)
    reviews.review(store, corrected, "correct", "better", "ann", lambda: 1.0)
    done = bulk.review_all(desk(store, tmp_path), BILLING, "accept", 4)
    assert done == reviews.Many(reviewed=1, corrected=1, failed=2)
    assert done.sentence == "1 exchanges; 1 with a correction and 2 that failed skipped"
    again = bulk.review_all(desk(store, tmp_path), BILLING, "reject", 4)
    assert again.sentence == "3 exchanges; 1 with a correction skipped"
    with store.read() as connection:
        said = {one: found.verdict for one, found in reviews.latest(connection, [good, corrected, failed, cut]).items()}
    assert said == {good: "reject", corrected: "correct", failed: "reject", cut: "reject"}


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


def exchange_of(store: Store, ms: int) -> str:
    return add_exchange(store, id=f"{ms:012x}{'0' * 20}")


def last_line(store: Store) -> tuple[str, dict[str, object]]:
    with store.read() as connection:
        row = connection.execute(select(audit).order_by(audit.c.id.desc()).limit(1)).one()
    return row.subject, row.detail


def test_what_comes_after_the_count_is_left_alone(store: Store, tmp_path: Path) -> None:
    for ms in (5, 6, 7):
        exchange_of(store, ms)
    at = end_of(store, BILLING)
    total = count_exchanges(store, bulk.until(BILLING, at))
    late = exchange_of(store, 8)
    assert bulk.review_all(desk(store, tmp_path), BILLING, "accept", total, at).reviewed == total == 3
    assert bulk.erase_all(desk(store, tmp_path), BILLING, total, at).erased == 3
    assert ids_of(store, TrafficFilter()) == [late]
    assert ids_of(store, TrafficFilter(review="none")) == [late]


def test_an_end_of_the_filter_itself_stays() -> None:
    early = TrafficFilter(until=3.0)
    assert bulk.until(early, 9.0) == bulk.until(TrafficFilter(until=9.0), 3.0) == bulk.until(early, None) == early


def _acted(act: str, at: Desk) -> None:
    if act == "review":
        bulk.review_all(at, BILLING, "accept", 5)
    else:
        bulk.erase_all(at, BILLING, 5)


@pytest.mark.parametrize("act", ["review", "erase"])
def test_an_act_that_breaks_off_leaves_what_was_done_in_the_audit(
    act: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    first, *_ = [exchange_of(store, ms) for ms in range(1, 6)]  # acted on last: the newest come first
    event, at = ("INSERT ON reviews", "NEW.exchange_id") if act == "review" else ("DELETE ON exchanges", "OLD.id")
    stop = f"CREATE TRIGGER stop BEFORE {event} WHEN {at} = '{first}' BEGIN SELECT RAISE(ABORT, 'no room'); END"
    with store.write() as connection:
        connection.execute(text(stop))
    with pytest.raises(IntegrityError):
        _acted(act, desk(store, tmp_path))
    subject, detail = last_line(store)
    assert detail["matched"] == 5
    assert (detail.get("reviewed"), subject) == ((4, "accept") if act == "review" else (None, "4"))
