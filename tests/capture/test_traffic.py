"""Named queries: keyset pages that neither skip nor repeat, filters, one exchange whole, volumes."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from capture import traffic
from capture.db import Store
from capture.errors import NotFoundError
from capture.tables import feedback, reviews, scores
from capture.traffic import (
    TrafficFilter,
    Volume,
    count_exchanges,
    ids_of,
    list_exchanges,
    load_exchange,
    resolve_id,
    volumes,
)
from tests.factories.store import add_exchange, new_store


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = new_store(tmp_path)
    yield store
    store.close()


def found(store: Store, **wanted: Any) -> list[str]:
    return [row.id for row in list_exchanges(store, TrafficFilter(**wanted))]


@pytest.mark.parametrize("limit", [1, 4, 9])
def test_pages_neither_skip_nor_repeat_while_new_ones_come(store: Store, limit: int) -> None:
    ids = [add_exchange(store) for _ in range(10)]
    seen: list[str] = []
    before = None
    while page := list_exchanges(store, TrafficFilter(), before, limit):
        seen += [row.id for row in page]
        before = page[-1].id
        add_exchange(store)
    assert [id_ for id_ in seen if id_ in ids] == ids[::-1]
    assert len(seen) == len(set(seen))


def test_filters(store: Store) -> None:
    one = add_exchange(store, task="a", arm="student", session="s", user="u", label="x", metadata={"app": "mail"})
    two = add_exchange(store, task=None, status=500, preview="100% Größe_ok")
    three = add_exchange(store, task="b", complete=False, key_id="k", student="st", rollout="r", fingerprint="f")
    for wanted, expected in (
        ({}, [three, two, one]),
        ({"task": "a"}, [one]),
        ({"task": ""}, [two]),
        ({"arm": "student"}, [one]),
        ({"session": "s"}, [one]),
        ({"user": "u"}, [one]),
        ({"label": "x"}, [one]),
        ({"key_id": "k"}, [three]),
        ({"student": "st", "rollout": "r", "fingerprint": "f"}, [three]),
        ({"failed": True}, [three, two]),
        ({"failed": False}, [one]),
        ({"text": "größe"}, [two]),
        ({"text": "100%"}, [two]),
        ({"text": "_ok"}, [two]),
        ({"text": "x_ok"}, []),
        ({"metadata": {"app": "mail"}}, [one]),
        ({"metadata": {"app": "x"}}, []),
        ({"task": "a", "arm": "teacher"}, []),
    ):
        assert found(store, **wanted) == expected, wanted
        assert count_exchanges(store, TrafficFilter(**wanted)) == len(expected)


def test_times_are_told_by_ids(store: Store) -> None:
    old, new = (
        add_exchange(store, id=f"{1_000_000:012x}" + "0" * 20),
        add_exchange(store, id=f"{2_000_000:012x}" + "0" * 20),
    )
    assert found(store, since=1500.0) == [new]
    assert found(store, until=1500.0) == [old]
    assert found(store, since=1000.0, until=2000.0) == [old]


def test_counts_stop_at_the_cap(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "COUNT_CAP", 3)
    for expected in (1, 2, 3, 4, 4, 4):
        add_exchange(store)
        assert count_exchanges(store, TrafficFilter()) == expected


def test_one_exchange_whole(store: Store) -> None:
    known = add_exchange(store, completion_id="chatcmpl-x", answer="the answer", text="the question")
    with store.write() as connection:
        connection.execute(
            insert(scores),
            {"exchange_id": known, "grader": "g", "version": "1", "input_hash": "h", "value": 0.5, "scored_at": 1.0},
        )
        connection.execute(
            insert(feedback),
            {
                "id": "f1",
                "exchange_id": known,
                "kind": "truth",
                "name": "",
                "value": {"category": "x"},
                "idempotency_key": "i",
                "created_at": 2.0,
            },
        )
        for number in (2, 1):
            connection.execute(
                insert(reviews),
                {
                    "id": f"r{number}",
                    "exchange_id": known,
                    "verdict": "accept",
                    "reviewer": "somebody",
                    "reviewed_at": float(number),
                },
            )
    whole = load_exchange(store, "chatcmpl-x")
    assert whole.row.id == known
    assert whole.answer.text == "the answer"
    assert whole.request["messages"][1]["content"] == "the question"
    assert [score.value for score in whole.scores] == [0.5]
    assert [item.value for item in whole.feedback] == [{"category": "x"}]
    assert [review.id for review in whole.reviews] == ["r1", "r2"]
    assert whole == load_exchange(store, known)


def test_ids_are_resolved(store: Store) -> None:
    first, second = add_exchange(store, completion_id="same"), add_exchange(store, completion_id="same")
    assert resolve_id(store, first) == first
    assert resolve_id(store, "same") == second
    assert resolve_id(store, "unknown") is None
    with pytest.raises(NotFoundError, match="no exchange unknown"):
        load_exchange(store, "unknown")


def test_volumes(store: Store) -> None:
    assert volumes(store) == []
    for arm, cost in (("teacher", 0.5), ("teacher", None), ("student", 0.25)):
        add_exchange(store, task="a", arm=arm, cost_usd=cost)
    add_exchange(store, task=None, cost_usd=None)
    assert volumes(store) == [
        Volume("a", 3, 0.75, {"student": 1, "teacher": 2}),
        Volume(None, 1, None, {"teacher": 1}),
    ]
    assert volumes(store, since=4e9) == []


def test_filters_by_what_was_said(store: Store) -> None:
    plain, mended, rated = add_exchange(store, served_model="gpt-4.1-mini"), add_exchange(store), add_exchange(store)
    said = {"exchange_id": mended, "reviewer": "mara", "output": None}
    given = {"key_id": None, "name": "", "value": 1, "created_at": 1.0, "idempotency_key": "i", "kind": "truth"}
    scored = {"grader": "g", "version": "v", "input_hash": "h", "scored_at": 1.0}
    with store.write() as connection:
        connection.execute(insert(reviews).values(**said, id="r1", verdict="accept", reviewed_at=1.0))
        connection.execute(insert(reviews).values(**said, id="r2", verdict="reject", reviewed_at=2.0))
        connection.execute(insert(feedback).values(id="f", exchange_id=rated, settled=False, **given))
        connection.execute(insert(scores), [{**scored, "exchange_id": plain, "value": 0.2}])
        connection.execute(insert(scores), [{**scored, "exchange_id": rated, "value": 0.9}])
    for wanted, expected in (
        ({"model": "gpt-4.1-mini"}, [plain]),
        ({"review": "reject"}, [mended]),
        ({"review": "accept"}, []),
        ({"review": "any"}, [mended]),
        ({"review": "none"}, [rated, plain]),
        ({"feedback": "truth"}, [rated]),
        ({"feedback": "comment"}, []),
        ({"feedback": "none"}, [mended, plain]),
        ({"grader": "g"}, [rated, plain]),
        ({"grader": "g", "score_to": 0.5}, [plain]),
        ({"grader": "g", "score_from": 0.5}, [rated]),
        ({"grader": "other"}, []),
    ):
        assert found(store, **wanted) == expected, wanted
        assert count_exchanges(store, TrafficFilter(**wanted)) == len(expected)


@pytest.mark.parametrize("wanted", [{"score_from": 0.5}, {"score_to": 0.2}, {"text": ""}, {"text": " \n"}])
def test_a_part_that_would_narrow_nothing_is_no_filter(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"need a grader|text is empty"):
        TrafficFilter(**wanted)


def test_ids_alone(store: Store) -> None:
    ids = [add_exchange(store, label="billing") for _ in range(3)]
    add_exchange(store, label="bug")
    assert ids_of(store, TrafficFilter(label="billing")) == ids[::-1]
    assert ids_of(store, TrafficFilter(label="billing"), ids[2], 1) == [ids[1]]
