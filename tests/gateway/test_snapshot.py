from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.db import Store
from capture.keys import KeyLimits, create
from capture.settings import MatchSettings, RolloutSettings, Settings, TaskSettings, TeacherSettings
from capture.tasks import save_task, sync_tasks
from gateway.snapshot import Latency, Slow, Snapshot, from_file, load, load_slow
from tests.factories.rollouts import add_rollout, add_student, tick
from tests.factories.routing import NOW, SECRETS, rollout_of, settings_of, with_rollouts
from tests.factories.store import NOON, add_exchange, new_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


def read(store: Store, settings: Settings) -> Snapshot:
    return load(store, from_file(settings, SECRETS), Slow(), NOW)


def test_the_file_alone_is_a_snapshot(settings: Settings) -> None:
    snapshot = from_file(settings, SECRETS)
    assert set(snapshot.tasks) == {"triage", "extract"}
    assert snapshot.matcher.match("m", {"app": "triage"}, {}, None, None) == "triage"
    assert (snapshot.matched_headers, snapshot.matches_fingerprints) == (frozenset({b"x-app"}), False)
    assert not snapshot.from_store


def test_console_tasks_stand_beside_the_files(store: Store, settings: Settings) -> None:
    sync_tasks(store, settings)
    teacher = TeacherSettings(upstream="local", model="big")
    save_task(store, "more", TaskSettings(match=MatchSettings(fingerprint="abc"), teacher=teacher))
    snapshot = read(store, settings)
    assert set(snapshot.tasks) == {"triage", "extract", "more"}
    assert snapshot.matches_fingerprints
    assert (snapshot.from_store, snapshot.read_at) == (True, NOW)


def test_students_that_are_wanted_are_known_and_answer_when_ready(store: Store, settings: Settings) -> None:
    add_student(store, "http://127.0.0.1:9600/v1", capacity_per_s=2.5)
    add_student(store, "http://127.0.0.1:9601/v1", id="st_2", name="dead", state="dead")
    add_student(store, "http://127.0.0.1:9602/v1", id="st_3", name="unwanted", wanted_at=None)
    add_student(store, None, id="st_4", name="never served")
    add_student(store, None, id="st_5", name="hosted", upstream="local", upstream_model="tuned-1", kind="registered")
    add_student(store, None, id="st_6", name="lost", upstream="no longer in the file", upstream_model="x")
    students = read(store, settings).students
    assert set(students) == {"ft:small:triage:1", "dead", "hosted", "lost"}
    ready = students["ft:small:triage:1"]
    assert ready.endpoint is not None
    assert (ready.endpoint.address.port, ready.served_model, ready.capacity_per_s) == (9600, "served-small", 2.5)
    assert (students["dead"].endpoint, students["lost"].endpoint) == (None, None)
    hosted = students["hosted"]
    assert hosted.endpoint is not None
    assert (hosted.endpoint.name, hosted.served_model, hosted.registered) == ("local", "tuned-1", True)


@pytest.mark.parametrize(
    ("state", "routed"),
    [("running", True), ("paused", True), ("full", True), ("rolled_back", False), ("aborted", False)],
)
def test_rollouts_that_route(store: Store, settings: Settings, state: str, routed: bool) -> None:
    add_student(store, "http://127.0.0.1:9600/v1")
    add_rollout(store, state=state, policy=RolloutSettings(deadline_s=3).model_dump(mode="json"))
    tick(store, NOW - 5)
    snapshot = read(store, settings)
    assert ("triage" in snapshot.rollouts) == routed
    assert snapshot.ticked_at == NOW - 5
    if routed:
        (rollout,) = snapshot.rollouts["triage"]
        assert (rollout.id, rollout.share, rollout.deadline_s) == ("ro_1", 0.25, 3)
        assert rollout.student.name == "ft:small:triage:1"


def test_the_newest_rollout_stands_first_and_a_dry_run_routes_nothing(store: Store, settings: Settings) -> None:
    add_student(store, "http://127.0.0.1:9600/v1")
    add_rollout(store, id="ro_old", state="full", share=0.95)
    add_rollout(store, id="ro_new", created_at=NOON + 1, dry_run=True)
    rollouts = read(store, settings).rollouts["triage"]
    assert [(rollout.id, rollout.share) for rollout in rollouts] == [("ro_new", 0.0), ("ro_old", 0.95)]


def test_keys_are_known_by_their_digest(store: Store, settings: Settings, tmp_path: Path) -> None:
    _, key = create(store, tmp_path, "app", ["triage"], None, lambda: NOW)
    assert list(read(store, settings).keys.values()) == [key]


def test_the_teachers_pace_by_kind_of_answer(store: Store, settings: Settings) -> None:
    for number in range(100):
        add_exchange(store, first_ms=float(number), stream=False)
    for number in range(10):
        add_exchange(store, first_ms=1000.0, stream=True)
        add_exchange(store, first_ms=9e9, stream=True, arm="student")
        add_exchange(store, first_ms=9e9, stream=True, status=500)
        add_exchange(store, first_ms=9e9, stream=True, complete=False)
        add_exchange(store, first_ms=9e9, stream=True, task="extract" if number else None)
    snapshot = with_rollouts(from_file(settings, SECRETS), rollout_of(), rollout_of(id="ro_2", task="quiet"))
    found = load_slow(store, snapshot, NOW).latencies
    assert found == {"triage": Latency(0.095, 1.0), "quiet": Latency(None, None)}


def test_what_a_key_with_a_budget_has_spent_this_month(store: Store, settings: Settings, tmp_path: Path) -> None:
    _, key = create(store, tmp_path, "app", [], None, lambda: NOW, KeyLimits(monthly_usd=5.0))
    _, free = create(store, tmp_path, "free", [], None, lambda: NOW)
    month_ms = 1_777_593_600_000  # 2026-05-01, the month of NOW
    for ms, key_id, cost in (
        (month_ms - 1, key.id, 100.0),
        (month_ms, key.id, 1.0),
        (month_ms + 1, key.id, None),
        (month_ms + 9, key.id, 0.5),
        (month_ms + 9, free.id, 7.0),
    ):
        add_exchange(store, id=f"{ms:012x}{key_id[-10:]:0>20}", key_id=key_id, cost_usd=cost)
    slow = load_slow(store, read(store, settings), NOW)
    assert slow.spent_usd == {key.id: 1.5}
    assert load(store, from_file(settings, SECRETS), slow, NOW).spent_usd == {key.id: 1.5}
