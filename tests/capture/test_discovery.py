"""Discovery: unmatched traffic becomes as many candidates as it has templates, once, however it comes in."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from capture import discovery
from capture.db import Store
from capture.discovery import Candidate, list_candidates
from capture.settings import MatchSettings, TaskSettings, TeacherSettings
from capture.tables import bodies, candidates, exchanges
from capture.tables import discovery as progress
from tests.factories.prompts import FAMILIES, fillings
from tests.factories.store import NOON, exchange_row, new_store

TEACHER = TeacherSettings(upstream="teacher", model="gpt-4.1")


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = new_store(tmp_path)
    yield store
    store.close()


def put(store: Store, made: list[dict[str, Any]]) -> None:
    """Stores unmatched exchanges; each is overrides of a row."""
    rows = [exchange_row(**{"task": None, "fingerprint": None, **one}) for one in made]
    with store.write() as connection:
        connection.execute(insert(exchanges), [row["exchange"] for row in rows])
        connection.execute(insert(bodies), [row["bodies"] for row in rows])


def request_of(parts: list[tuple[str, str]]) -> dict[str, Any]:
    return {"model": "gpt-4.1", "messages": [{"role": name, "content": text} for name, text in parts]}


def digest_all(store: Store) -> int:
    total = 0
    while read := discovery.digest(store, lambda: NOON * 2):
        total += read
    return total


def found(store: Store, **tasks: TaskSettings) -> list[Candidate]:
    return list_candidates(store, tasks)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_500_filled_prompts_of_5_templates_are_5_candidates(store: Store, family: str) -> None:
    made = fillings(family, 500, 11)
    put(store, [{"request": request_of(parts)} for _, parts in made[:180]])
    assert digest_all(store) == 180
    put(store, [{"request": request_of(parts)} for _, parts in made[180:]])
    assert digest_all(store) == 320
    assert len(found(store)) == 5
    assert sum(one.exchanges for one in found(store)) >= 490
    assert digest_all(store) == 0


def test_what_a_candidate_says(store: Store) -> None:
    texts = [parts for _, parts in fillings("systems", 40, 2, [1, 0, 0, 0, 0])]
    day = 86_400 * 10 / 39
    rows = [
        {"request": request_of(parts), "metadata": {"app": "desk", "n": str(n)}, "started_at": NOON + n * day}
        for n, parts in enumerate(texts)
    ]
    put(store, [{**row, "fingerprint": "f1", "cost_usd": None if n == 7 else 0.01} for n, row in enumerate(rows)])
    digest_all(store)
    [one] = found(store)
    assert one.template.splitlines()[0] == texts[0][0][1]
    assert (one.exchanges, one.models, one.upstream, one.prompt_versions) == (40, ("gpt-4.1",), "teacher", 1)
    assert one.per_day == pytest.approx(4)
    assert one.cost_usd == pytest.approx(0.4)
    assert one.cost_usd_month == pytest.approx(1.2)
    assert one.saving_usd_month == pytest.approx(1.14)
    assert one.match == MatchSettings(model="gpt-4.1", metadata={"app": "desk"})
    assert len(one.examples) == discovery.MOST_EXAMPLES
    assert (one.first_seen, one.last_seen) == (NOON, pytest.approx(NOON + 86_400 * 10))
    assert found(store, desk=TaskSettings(match=one.match, teacher=TEACHER)) == []


def test_the_rule_is_the_prompt_version_where_nothing_else_tells(store: Store) -> None:
    for kind in (0, 2):
        shares = [float(place == kind) for place in range(5)]
        texts = fillings("systems", 20, 3, shares)
        put(store, [{"request": request_of(parts), "fingerprint": f"f{kind}"} for _, parts in texts])
    digest_all(store)
    assert sorted(str(one.match and one.match.fingerprint) for one in found(store)) == ["f0", "f2"]


def test_no_rule_is_offered_that_would_find_other_traffic_too(store: Store) -> None:
    texts = fillings("generic system", 200, 3)
    put(store, [{"request": request_of(parts), "fingerprint": "same"} for _, parts in texts])
    digest_all(store)
    assert [one.match for one in found(store)] == [None] * 5


def test_unknown_prices_stay_unknown(store: Store) -> None:
    texts = fillings("systems", 20, 3, [1, 0, 0, 0, 0])
    put(store, [{"request": request_of(parts), "cost_usd": None} for _, parts in texts])
    digest_all(store)
    [one] = found(store)
    assert (one.cost_usd, one.cost_usd_month, one.saving_usd_month) == (None, None, None)


def test_tools_and_schema_part_what_the_prompt_does_not(store: Store) -> None:
    texts = [parts for _, parts in fillings("systems", 60, 5, [1, 0, 0, 0, 0])]
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    schema = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": {"type": "object"}}}
    more: list[dict[str, Any]] = [{}, {"tools": [tool]}, {"response_format": schema}]
    put(store, [{"request": request_of(parts) | more[n % 3]} for n, parts in enumerate(texts)])
    digest_all(store)
    assert sorted((one.tools, one.schema or "", one.exchanges) for one in found(store)) == [
        ((), "", 20),
        ((), "ticket", 20),
        (("look_up",), "", 20),
    ]


def test_a_template_is_found_although_its_prompts_come_a_few_at_a_time(store: Store) -> None:
    for _, parts in fillings("systems", 30, 6, [1, 0, 0, 0, 0]):
        put(store, [{"request": request_of(parts)}])
        digest_all(store)
    assert [one.exchanges for one in found(store)] == [30]


def test_what_belongs_to_no_template_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MOST_WAITING", 5)
    put(store, [{"request": request_of([("user", f"{'abcdef'[n % 6]}{'uvwxyz'[n // 6]} " * 3)])} for n in range(30)])
    put(store, [{"request": {"model": "m", "messages": "odd"}}, {"request": {"raw": "x"}}, {"status": 500}])
    put(store, [{"task": "triage"}, {"route": "embeddings"}])
    digest_all(store)
    assert found(store) == []
    with store.read() as connection:
        assert len(connection.execute(select(progress.c.waiting)).scalar_one()) == 5


def test_the_candidates_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MOST_CANDIDATES", 2)
    put(store, [{"request": request_of(parts)} for _, parts in fillings("systems", 100, 8)])
    digest_all(store)
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(candidates)).scalar_one() == 2


def test_an_exchange_that_has_just_begun_is_left_for_later(store: Store) -> None:
    put(store, [{"id": f"{int(NOON * 1000):012x}{'0' * 20}"}])
    assert discovery.digest(store, lambda: NOON + discovery.SETTLE_S / 2) == 0
    assert discovery.digest(store, lambda: NOON + discovery.SETTLE_S * 2) == 1
