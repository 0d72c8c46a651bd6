"""Strata and caps on the way into the store: by what exchanges are like, with their probability, the holdout apart."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from capture.exchange import Assignment, Exchange
from capture.settings import DatasetSettings, SamplingSettings, StratumSettings, TaskSettings
from capture.tables import exchanges, sampled
from tests.factories.exchanges import chat_request, completion, new_exchange
from tests.factories.spooled import TEACHER, Rig, put

LATE = 1_780_000_000.0


def rig_of(folder: Path, sampling: SamplingSettings, holdout: float = 0.1) -> Rig:
    task = TaskSettings(teacher=TEACHER, label="/category", sampling=sampling, dataset=DatasetSettings(holdout=holdout))
    return Rig(folder, {"triage": task})


def rows_of(rig: Rig) -> dict[str, Any]:
    with rig.store.read() as connection:
        return {row.id: row for row in connection.execute(select(exchanges))}


def asked(number: int, label: str, **more: Any) -> Exchange:
    return new_exchange(chat_request(f"ticket {number}"), completion(f'{{"category": "{label}"}}'), **more)


@pytest.fixture
def rigs() -> Iterator[list[Rig]]:
    made: list[Rig] = []
    yield made
    for rig in made:
        rig.close()


def test_strata_keep_by_their_rate_and_the_holdout_by_the_task_s(tmp_path: Path, rigs: list[Rig]) -> None:
    sampling = SamplingSettings(rate=0.3, strata=(StratumSettings(rate=1.0, label="rare"),))
    rig = rig_of(tmp_path, sampling, holdout=0.4)
    rigs.append(rig)
    spool = rig.spool()
    rare = put(spool, *(asked(number, "rare") for number in range(300)))
    common = put(spool, *(asked(number + 1000, "common") for number in range(300)))
    control = put(
        spool, *(asked(number + 5000, "rare", assignment=Assignment.CONTROL, rollout="r") for number in range(100))
    )
    rig.ship_all()
    rows = rows_of(rig)
    kept_rare = [rows[one] for one in rare if one in rows]
    assert {(row.holdout, row.probability) for row in kept_rare} == {(False, 1.0), (True, 0.3)}
    of_sides = Counter(row.holdout for row in kept_rare)
    assert 140 < of_sides[False] < 220  # all of the training side
    assert 10 < of_sides[True] < 65  # three in ten of the holdout's side, rare or not
    assert {rows[one].probability for one in [*common, *control] if one in rows} == {0.3}
    assert 55 < sum(one in rows for one in common) < 130
    assert 10 < sum(one in rows for one in control) < 55
    balance = rig.balance()["triage"]
    assert balance.stored + balance.sampled_out == 700
    assert balance.difference == 0


def test_weighted_by_their_probability_kept_rows_tell_what_came(tmp_path: Path, rigs: list[Rig]) -> None:
    sampling = SamplingSettings(rate=0.2, strata=(StratumSettings(rate=0.7, label="rare"),), per_user=40)
    rig = rig_of(tmp_path, sampling, holdout=0.1)
    rigs.append(rig)
    spool = rig.spool()
    for number in range(600):
        label = "rare" if number % 5 == 0 else "common"
        request = chat_request(f"ticket {number}", user=f"user-{number % 3}")
        put(spool, new_exchange(request, completion(f'{{"category": "{label}"}}')))
    rig.ship_all()
    weights: Counter[str] = Counter()
    for row in rows_of(rig).values():
        weights[row.label] += 1 / row.probability
    assert 40 < weights["rare"] < 320  # of 120; of few that stand for many, so it varies
    assert 160 < weights["common"] < 1_400  # of 480


def test_a_key_s_flood_is_thinned_out_with_known_probabilities(tmp_path: Path, rigs: list[Rig]) -> None:
    rig = rig_of(tmp_path, SamplingSettings(per_key=20), holdout=0.01)
    rigs.append(rig)
    spool = rig.spool()
    flood = put(spool, *(asked(number, "a", key_id="loud") for number in range(300)))
    others = put(spool, *(asked(number + 1000, "a", key_id=f"quiet-{number % 20}") for number in range(60)))
    next_day = put(spool, *(asked(number + 2000, "a", key_id="loud", started_at=LATE + 90_000) for number in range(10)))
    rig.ship_all(limit=37)  # counts are carried from batch to batch
    rows = rows_of(rig)
    assert all(one in rows for one in [*flood[:15], *others, *next_day])
    assert 20 <= sum(one in rows for one in flood) <= 60
    late = [rows[one].probability for one in flood[100:] if one in rows]
    assert all(0 < probability <= (20 / 80) ** 2 or probability == 1.0 for probability in late)
    with rig.store.read() as connection:
        seen = connection.scalars(select(sampled.c.seen).order_by(sampled.c.seen.desc())).all()
    assert seen[0] in range(280, 301)  # all but those of the holdout


def test_what_cannot_be_opened_is_counted_and_stored_completions_are_kept(tmp_path: Path, rigs: list[Rig]) -> None:
    tiny = SamplingSettings(rate=0.000_001, strata=(StratumSettings(rate=0.000_001, language="de"),))
    rig = rig_of(tmp_path, tiny)
    rigs.append(rig)
    spool = rig.spool()
    kept = put(spool, asked(1, "a", store=True))
    put(spool, msgspec.structs.replace(asked(2, "a"), request=b"\xff\x00"))
    rig.ship_all()
    assert rig.ids() == kept
    assert rig.balance()["triage"].sampled_out == 1


def test_owners_are_looked_up_once_a_batch(tmp_path: Path, rigs: list[Rig]) -> None:
    rig = rig_of(tmp_path, SamplingSettings(per_key=20, per_user=20))
    rigs.append(rig)
    spool = rig.spool()
    for number in range(60):
        put(spool, new_exchange(chat_request(f"ticket {number}", user=f"user-{number % 7}"), key_id=f"key-{number}"))
    statements: list[str] = []
    event.listen(rig.store.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    rig.shipper().ship_once()
    assert sum("FROM sampled" in one for one in statements) == 1
    assert len(rig.ids()) == 60


def test_a_store_that_fails_while_owners_are_looked_up_loses_nothing(tmp_path: Path, rigs: list[Rig]) -> None:
    rig = rig_of(tmp_path, SamplingSettings(per_key=20))
    rigs.append(rig)
    kept = put(rig.spool(), *(asked(number, "a", key_id="app") for number in range(3)))
    sampled.drop(rig.store.engine)
    with pytest.raises(OperationalError, match="no such table"):
        rig.shipper().ship_once()
    sampled.create(rig.store.engine)
    rig.ship_all()
    assert rig.ids() == sorted(kept)
    assert rig.balance()["triage"].dropped == {}
