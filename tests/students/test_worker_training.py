"""The worker killed by -9 in the middle of a real training of the tiny base: the next one goes on to the same end."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import insert, select

import students.tables as tables
from capture import datasets
from capture.db import Store, open_store
from capture.migrations import upgrade
from capture.settings import Settings, TrainingSettings
from capture.tables import exchanges
from students.registry import load_student, server_of
from tests.students.test_worker import count, settings_for, spooled, stop, wait_for, worker


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = open_store(settings.store_url)
    upgrade(store)
    yield store
    store.close()


def queue_fine_tune(store: Store, fine_tune_id: str, dataset_id: str) -> None:
    training = TrainingSettings(base="tiny", method="full", epochs=10, checkpoint_every_s=0.3, seed=3)
    values = {
        "id": fine_tune_id,
        "task": "triage",
        "dataset_id": dataset_id,
        "base": "tiny",
        "trainer": "local",
        "settings": training.model_dump(mode="json"),
        "state": "queued",
        "cancel_asked": False,
        "progress": {},
        "created_at": time.time(),
    }
    with store.write() as connection:
        connection.execute(insert(tables.fine_tunes).values(values))


def row(store: Store, fine_tune_id: str) -> Any:
    with store.read() as connection:
        query = select(tables.fine_tunes).where(tables.fine_tunes.c.id == fine_tune_id)
        return connection.execute(query).one()


def trainings() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "students.training.run" in line and process.ppid() != 1:
            found.append(process)
    return found


@pytest.mark.timeout(240)
def test_killed_in_the_middle_it_ends_with_the_same_weights(settings: Settings, store: Store, tmp_path: Path) -> None:
    spooled(settings, 60)
    with worker(settings, tmp_path) as process:
        wait_for(lambda: count(store, exchanges.c.id) == 60, tmp_path)
        dataset_id = datasets.queue_build(store, "triage", datasets.Filters(), time.time)
        wait_for(lambda: datasets.load_card(store, dataset_id).state == "ready", tmp_path)
        queue_fine_tune(store, "ftjob-1", dataset_id)
        run = settings.data / "fine_tunes" / "ftjob-1" / "run"
        wait_for(lambda: row(store, "ftjob-1").progress.get("step", 0) >= 4, tmp_path, within_s=90)
        wait_for(lambda: (run / "checkpoint.pt").exists(), tmp_path, within_s=90)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert row(store, "ftjob-1").state == "running"
    wait_for(lambda: not [one for one in trainings() if str(run) in " ".join(one.cmdline())], tmp_path, within_s=10)
    with worker(settings, tmp_path) as process:
        wait_for(lambda: row(store, "ftjob-1").state in ("succeeded", "failed"), tmp_path, within_s=90)
        assert row(store, "ftjob-1").error is None
        queue_fine_tune(store, "ftjob-2", dataset_id)
        wait_for(lambda: row(store, "ftjob-2").state in ("succeeded", "failed"), tmp_path, within_s=90)
        assert stop(process) == 0
    broken, undisturbed = (load_student(store, row(store, name).student_id) for name in ("ftjob-1", "ftjob-2"))
    assert broken.weights_hash == undisturbed.weights_hash
    assert (settings.data / str(broken.folder) / "model.safetensors").exists()
    assert server_of(store, broken.id) is not None
    steps = row(store, "ftjob-1").progress
    assert steps["step"] == steps["total_steps"]
