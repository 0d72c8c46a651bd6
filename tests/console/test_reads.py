"""What pages read: figures that add up, and nobody blamed for what another did."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from capture.datasets import Filters, load_card, queue_build
from capture.db import Store
from capture.errors import NotFoundError
from capture.reviews import review
from capture.settings import SamplingSettings, Settings, load
from capture.tables import counters, tasks
from capture.traffic import id_at
from console import doctor, registering
from console.access import Actor, Desk, Role
from console.reads import (
    datasets,
    estimates,
    evaluations,
    exchanges,
    fine_tunes,
    home,
    operations,
    rollouts,
    upstreams,
)
from console.reads import tasks as task_reads
from students.controller import tick
from students.ledger import account
from students.rollout_start import Start, start
from students.rollouts import list_verdicts, load_rollout
from students.tables import leases, pairs, spend
from tests.factories.clock import Clock
from tests.factories.full_store import World
from tests.factories.moving import TASK as MOVING
from tests.factories.moving import add_pairs, begin, new_student
from tests.factories.store import NOON, add_exchange, new_store

TASK = {"teacher": {"upstream": "openai", "model": "gpt-4.1"}}


def with_task(folder: Path) -> Store:
    store = new_store(folder)
    with store.write() as connection:
        connection.execute(insert(tasks).values(name="triage", settings=TASK, source="file", updated_at=NOON))
        connection.execute(insert(counters).values(task="triage", name="stored", value=12))
    return store


def at(number: int, time: float = NOON) -> dict[str, Any]:
    return {"id": f"{id_at(time)}{number:020x}", "started_at": time}


def test_a_task_row_counts_the_last_day_alone(tmp_path: Path) -> None:
    store = with_task(tmp_path)
    for number in range(10):
        arm = "student" if number < 3 else "fallback" if number == 3 else "teacher"
        add_exchange(store, **at(number), arm=arm, cost_usd=0.0 if arm == "student" else 0.01)
    add_exchange(store, **at(11, NOON - 2 * home.DAY_S), arm="student")
    (row,) = home.task_rows(store, NOON + 60)
    assert (row.stored, row.recent.count, row.recent.student, row.recent.fallback) == (12, 10, 3, 1)
    assert row.recent.share == 0.3
    assert row.recent.cost_usd == pytest.approx(0.07)
    assert row.recent.saved_usd == pytest.approx(0.03)
    assert row.recent.whole


def test_what_was_sampled_out_counts_and_saved_is_what_the_ledger_says(tmp_path: Path) -> None:
    """One kept answer in ten of the teacher's stands for ten; what was asked in the background is no gain."""
    store = with_task(tmp_path)
    for number in range(4):
        add_exchange(store, **at(number), arm="teacher", cost_usd=0.01, probability=0.1)
    for number in range(4, 14):
        add_exchange(store, **at(number), arm="student", cost_usd=0.0)
    with store.write() as connection:
        call = {"id": "one", "at": NOON, "task": "triage", "purpose": "judge", "upstream": "u", "model": "m"}
        connection.execute(insert(spend).values(**call, input_tokens=1, output_tokens=1, cost_usd=0.04))
    (row,) = home.task_rows(store, NOON + 60)
    ledger = account(store, "triage", NOON + 60 - home.DAY_S, NOON + 60)
    assert (row.recent.count, row.recent.share) == (50, 0.2)
    assert row.recent.cost_usd == pytest.approx(0.4)
    assert row.recent.saved_usd == ledger.saved_usd == pytest.approx(0.1 - 0.04)


def test_a_busy_day_is_told_as_far_as_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "RECENT", 5)
    store = with_task(tmp_path)
    for number in range(8):
        add_exchange(store, **at(number, NOON + number), arm="teacher", cost_usd=0.01)
    (row,) = home.task_rows(store, NOON + 60)
    assert (row.recent.count, row.recent.since, row.recent.whole) == (5, NOON + 2, False)


