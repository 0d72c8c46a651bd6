"""Retention by age and size: the oldest go, what was promised stays, counters go on, erasure still finds rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from capture import datasets, feedback, lineage, retention
from capture.datasets import Filters
from capture.db import Store
from capture.errors import NotFoundError
from capture.exchange import Exchange
from capture.feedback import Feedback
from capture.ids import new_id
from capture.retention import MEGABYTE, sweep
from capture.settings import RetentionSettings, TaskSettings
from capture.tables import bodies, counters, exchanges, sampled
from capture.tables import feedback as said
from capture.traffic import TrafficFilter, list_exchanges
from tests.factories.datasets import LATER, UPSTREAMS, task_of
from tests.factories.exchanges import chat_request, completion, new_exchange
from tests.factories.spooled import Rig, put

DAY_S = 86_400
NOW = 1_780_000_000.0
FOREVER = RetentionSettings()


@pytest.fixture
def rig(store: Store, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, {"triage": task_of()}, store)
    yield rig
    rig.close()


def aged(days: float, **more: Any) -> Exchange:
    """An exchange that began that many days before now, with a text of its own."""
    number = new_id()
    at = NOW - days * DAY_S
    request = chat_request(f"ticket {number}", user=more.pop("user", None))
    known = {"id": f"{int(at * 1000):012x}{number[12:]}", "started_at": at} | more
    return new_exchange(request, completion(), **known)


def swept(rig: Rig, rule: RetentionSettings, untasked: RetentionSettings = FOREVER, **more: Any) -> int:
    tasks = {"triage": TaskSettings(teacher=task_of().teacher, retention=rule)}
    return sweep(rig.store, tasks, untasked, lambda: NOW, **more)


def shipped(rig: Rig, *found: Exchange) -> list[str]:
    ids = put(rig.spools[0] if rig.spools else rig.spool(), *found)
    rig.ship_all()
    return ids


def body_bytes(store: Store) -> tuple[int, int]:
    """As counted, and as it is."""
    with store.read() as connection:
        counted = connection.scalar(select(func.sum(counters.c.value)).where(counters.c.name == "body_bytes"))
        real = connection.scalar(select(func.sum(func.length(bodies.c.request) + func.length(bodies.c.answer))))
    return int(counted or 0), int(real or 0)


def test_by_age(rig: Rig) -> None:
    old, stored, young = shipped(rig, aged(31), aged(40, store=True), aged(29))
    other = shipped(rig, aged(50, task=None), aged(50, task="gone"))
    feedback.record(rig.store, Feedback(id=old, kind="truth", value=1), None, lambda: 1.0, lambda _, kept: kept)
    purged: list[str] = []
    assert swept(rig, RetentionSettings(days=30), purge=lambda _, ids: purged.extend(ids)) == 1
    assert swept(rig, RetentionSettings(days=30)) == 0
    assert purged == [old]
    assert set(rig.ids()) == {stored, young, *other}
    assert swept(rig, FOREVER, RetentionSettings(days=45)) == 2
    assert set(rig.ids()) == {stored, young}
    balances = rig.balance()
    assert (balances["triage"].stored, balances["triage"].expired) == (3, 1)
    assert (balances[""].stored, balances[""].expired) == (1, 1)
    assert all(balance.difference == 0 for balance in balances.values())
    counted, real = body_bytes(rig.store)
    assert counted == real > 0
    with rig.store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(said)) == 0
    assert {row.id for row in list_exchanges(rig.store, TrafficFilter(text="ticket"))} == {stored, young}
    with rig.store.write() as connection:  # the client lets go of its completion
        connection.execute(update(exchanges).values(stored=False))
    assert swept(rig, RetentionSettings(days=30)) == 1
    assert rig.ids() == [young]


def test_by_size_the_oldest_go_and_no_more_than_needed(rig: Rig) -> None:
    ids = shipped(rig, *(aged(20 - number) for number in range(12)))
    _, size = body_bytes(rig.store)
    assert swept(rig, RetentionSettings(megabytes=size / MEGABYTE)) == 0
    assert swept(rig, RetentionSettings(megabytes=size / 2 / MEGABYTE), limit=4) == 4
    assert 0 < swept(rig, RetentionSettings(megabytes=size / 2 / MEGABYTE), limit=4) < 4
    assert swept(rig, RetentionSettings(megabytes=size / 2 / MEGABYTE), limit=4) == 0
    left = rig.ids()
    assert left == ids[-len(left) :]
    counted, real = body_bytes(rig.store)
    assert size / 3 < counted == real <= size / 2


def test_rows_of_datasets_stay_and_erasing_their_user_finds_them(rig: Rig) -> None:
    mine = shipped(rig, aged(31, user="ann"), aged(32, user="ann"))
    shipped(rig, aged(33, user="bob"))
    dataset_id = datasets.queue_build(rig.store, "triage", Filters(), lambda: LATER)
    card = datasets.build(rig.store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: LATER)
    late = shipped(rig, aged(34, user="ann"))
    before = card.rows["train"] + card.rows["holdout"]
    assert before == 3
    assert swept(rig, RetentionSettings(days=30)) == 4
    assert rig.ids() == []
    assert len(list(datasets.rows(rig.store, dataset_id))) == 3
    assert lineage.known(rig.store, "ann")
    report = lineage.erase(rig.store, [], "ann", "eve", lambda: 1.0)
    assert (report.rows, report.datasets, report.erased) == (2, (dataset_id,), 2)
    assert {row.exchange_id for row in datasets.rows(rig.store, dataset_id)}.isdisjoint({*mine, *late})
    balance = rig.balance()["triage"]
    assert (balance.stored, balance.erased, balance.expired, balance.difference) == (2, 2, 2, 0)
    assert not lineage.known(rig.store, "ann")
    with pytest.raises(NotFoundError):
        lineage.erase(rig.store, [], "ann", "eve", lambda: 1.0)


def test_a_sweep_that_is_killed_leaves_all_or_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    shipped(rig, aged(31), aged(32))
    with monkeypatch.context() as patch:
        patch.setattr(retention, "_note_outlived", killed)
        with pytest.raises(Killed):
            swept(rig, RetentionSettings(days=30))
    assert len(rig.ids()) == 2
    assert rig.balance()["triage"].expired == 0
    assert swept(rig, RetentionSettings(days=30)) == 2


def test_counts_for_caps_are_forgotten_after_their_day(rig: Rig) -> None:
    today = int(NOW // DAY_S)
    rows = [{"day": day, "owner": "x", "seen": 1} for day in (today - 9, today - 1, today)]
    with rig.store.write() as connection:
        connection.execute(sampled.insert(), rows)
    assert swept(rig, FOREVER) == 0
    with rig.store.read() as connection:
        assert list(connection.scalars(select(sampled.c.day).order_by(sampled.c.day))) == [today - 1, today]
