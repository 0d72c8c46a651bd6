"""Files and jobs in the store, the same on SQLite and PostgreSQL: paged, bounded, expired, each key its own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.db import Store, open_store
from capture.errors import NotFoundError, RefusedError
from capture.migrations import upgrade
from capture.settings import FineTuningSettings, Settings, ViewSettings
from gateway.snapshot import Slow, from_file, load
from students.job_files import Upload, delete_file, folder_of, keep, list_files, load_file, path_of
from students.job_lines import LINE_BYTES, examine
from students.jobs import Asked, Client, cancel_job, create_job, list_events, list_jobs, load_job
from students.registry import Training, let_sleep, register_local, want, want_again
from students.training import Artefact, TrainingPlan
from students.training.hosted_memory import Memory
from tests.factories.routing import Time

NOW = 1_800_000_000.0
LIMITS = FineTuningSettings(bases=("tiny",), total_bytes=4000)
LINE = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = open_store(database_url)
    upgrade(store)
    yield store
    store.close()


def kept(store: Store, data: Path, key_id: str | None = "key-1", now: float = NOW, lives_s: float | None = None) -> str:
    folder_of(data).mkdir(parents=True, exist_ok=True)
    path = folder_of(data) / "upload.new"
    path.write_text((json.dumps(LINE) + "\n") * 12)
    return keep(store, data, Upload(path, "f.jsonl", key_id, lives_s), LIMITS, lambda: now)


def test_files(store: Store, tmp_path: Path) -> None:
    ids = [kept(store, tmp_path) for _ in range(3)]
    other = kept(store, tmp_path, "key-2")
    page = list_files(store, "key-1", NOW, after=None, limit=2, newest_first=True)
    assert [file.id for file in page] == ids[:0:-1]
    assert [file.id for file in list_files(store, "key-1", NOW, after=ids[0], limit=9, newest_first=False)] == ids[1:]
    assert len(list_files(store, None, NOW, after=None, limit=9, newest_first=True)) == 4
    found = load_file(store, ids[0], "key-1", NOW)
    assert (found.lines, found.bytes) == (12, path_of(tmp_path, ids[0]).stat().st_size)
    with pytest.raises(NotFoundError):
        load_file(store, other, "key-1", NOW)
    with pytest.raises(NotFoundError):
        delete_file(store, tmp_path, other, "key-1", NOW)
    with pytest.raises(RefusedError, match="4000 bytes together"):
        kept(store, tmp_path)
    assert sorted(path.stem for path in folder_of(tmp_path).iterdir()) == sorted([*ids, other])
    delete_file(store, tmp_path, ids[0], "key-1", NOW)
    assert kept(store, tmp_path) not in ids


def test_what_has_expired_or_broke_off_goes(store: Store, tmp_path: Path) -> None:
    short = kept(store, tmp_path, lives_s=60)
    assert load_file(store, short, "key-1", NOW + 59).expires_at == NOW + 60
    broken = folder_of(tmp_path) / "broken.body.new"
    broken.touch()
    fresh = folder_of(tmp_path) / "fresh.body.new"
    fresh.touch()
    os.utime(broken, (0, 0))
    with pytest.raises(NotFoundError):
        load_file(store, short, "key-1", NOW + 60)
    later = kept(store, tmp_path, now=NOW + 60)
    assert {path.name for path in folder_of(tmp_path).iterdir()} == {f"{later}.jsonl", fresh.name}


def test_jobs(store: Store, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, fine_tuning=LIMITS)
    asked = Asked("tiny", kept(store, tmp_path), metadata={"n": "1"})
    client = Client("key-1")
    ids = [create_job(store, settings, {}, asked, client, lambda: NOW) for _ in range(3)]
    create_job(store, settings, {}, replace_file(asked, kept(store, tmp_path, "key-2")), Client("key-2"), lambda: NOW)
    assert [job.id for job in list_jobs(store, "key-1", after=None, limit=2, tags={})] == ids[:0:-1]
    assert [job.id for job in list_jobs(store, "key-1", after=ids[1], limit=2, tags={"n": "1"})] == ids[:1]
    assert list_jobs(store, "key-1", after=None, limit=2, tags={"n": "2"}) == []
    assert len(list_jobs(store, None, after=None, limit=9, tags={})) == 4
    assert load_job(store, ids[0], "key-1").asked.seed == 7
    with pytest.raises(NotFoundError):
        cancel_job(store, ids[0], "key-2", lambda: NOW)
    assert cancel_job(store, ids[0], "key-1", lambda: NOW).state == "cancelled"
    newest, first = list_events(store, ids[0], after=None, limit=9)
    assert (newest.message, first.message) == ("cancelled", f"Created job {ids[0]}")
    assert list_events(store, ids[0], after=newest.id, limit=9) == [first]


def test_a_jobs_model_sleeps_and_is_woken(store: Store, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, fine_tuning=LIMITS)
    job = create_job(store, settings, {}, Asked("tiny", kept(store, tmp_path)), Client("key-1"), lambda: NOW)
    made = Training(job, "", "tiny", None, "students/x", "abc", ViewSettings(), [], False, suffix="", key_id="key-1")
    student = register_local(store, made, lambda: NOW)
    want(store, student.id, lambda: NOW)
    assert [let_sleep(store, 60, Time(NOW + after)) for after in (59, 60, 61)] == [0, 1, 0]
    known = load(store, from_file(settings, {}), Slow(), NOW).students[student.name]
    assert (known.on_demand, known.endpoint, known.key_id) == (True, None, "key-1")
    want_again(store, {student.id}, lambda: NOW + 100)
    assert [let_sleep(store, 60, Time(NOW + after)) for after in (159, 160)] == [0, 1]


def replace_file(asked: Asked, file_id: str) -> Asked:
    return Asked(asked.model, file_id)


def test_what_hosted_trainings_remember(store: Store) -> None:
    memory = Memory(store, "far")
    plan = TrainingPlan(base="b", base_name="b", rows=("r",), folder="", run_folder="", name="ftjob-1")
    assert not memory.has("ftjob-1")
    memory.begin(plan)
    memory.change("ftjob-1", sha256="abc", file_id="file-1", job_id="job-1")
    memory.begin(plan)
    assert (memory.load("ftjob-1").file_id, memory.load("ftjob-1").plan) == ("file-1", plan)
    assert (memory.uploaded("abc"), Memory(store, "near").uploaded("abc")) == ("file-1", None)
    assert (memory.is_claimed("job-1"), memory.is_claimed("job-2")) == (True, False)
    made = Artefact(
        folder="", weights_hash="", trained_tokens=1, rows=1, dropped={}, steps=1, loss=0.5, validation_loss=None,
        seconds=1, model="ft:b", cost_usd=None,
    )  # fmt: skip
    memory.finish("ftjob-1", made)
    assert memory.load("ftjob-1").result == made
    with pytest.raises(NotFoundError):
        memory.load("ftjob-2")


def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\n" + b"x" * (LINE_BYTES + 2))
    with pytest.raises(RefusedError, match="Line 2 of the file is longer"):
        examine(path)