def test_an_unknown_price_is_unknown(tmp_path: Path) -> None:
    store = with_task(tmp_path)
    add_exchange(store, **at(1), cost_usd=None)
    (row,) = home.task_rows(store, NOON + 60)
    assert row.recent.cost_usd is None
    assert row.recent.saved_usd is None
    assert row.recent.unpriced == 1


def test_unmatched_is_counted_up_to_the_cap(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for _ in range(7):
        add_exchange(store, task=None)
    assert home.unmatched(store) == 7
    assert home.unmatched(store, 5) == 5


def test_what_waits_for_a_person(at_full: tuple[World, Store]) -> None:
    _, store = at_full
    rows = {row.name: row for row in home.task_rows(store, 0.0)}
    (first,) = rows["digest"].waiting
    assert first.what.startswith("No exchange yet")
    assert not first.urgent
    assert [one.what for one in rows["triage"].waiting] == ["A turn of the loop waits for your word"]
    assert rows["triage"].rollout is not None
    assert rows["triage"].gate is not None


def test_the_trail_ends_where_the_rollout_stands(at_full: tuple[World, Store]) -> None:
    world, store = at_full
    rollout = load_rollout(store, world.rollout)
    reading = rollouts.evidence_of(rollout, rollout.stage_at).gates[0].reading
    assert reading is not None
    points = rollouts.trail(store, world.rollout, "category")
    assert (points[-1].pairs, points[-1].low, points[-1].high) == (reading.count, reading.low, reading.high)
    assert len(points) <= 2 * rollouts.POINTS
    assert all(one.low <= other.low and one.high >= other.high for one, other in pairwise(points))


def test_worst_pairs_are_lost_ones(at_full: tuple[World, Store]) -> None:
    world, store = at_full
    lost = rollouts.worst_pairs(store, world.rolled_back, "category", limit=5)
    assert len(lost) == 5
    assert all(row.difference == -1.0 for row in lost)
    assert list_verdicts(store, world.rolled_back)[-1].kind == "roll_back"


@pytest.mark.parametrize("against", ["truth", "teacher"])
def test_what_both_sides_score_is_told_and_the_teachers_agreement_with_itself_is_the_ceiling(
    tmp_path: Path, against: str
) -> None:
    """A pair that stands for ten weighs ten times as much."""
    store, clock = new_store(tmp_path), Clock()
    graders = {"category": {"type": "string_check", "against": against}}
    settings = {**TASK, "graders": graders, "sampling": {"rate": 0.1, "strata": [{"rate": 1, "language": "de"}]}}
    with store.write() as connection:
        connection.execute(insert(tasks).values(name="triage", settings=settings, source="file", updated_at=NOON))
    rollout = begin(store, clock)
    assert rollouts.sides(store, rollout) == []
    often = add_pairs(store, rollout, [0.0] * 10, probability=1.0)
    seldom = add_pairs(store, rollout, [-1.0], probability=0.1)
    with store.write() as connection:
        for ids, student in ((often, 1.0), (seldom, 0.0)):
            scores = {"student_scores": {"category": student}, "teacher_scores": {"category": 1.0}}
            connection.execute(update(pairs).where(pairs.c.id.in_(ids)).values(scores))
    (both,) = rollouts.sides(store, rollout)
    assert (both.student, both.teacher, both.pairs) == (pytest.approx(0.5), 1.0, 11)
    ceiling = {"truth": "the teacher 100 % (11", "teacher": "agrees with itself by 100 %, which is the ceiling (11"}
    assert f"{ceiling[against]} newest pairs)" in both.sentence
    store.close()


def test_what_pairs_wait_for(tmp_path: Path) -> None:
    store, clock = new_store(tmp_path), Clock()
    rollout = begin(store, clock)
    assert rollouts.waiting(store, rollout.id) == []
    add_pairs(store, rollout, [0.0], state="judging")
    add_pairs(store, rollout, [0.0, 0.0], state="waiting")
    assert rollouts.waiting(store, rollout.id) == ["1 pair waits for a judge.", "2 pairs wait for a truth."]
    store.close()


def test_the_trail_weighs_pairs_as_the_rollout_does(tmp_path: Path) -> None:
    store, clock = new_store(tmp_path), Clock()
    task = MOVING.model_copy(update={"sampling": SamplingSettings(rate=0.1, strata=[{"rate": 1.0, "language": "de"}])})
    asked = Start("triage", new_student(store, clock), "tester", reason="a test", force=True)
    rollout = start(store, asked, task, clock)
    add_pairs(store, rollout, [0.0] * 60, probability=0.1)
    add_pairs(store, rollout, [-1.0] * 30, probability=1.0)
    tick(store, clock, "a")
    reading = rollouts.evidence_of(load_rollout(store, rollout.id), clock.now).gates[0].reading
    assert reading is not None
    last = rollouts.trail(store, rollout.id, "category")[-1]
    assert (last.pairs, last.mean, last.low, last.high) == (90, reading.mean, reading.low, reading.high)
    store.close()


def test_a_long_rollouts_trail_ends_where_it_stands_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a new prompt version's pairs, which prove that version alone, are not drawn."""
    monkeypatch.setattr(rollouts, "MOST_REPLAYED", 40)
    store, clock = new_store(tmp_path), Clock()
    rollout = begin(store, clock)
    add_pairs(store, rollout, [-1.0] * 5, prompt="fp-new")
    add_pairs(store, rollout, [0.0] * 60)
    tick(store, clock, "a")
    points = rollouts.trail(store, rollout.id, "category")
    reading = rollouts.evidence_of(load_rollout(store, rollout.id), clock.now).gates[0].reading
    assert reading is not None
    assert [point.pairs for point in points[-2:]] == [35, 60]
    assert (points[-2].mean, points[-1].low, points[-1].high) == (0.0, reading.low, reading.high)
    store.close()


def test_evidence_of_a_stage_that_has_just_begun_counts_anew(at_full: tuple[World, Store]) -> None:
    world, store = at_full
    rollout = load_rollout(store, world.rollout)
    moved = type(rollout)(**{**vars(rollout), "stage": rollout.stage + 1})
    evidence = rollouts.evidence_of(moved, rollout.stage_at)
    assert evidence.pairs_at_stage == 0
    assert evidence.gates[0].reading is not None


def test_fine_tunes_and_their_losses(at_full: tuple[World, Store]) -> None:
    world, store = at_full
    found = fine_tunes.list_fine_tunes(store, "triage")
    assert {job.id for job in found} == {world.fine_tune, world.running_fine_tune}
    losses = fine_tunes.losses(fine_tunes.events_of(store, world.fine_tune))
    assert [step for step, _ in losses] == list(range(1, 61))
    assert fine_tunes.list_fine_tunes(store, "other") == []


def test_evaluations(at_full: tuple[World, Store]) -> None:
    world, store = at_full
    done = evaluations.load_evaluation(store, world.evaluation)
    assert done.report is not None
    assert [arm.role for arm in done.report.arms] == ["teacher", "student", "base"]
    assert [one.moving for one in evaluations.evaluations_of(store, world.student, "triage")] == [True, False]


def test_rows_of_a_dataset_page_without_gap(at_full: tuple[World, Store]) -> None:
    world, store = at_full
    seen, after = [], -1
    while True:
        page = datasets.train_rows(store, world.dataset, after, 25)
        seen += [row.exchange_id for _, row in page.rows]
        if page.last is None:
            break
        after = page.last
    assert len(seen) == len(set(seen)) > 50
    assert datasets.learners(store, world.dataset) == [(world.student, datasets.learners(store, world.dataset)[0][1])]


def test_an_exchange_knows_its_datasets(at_full: tuple[World, Store]) -> None:
    world, store = at_full
    exchange = datasets.train_rows(store, world.dataset).rows[0][1].exchange_id
    assert world.dataset in {one.id for one in exchanges.datasets_with(store, exchange)}
    assert exchanges.pairs_of(store, "nothing") == []


def test_tasks_and_prompt_versions(at_full: tuple[World, Store]) -> None:
    _, store = at_full
    assert [task.name for task in task_reads.list_tasks(store)] == ["digest", "triage"]
    versions = task_reads.prompt_versions(store, "triage")
    assert [version.exchanges for version in versions] == [120, 60]


def test_the_audit_pages_by_key(at_full: tuple[World, Store]) -> None:
    _, store = at_full
    first = operations.list_audit(store, limit=10)
    second = operations.list_audit(store, first[-1].id, limit=10)
    assert [row.id for row in [*first, *second]] == sorted({row.id for row in [*first, *second]}, reverse=True)


def test_processes_that_never_ran_are_not_alive(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    settings = Settings(data=tmp_path, gateway={"port": 9})
    assert [one.alive for one in operations.processes(store, settings, NOON)] == [False, False, True]


@pytest.mark.parametrize(("ahead_s", "alive", "said"), [(20, True, "decides"), (3_600, False, "set the")])
def test_a_worker_whose_clock_is_far_ahead_is_not_taken_for_alive(
    ahead_s: float, alive: bool, said: str, tmp_path: Path
) -> None:
    store, now = new_store(tmp_path), time.time()
    with store.write() as connection:
        row = {"name": "controller", "holder": "a", "token": 1, "expires_at": now, "ticked_at": now + ahead_s}
        connection.execute(insert(leases).values(row))
    worker = operations.processes(store, Settings(data=tmp_path, gateway={"port": 9}), now)[1]
    assert (worker.alive, said in worker.detail) == (alive, True)
    found = doctor.worker(store)
    assert (found.level, "set the clocks" in found.text) == (("ok", False) if alive else ("missing", True))


def test_spool_depth(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "0000000001-1f3a9c07.v1").write_bytes(b"x" * 100)
    (folder / "counters").write_bytes(b"y" * 50)
    depth = operations.spool_depth(tmp_path)
    assert (depth.bytes, depth.segments, depth.folders) == (100, 1, 1)
    assert operations.spool_depth(tmp_path / "absent").segments == 0


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://db/x?user=me&password=hunt@r2", "postgresql://db/x?user=me&password=•••"),
        (
            "postgresql://me:hunter2@db/x?sslpassword=two&sslmode=require",
            "postgresql://me:•••@db/x?sslpassword=•••&sslmode=require",
        ),
        ("postgresql:///x?host=/run/db", "postgresql:///x?host=/run/db"),
        ("postgresql://me:hunt?er=2@db/x?sslkey=two", "postgresql://me:•••@db/x?sslkey=•••"),
        ("postgresql://me:hunt/er?2@db/x", "postgresql://me:•••@db/x"),
        ("postgresql://me:hunt@er2@db/x", "postgresql://me:•••@db/x"),
        ("postgresql://me@db:5432/x", "postgresql://me@db:5432/x"),
    ],
)
def test_a_password_is_hidden_wherever_an_address_may_have_it(tmp_path: Path, url: str, shown: str) -> None:
    assert operations.hidden(Settings(data=tmp_path, database_url=url))["database_url"] == shown


