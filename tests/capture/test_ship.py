"""Shipping: every record once, whatever stops it; and the sum of the counters holds."""

import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, func, select

from capture import segments, ship
from capture.db import Store, open_store
from capture.errors import StoreAwayError
from capture.exchange import Exchange
from capture.ids import new_id
from capture.lineage import erase
from capture.reconcile import Balance, reconcile
from capture.settings import (
    RedactionSettings,
    SamplingSettings,
    TaskSettings,
)
from capture.ship import Shipper
from capture.spool import folders
from capture.tables import bodies, prompt_versions
from capture.tables import segments as offsets
from capture.traffic import load_exchange
from tests.factories.exchanges import chat_request, completion, new_exchange, stream_of
from tests.factories.spooled import TEACHER, Rig, put
from tests.factories.store import new_store


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_an_exchange_reaches_the_store_redacted(rig: Rig) -> None:
    request = chat_request("I am jane@corp.io", metadata={"app": "mail"}, user="jane@corp.io")
    exchange = new_exchange(request, completion('{"category": "billing", "to": "jane@corp.io"}', id="c-1"))
    put(rig.spool(), exchange)
    assert rig.shipper().ship_once() == 1
    found = load_exchange(rig.store, "c-1")
    assert found.row.id == exchange.id
    assert found.row.label == "billing"
    assert found.row.input_tokens == 20
    assert found.row.cost_usd == pytest.approx(20 * 2e-6 + 8 * 8e-6)
    assert found.row.metadata == {"app": "mail"}
    assert found.row.redactions == 3
    assert found.row.fingerprint
    assert "corp.io" not in str(found)
    assert "@example." in found.answer.text
    assert found.request["messages"][0] == request["messages"][0]
    told = rig.told[0]
    assert told[0] == exchange
    assert told[1] == request
    assert "jane@corp.io" in told[2].text
    assert told[3:] == ("triage", 1.0)
    database = b"".join(path.read_bytes() for path in rig.settings.data.glob("test.db*"))
    assert b"corp.io" not in database


def test_the_open_segment_is_read_too_and_only_once(rig: Rig) -> None:
    spool = rig.spool()
    first = put(spool, new_exchange())
    shipper = rig.shipper()
    assert shipper.ship_once() == 1
    assert shipper.ship_once() == 0
    second = put(spool, new_exchange(), new_exchange())
    assert shipper.ship_once(limit=1) == 1
    assert shipper.ship_once(limit=1) == 1
    assert rig.ids() == sorted(first + second)
    assert spool.depth().segments == 1


def test_a_busy_process_does_not_keep_the_others_waiting(rig: Rig) -> None:
    busy, quiet = rig.spool(), rig.spool()
    put(busy, *(new_exchange() for _ in range(50)))
    waiting = put(quiet, new_exchange())
    shipper = rig.shipper()
    shipper.ship_once(limit=5)
    shipper.ship_once(limit=5)
    assert set(waiting) <= set(rig.ids())


def test_a_balance_may_be_asked_for_while_segments_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = rig.spool()
    put(spool, new_exchange())
    gone = (spool.folder / segments.name(7, b"abcd"), 10)
    listed = segments.listed
    monkeypatch.setattr(segments, "listed", lambda folder: [*listed(folder), gone])
    assert rig.balance() == {"triage": Balance(seen=1, pending=1)}


def test_closed_segments_and_folders_of_the_dead_go_when_shipped(rig: Rig) -> None:
    living, dying = rig.spool(segment_bytes=2000), rig.spool(segment_bytes=2000)
    ids = put(living, *(new_exchange() for _ in range(10))) + put(dying, *(new_exchange() for _ in range(10)))
    dying.close()
    assert rig.ship_all(limit=3) == 20
    assert rig.ids() == sorted(ids)
    assert folders(rig.settings.spool_folder) == [living.folder]
    assert living.depth().segments == 1
    assert rig.balance() == {"triage": Balance(seen=20, stored=20)}
    with rig.store.read() as connection:
        names = connection.execute(select(offsets.c.name)).scalars().all()
    assert all(name.startswith(living.folder.name) for name in names)


