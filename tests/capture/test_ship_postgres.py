"""Shipping into a real PostgreSQL: the same rows and sums, and two shippers at once do not double."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capture.db import Store, open_store
from capture.reconcile import Balance
from capture.settings import TaskSettings
from capture.spool import folders
from capture.tasks import load_tasks, save_task
from capture.traffic import TrafficFilter, count_exchanges, list_exchanges, load_exchange, volumes
from tests.factories.exchanges import chat_request, completion, new_exchange
from tests.factories.spooled import TEACHER, Rig, put


@pytest.fixture
def store(postgres_store: Store) -> Store:
    return postgres_store


@pytest.fixture
def rig(tmp_path: Path, store: Store) -> Iterator[Rig]:
    rig = Rig(tmp_path, store=store)
    yield rig
    rig.close()


def test_the_whole_way_with_odd_characters_and_damage(rig: Rig) -> None:
    request = chat_request("a\0b Größe", metadata={"a\0": "b\0", "app": "mail"}, user="u\0")
    odd = new_exchange(request, completion('{"category": "x\\u0000y"}'), model="m\0", session="s\0")
    spool = rig.spool(segment_bytes=2000)
    put(spool, odd, new_exchange(task=None), new_exchange(), odd)
    assert spool.append(b"no exchange", "triage")
    spool.opt_out("triage")
    spool.close()
    assert rig.ship_all(limit=2) == 5
    assert rig.balance() == {
        "": Balance(seen=1, stored=1),
        "triage": Balance(seen=5, stored=2, opted_out=1, dropped={"duplicate": 1, "damaged": 1}),
    }
    assert folders(rig.settings.spool_folder) == []
    found = load_exchange(rig.store, odd.id)
    assert found.row.metadata == {"a": "b", "app": "mail"}
    assert found.row.label == "xy"
    assert found.request["messages"][1]["content"] == "a\0b Größe"
    wanted: Any
    for wanted, many in (({"metadata": {"app": "mail"}}, 1), ({"text": "GRÖSSE"}, 1), ({"text": "größe"}, 1), ({}, 3)):
        assert len(list_exchanges(rig.store, TrafficFilter(**wanted))) == many
        assert count_exchanges(rig.store, TrafficFilter(**wanted)) == many
    assert [(volume.task, volume.exchanges) for volume in volumes(rig.store)] == [("triage", 2), (None, 1)]


def test_tasks_are_kept(store: Store) -> None:
    save_task(store, "one", TaskSettings(teacher=TEACHER))
    save_task(store, "one", TaskSettings(teacher=TEACHER, label="/a"))
    assert load_tasks(store) == {"one": TaskSettings(teacher=TEACHER, label="/a")}


def test_shippers_that_race_store_each_exchange_once(rig: Rig) -> None:
    url = rig.store.engine.url.render_as_string(hide_password=False)
    ids: list[str] = []
    for _ in range(3):
        spool = rig.spool(segment_bytes=4000)
        ids += put(spool, *(new_exchange() for _ in range(60)))
        spool.close()
    failures: list[BaseException] = []

    def race() -> None:
        store = open_store(url)
        try:
            shipper = Rig(rig.settings.data, rig.tasks, store).shipper()
            idle = 0
            while idle < 5:
                idle = 0 if shipper.ship_once(limit=7) else idle + 1
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    rig.ship_all()
    assert rig.ids() == sorted(ids)
    assert rig.balance() == {"triage": Balance(seen=180, stored=180)}
    assert folders(rig.settings.spool_folder) == []