def test_passwords_are_hidden(tmp_path: Path) -> None:
    upstream = {"base_url": "https://user:secret-1@host/v1"}
    settings = Settings(
        data=tmp_path, database_url="postgresql://me:secret-2@db/stillhouse", upstreams={"openai": upstream}
    )
    shown = json.dumps(operations.hidden(settings))
    assert "secret" not in shown
    assert "me:•••@db/stillhouse" in json.loads(json.dumps(operations.hidden(settings)))["database_url"]


def test_an_upstream_is_not_blamed_for_what_others_did(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for status, complete, cause in (
        (200, True, None),
        (404, True, None),
        (200, False, "client_left"),
        (200, False, "gateway_overloaded"),
        (503, False, "upstream_busy"),
        (503, False, "gateway_stopped"),
        (429, True, None),
        (500, True, None),
        (502, False, "upstream_unreachable"),
        (200, False, "upstream_stalled"),
    ):
        add_exchange(store, upstream="teacher", status=status, complete=complete, cause=cause, started_at=NOON)
    found = upstreams.health(store, NOON + 1)["teacher"]
    assert (found.requests, found.failed) == (10, 4)


def test_circuits_are_read_from_this_machines_gateway(tmp_path: Path) -> None:
    said = b'# TYPE stillhouse_circuit_state gauge\nstillhouse_circuit_state{upstream="openai"} 2\n'

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever).start()
        settings = Settings(data=tmp_path, gateway={"metrics_port": server.server_port})
        assert upstreams.circuits(settings) == {"openai": "open"}
        server.shutdown()
    assert upstreams.circuits(settings) is None