def test_what_is_sampled_out_opted_out_or_dropped_is_counted_with_its_task(tmp_path: Path) -> None:
    half = TaskSettings(teacher=TEACHER, sampling=SamplingSettings(rate=0.5))
    rig = Rig(tmp_path, {"half": half})
    spool = rig.spool(limit_bytes=500_000)
    for _ in range(200):
        put(spool, new_exchange(task="half"), new_exchange(task=None))
    kept = put(spool, *(new_exchange(task="half", store=True) for _ in range(5)))
    spool.opt_out("half")
    while spool.append(b"x" * 10_000, None):
        pass
    before = rig.balance()
    assert before["half"] == Balance(seen=206, pending=205, opted_out=1)
    assert before[""].dropped == {"spool_full": 1}
    spool.close()
    rig.ship_all()
    after = rig.balance()
    assert after["half"].difference == 0
    assert after["half"].stored + after["half"].sampled_out == 205
    assert 70 < after["half"].sampled_out < 130
    assert set(kept) <= set(rig.ids())
    assert {load_exchange(rig.store, id_).row.probability for id_ in kept} == {1.0}
    assert after[""].stored == 200
    assert sum(balance.difference for balance in after.values()) == 0  # the padding is no exchange: damaged
    rig.close()


def test_a_record_appended_twice_is_stored_once(rig: Rig) -> None:
    exchange = new_exchange()
    spool = rig.spool()
    put(spool, exchange, exchange)
    rig.shipper().ship_once()
    put(spool, exchange)
    rig.shipper().ship_once()
    assert rig.ids() == [exchange.id]
    assert rig.balance() == {"triage": Balance(seen=3, stored=1, dropped={"duplicate": 2})}


def test_what_was_erased_does_not_come_back(rig: Rig) -> None:
    exchange = new_exchange()
    spool = rig.spool()
    put(spool, exchange)
    rig.ship_all()
    erase(rig.store, [exchange.id], None, "somebody", lambda: 1.0)
    put(spool, exchange)
    rig.ship_all()
    assert rig.ids() == []
    assert rig.balance() == {"triage": Balance(seen=2, erased=1, dropped={"duplicate": 1})}