def test_a_fine_tune_here_takes_time_and_no_money(at_full: tuple[World, Store]) -> None:
    world, store = at_full
    card = load_card(store, world.dataset)
    tokens = card.tokens["train"]
    found = estimates.estimate(card, 2.0, 100.0)
    assert found.tokens == 2 * (tokens.input + tokens.output)
    assert found.seconds == found.tokens / 100
    assert found.measured
    assert not estimates.estimate(card, 2.0, None).measured


def test_an_upstreams_training_costs_what_the_settings_say(at_full: tuple[World, Store], tmp_path: Path) -> None:
    world, store = at_full
    file = tmp_path / "stillhouse.toml"
    priced = file.read_text().replace(
        'api_key_env = "STAND_IN_KEY"', 'worker_key_env = "STAND_IN_KEY"\nauth = "forward"'
    )
    priced = priced.replace('auth = "key"\n', "") + '[prices."small-*"]\ninput = 1\noutput = 1\ntraining = 3.0\n'
    settings = load(_written(tmp_path / "priced.toml", priced), {}, data=tmp_path)
    card = load_card(store, world.dataset)
    found = estimates.hosted(card, 2.0, "small-1", settings)
    assert found.tokens is not None
    assert found.cost_usd == pytest.approx(found.tokens * 3.0 / 1e6)
    assert estimates.hosted(card, 2.0, "other", settings).cost_usd is None
    assert estimates.trainers(settings) == ["stand-in"]
    assert estimates.trainers(load(file, {}, data=tmp_path)) == []


def _written(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def test_what_comes_next_on_the_way_to_a_first_rollout(tmp_path: Path) -> None:
    """One step at a time, until a person or the loop has taken them all."""
    store = with_task(tmp_path)

    def said() -> str:
        ((waiting,),) = (row.waiting for row in home.task_rows(store, NOON))
        return waiting.what

    assert said().startswith("No exchange yet")
    exchange = add_exchange(store, task="triage")
    assert said() == "Nothing reviewed yet"
    review(store, exchange, "accept", None, "mara", lambda: NOON)
    assert said() == "Build a first dataset"
    queue_build(store, "triage", Filters(), lambda: NOON)
    assert said() == "Train a first student"


def test_a_registered_student_learnt_what_the_card_says(at_full: tuple[World, Store], tmp_path: Path) -> None:
    world, store = at_full
    desk = Desk(store, load(tmp_path / "stillhouse.toml", {}, data=tmp_path), Actor("mara", Role.OPERATOR))
    found = registering.register_student(desk, "triage", ("stand-in", "small"), dataset=world.dataset)
    learnt = [row for _, row in datasets.train_rows(store, world.dataset, limit=10_000).rows]
    assert found.fingerprints == {row.fingerprint for row in learnt if row.fingerprint}
    assert found.fingerprints
    assert found.tools is any(row.request.get("tools") for row in learnt)
    with pytest.raises(NotFoundError, match="there are: digest, triage"):
        desk.task("other")