def test_damage_costs_the_record_it_hits_and_nothing_else(rig: Rig) -> None:
    spool = rig.spool()
    ids = put(spool, *(new_exchange() for _ in range(5)))
    assert spool.append(b"not an exchange", "triage")
    ids += put(spool, new_exchange())
    spool.close()
    (segment,) = [path for path, _ in segments.listed(spool.folder)]
    data = bytearray(segment.read_bytes())
    size = len(data) // 6
    data[size + size // 2] ^= 0xFF  # the second record
    segment.write_bytes(bytes(data[:-5]))  # and the last is torn
    assert rig.ship_all() == 5
    assert rig.ids() == sorted([ids[0], *ids[2:5]])
    assert rig.balance() == {"triage": Balance(seen=7, stored=4, dropped={"damaged": 3})}
    assert folders(rig.settings.spool_folder) == []


def test_what_a_killed_process_saw_but_never_appended_is_accounted_for(rig: Rig) -> None:
    spool = rig.spool()
    put(spool, new_exchange())
    spool.counters.add("triage", "seen")  # killed between the count and the write
    spool.close()
    rig.ship_all()
    assert rig.balance() == {"triage": Balance(seen=2, stored=1, dropped={"crash": 1})}


def test_bodies_that_are_no_json_are_kept_as_text(rig: Rig) -> None:
    exchange = new_exchange(request=None, response=b"<html>\xff jane@corp.io</html>", status=502)
    exchange = msgspec.structs.replace(exchange, request=b"{broken \x00 json")
    put(rig.spool(), exchange)
    rig.shipper().ship_once()
    found = load_exchange(rig.store, exchange.id)
    assert found.request == {"stillhouse_raw": "{broken \x00 json"}
    assert str(found.answer.raw["stillhouse_raw"]).startswith("<html>")
    assert "corp.io" not in str(found.answer.raw)
    assert rig.balance() == {"triage": Balance(seen=1, stored=1)}


def test_odd_characters_are_storable_everywhere(rig: Rig) -> None:
    request = chat_request("a\0b \ud800".encode("utf-8", "replace").decode(), metadata={"a\0": "b\0"}, user="u\0")
    exchange = new_exchange(request, completion('{"category": "x\\u0000y"}'), model="m\0", session="s\0")
    put(rig.spool(), exchange)
    rig.shipper().ship_once()
    row = load_exchange(rig.store, exchange.id).row
    assert "\0" not in str(row)
    assert row.label == "xy"
    assert row.metadata == {"a": "b"}


def test_large_bodies_pass(rig: Rig) -> None:
    exchange = new_exchange(chat_request("lorem ipsum dolor " * 600_000))
    small = new_exchange()
    put(rig.spool(), small, exchange, new_exchange())
    assert rig.ship_all() == 3
    assert len(load_exchange(rig.store, exchange.id).request["messages"][1]["content"]) == 18 * 600_000


def test_tokens_are_estimated_and_marked_where_the_provider_did_not_count(rig: Rig) -> None:
    chunk = {"id": "c", "model": "priced", "choices": [{"index": 0, "delta": {"content": "hello there"}}]}
    exchange = new_exchange(
        response=stream_of([chunk]), response_type="text/event-stream", stream=True, served_model="priced"
    )
    failed = new_exchange(answer={"error": {"message": "no"}}, status=500)
    put(rig.spool(), exchange, failed)
    rig.shipper().ship_once()
    row = load_exchange(rig.store, exchange.id).row
    assert (row.tokens_estimated, row.output_tokens) == (True, 2)
    assert row.cost_usd == pytest.approx((row.input_tokens or 0) * 1e-6 + 2e-6)
    row = load_exchange(rig.store, failed.id).row
    assert (row.input_tokens, row.cost_usd, row.tokens_estimated) == (None, None, False)


def test_prompt_versions_are_kept_with_first_and_last_seen(rig: Rig) -> None:
    spool = rig.spool()
    for number in range(3):
        put(spool, new_exchange(started_at=100.0 + number))
    put(spool, new_exchange(chat_request(messages=[{"role": "system", "content": "Another. jane@corp.io"}])))
    shipper = rig.shipper()
    while shipper.ship_once(limit=2):
        pass
    with rig.store.read() as connection:
        rows = connection.execute(select(prompt_versions).order_by(prompt_versions.c.first_seen)).all()
    assert (rows[0].first_seen, rows[0].last_seen, rows[0].exchanges) == (100.0, 102.0, 3)
    assert rows[0].template == "Sort the ticket."
    assert len(rows) == 2
    assert "corp.io" not in rows[1].template


def test_duplicates_up_to_personal_data_have_one_content_hash(rig: Rig) -> None:
    first, second = (
        new_exchange(chat_request("Cancel, jane@corp.io")),
        new_exchange(chat_request("cancel,  max@firm.de")),
    )
    put(rig.spool(), first, second)
    rig.shipper().ship_once()
    assert load_exchange(rig.store, first.id).row.content_hash == load_exchange(rig.store, second.id).row.content_hash


def test_a_callback_that_fails_stops_nobody(rig: Rig) -> None:
    put(rig.spool(), new_exchange(), new_exchange())

    def fail(*_: object) -> None:
        raise RuntimeError("a pair could not be made")

    shipper = Shipper(rig.store, rig.settings, rig.tasks, fail)
    assert shipper.ship_once() == 2
    assert shipper.failed_callbacks == 2
    assert len(rig.ids()) == 2


def test_one_exchange_that_cannot_be_prepared_is_counted_and_passed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = new_exchange(), new_exchange()
    prepare = ship.prepare

    def broken(exchange: Exchange, *rest: Any) -> Any:
        if exchange.id == bad.id:
            raise RuntimeError("a fault of ours")
        return prepare(exchange, *rest)

    monkeypatch.setattr(ship, "prepare", broken)
    put(rig.spool(), bad, good)
    rig.shipper().ship_once()
    assert rig.ids() == [good.id]
    assert rig.balance() == {"triage": Balance(seen=2, stored=1, dropped={"unreadable": 1})}


def test_one_exchange_that_the_database_refuses_is_counted_and_passed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [new_exchange() for _ in range(4)]
    prepare = ship.prepare

    def with_a_gap(exchange: Exchange, *rest: Any) -> Any:
        made = prepare(exchange, *rest)
        if exchange.id == found[2].id:
            made.row["route"] = None
        return made

    monkeypatch.setattr(ship, "prepare", with_a_gap)
    put(rig.spool(), *found)
    rig.ship_all()
    assert rig.ids() == sorted(exchange.id for exchange in found if exchange.id != found[2].id)
    assert len(rig.told) == 3
    assert rig.balance() == {"triage": Balance(seen=4, stored=3, dropped={"unreadable": 1})}


def test_a_quick_balance_agrees_with_the_counted_one(rig: Rig) -> None:
    spool = rig.spool()
    put(spool, *(new_exchange() for _ in range(5)), new_exchange(task=None))
    spool.opt_out("triage")
    rig.shipper().ship_once(2)
    quick = reconcile(rig.store, rig.settings.spool_folder, counted=False)
    assert quick == rig.balance()
    assert quick["triage"] == Balance(seen=6, pending=3, stored=2, opted_out=1)


def test_changed_settings_are_obeyed_at_once(rig: Rig) -> None:
    spool = rig.spool()
    shipper = rig.shipper()
    put(spool, new_exchange(chat_request("jane@corp.io")))
    shipper.ship_once()
    shipper.tasks = {"triage": TaskSettings(teacher=TEACHER, redaction=RedactionSettings(enabled=False))}
    (kept,) = put(spool, new_exchange(chat_request("jane@corp.io")))
    shipper.ship_once()
    assert "jane@corp.io" in str(load_exchange(rig.store, kept).request)
    assert "jane@corp.io" not in str(load_exchange(rig.store, rig.ids()[0]).request)


def test_two_shippers_do_not_double(rig: Rig) -> None:
    spool = rig.spool()
    put(spool, *(new_exchange() for _ in range(10)))
    slow, fast = rig.shipper(), rig.shipper()
    gathered = slow._gather(500)
    assert fast.ship_once() == 10
    slow._gather = lambda _: gathered  # type: ignore[method-assign]
    assert slow.ship_once() == 0
    assert rig.balance() == {"triage": Balance(seen=10, stored=10)}


def test_a_shipper_that_comes_after_the_folder_was_folded_does_nothing(rig: Rig) -> None:
    spool = rig.spool()
    put(spool, *(new_exchange() for _ in range(10)))
    spool.close()
    slow = rig.shipper()
    gathered = slow._gather(500)
    rig.ship_all()
    slow._gather = lambda _: gathered  # type: ignore[method-assign]
    assert slow.ship_once() == 0
    assert rig.balance() == {"triage": Balance(seen=10, stored=10)}


def test_a_store_that_is_away_costs_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    put(rig.spool(), *(new_exchange() for _ in range(3)))
    write = rig.store.write

    @contextmanager
    def away() -> Iterator[Connection]:
        raise StoreAwayError("the store does not answer")
        yield

    monkeypatch.setattr(rig.store, "write", away)
    with pytest.raises(StoreAwayError):
        rig.shipper().ship_once()
    monkeypatch.setattr(rig.store, "write", write)
    assert rig.balance() == {"triage": Balance(seen=3, pending=3)}
    assert rig.ship_all() == 3
    assert rig.balance() == {"triage": Balance(seen=3, stored=3)}


class Killed(BaseException):
    """Stands for `kill -9` at some step: nothing after it runs."""


class Countdown:
    """Kills at the n-th step; steps are SQL statements, commits (before and after), and removals of files."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


@contextmanager
def killed_at(store: Store, steps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Countdown]:
    countdown = Countdown(steps)
    write, unlink, rmdir = store.write, Path.unlink, Path.rmdir

    @contextmanager
    def counted_write() -> Iterator[Connection]:
        with write() as connection:
            yield connection
            countdown.step()
        countdown.step()

    def counted_unlink(path: Path, missing_ok: bool = False) -> None:
        countdown.step()
        unlink(path, missing_ok)

    def counted_rmdir(path: Path) -> None:
        countdown.step()
        rmdir(path)

    event.listen(store.engine, "before_cursor_execute", countdown.step)
    with monkeypatch.context() as patch:
        patch.setattr(store, "write", counted_write)
        patch.setattr(Path, "unlink", counted_unlink)
        patch.setattr(Path, "rmdir", counted_rmdir)
        try:
            yield countdown
        finally:
            event.remove(store.engine, "before_cursor_execute", countdown.step)


def scene(folder: Path, store: Store) -> tuple[Rig, list[str]]:
    """Two processes, one dead, with several segments, a duplicate, an opt-out, a damaged record and a lost one."""
    rig = Rig(folder, store=store)
    living, dead = rig.spool(segment_bytes=2500), rig.spool(segment_bytes=2500)
    twice = new_exchange()
    ids = put(living, *(new_exchange() for _ in range(4)), twice) + put(
        dead, *(new_exchange(task=None) for _ in range(6))
    )
    put(dead, twice)
    assert dead.append(b"no exchange", "triage")
    dead.opt_out("triage")
    dead.counters.add("triage", "seen")
    dead.close()
    return rig, sorted(ids)


def check(rig: Rig, ids: list[str]) -> None:
    assert rig.ids() == ids
    with rig.store.read() as connection:
        assert sorted(connection.execute(select(bodies.c.exchange_id)).scalars()) == ids
        counted = connection.execute(select(func.sum(prompt_versions.c.exchanges))).scalar()
    assert counted == len(ids)
    balances = rig.balance()
    assert balances == {
        "": Balance(seen=6, stored=6),
        "triage": Balance(seen=9, stored=5, opted_out=1, dropped={"duplicate": 1, "damaged": 2}),
    }
    assert all(balance.difference == 0 for balance in balances.values())
    assert folders(rig.settings.spool_folder) == [rig.spools[0].folder]


def test_killed_at_any_step_nothing_is_lost_or_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = new_store(tmp_path)
    empty.close()
    steps = 0
    survived = False
    while not survived:
        steps += 1
        folder = tmp_path / str(steps)
        folder.mkdir()
        shutil.copy(tmp_path / "test.db", folder)
        rig, ids = scene(folder, open_store(f"sqlite:///{folder / 'test.db'}"))
        with killed_at(rig.store, steps, monkeypatch):
            try:
                rig.ship_all(limit=4)
                survived = True
            except Killed:
                pass
        rig.ship_all(limit=4)
        check(rig, ids)
        rig.close()
    assert steps > 40


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kills=st.lists(st.integers(1, 40), max_size=4),
    limit=st.integers(1, 8),
    plan=st.lists(
        st.sampled_from(["triage", "other", "none", "opt_out", "garbage", "new_process", "ship", "erase"]), max_size=40
    ),
    flip=st.none() | st.floats(0, 0.99),
)
def test_the_sum_holds_under_random_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: list[int], limit: int, plan: list[str], flip: float | None
) -> None:
    folder = tmp_path / new_id()
    folder.mkdir()
    rig = Rig(folder, {"other": TaskSettings(teacher=TEACHER, sampling=SamplingSettings(rate=0.5))})
    spool = rig.spool(segment_bytes=3000)
    erased = 0
    for what in plan:
        if what == "opt_out":
            spool.opt_out("triage")
        elif what == "garbage":
            assert spool.append(b"garbage", "triage")
        elif what == "new_process":
            spool.close()
            spool = rig.spool(segment_bytes=3000)
        elif what == "ship":
            rig.shipper().ship_once(limit)
        elif what == "erase":
            erased += erase_one(rig)
        else:
            put(spool, new_exchange(task=None if what == "none" else what))
    spool.close()
    if flip is not None:
        flip_a_byte(rig, flip)
    for steps in kills:
        with killed_at(rig.store, steps, monkeypatch):
            try:
                rig.ship_all(limit)
            except Killed:
                continue
    rig.ship_all(limit)
    balances = rig.balance()
    assert {task: balance.difference for task, balance in balances.items()} == dict.fromkeys(balances, 0)
    assert sum(balance.seen for balance in balances.values()) == sum(
        what not in ("new_process", "ship", "erase") for what in plan
    )
    assert sum(balance.erased for balance in balances.values()) == erased
    assert sum(balance.stored for balance in balances.values()) == len(rig.ids())
    assert folders(rig.settings.spool_folder) == []
    rig.close()


def erase_one(rig: Rig) -> int:
    """Erases the newest that is stored, if any is; returns how many."""
    newest = rig.ids()[-1:]
    return erase(rig.store, newest, None, "ann", lambda: 1.0).erased if newest else 0


def flip_a_byte(rig: Rig, where: float) -> None:
    found = [path for folder in folders(rig.settings.spool_folder) for path, size in segments.listed(folder) if size]
    if found:
        path = found[int(where * len(found))]
        data = bytearray(path.read_bytes())
        data[int(where * len(data))] ^= 0x55
        path.write_bytes(bytes(data))


def test_bodies_are_compressed(rig: Rig) -> None:
    (kept,) = put(rig.spool(), new_exchange(chat_request("word " * 1000)))
    rig.shipper().ship_once()
    with rig.store.read() as connection:
        stored = connection.execute(select(bodies.c.request).where(bodies.c.exchange_id == kept)).scalar_one()
    assert len(stored) < 500 < len(zlib.decompress(stored))
