"""The worker as a process: ships, scores, builds, pairs, ticks; stops cleanly, and goes on after it was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

import students.tables as tables
from capture import datasets
from capture.db import Store, open_store
from capture.exchange import Exchange, encode
from capture.ids import new_id
from capture.migrations import upgrade
from capture.settings import Settings, load
from capture.spool import open_spool
from capture.tables import exchanges, scores
from students.controller import LEASE

CONFIG = """
[upstreams.stand-in]
base_url = "http://127.0.0.1:9/v1"
worker_key_env = "WORKER_KEY"
training_allowed = true

[tasks.triage]
kind = "classification"
label = "/category"
teacher = { upstream = "stand-in", model = "large" }
graders = { category = { type = "json_fields", against = "teacher" }, shape = { type = "empty" } }
dataset = { minimum_rows = 5, holdout = 0.3 }
training = { base = "tiny", method = "full", epochs = 2 }
"""
WORDS = "amber birch cedar dune ember fjord grove heath islet jetty knoll lagoon marsh north ocean prairie quarry reef"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path)


def settings_for(folder: Path, **environ: str) -> Settings:
    config = folder / "stillhouse.toml"
    config.write_text(CONFIG)
    return load(config, environ, data=folder / "data")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = open_store(settings.store_url)
    upgrade(store)
    yield store
    store.close()


@contextmanager
def worker(settings: Settings, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of its own process; killed at the end when it still runs."""
    line = [sys.executable, "-m", "students.worker", "--config", str(tmp_path / "stillhouse.toml")]
    env = {**os.environ, **({"DATABASE_URL": settings.database_url} if settings.database_url else {})}
    with (tmp_path / "worker.log").open("ab") as log:
        process = subprocess.Popen([*line, "--data", str(settings.data)], stdout=log, stderr=log, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(met: Callable[[], bool], tmp_path: Path, within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()[-3000:]
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(timeout=20)


def spooled(settings: Settings, count: int) -> list[str]:
    """Finished exchanges as a gateway would have left them."""
    words = WORDS.split()
    spool = open_spool(settings)
    ids = []
    for number in range(count):
        said = json.dumps({"category": "card" if number % 2 else "loan"})
        text = (
            f"ticket {words[number % 18]} {words[(number * 7 + 3) % 18]} {words[(number * 5 + 1) % 18]} number {number}"
        )
        one = Exchange(
            id=new_id(),
            started_at=time.time(),
            route="chat.completions",
            task="triage",
            session=f"s{number}",
            upstream="stand-in",
            served_model="large",
            status=200,
            duration_ms=5.0,
            request=json.dumps(
                {
                    "model": "large",
                    "messages": [{"role": "system", "content": "Sort it."}, {"role": "user", "content": text}],
                }
            ).encode(),
            response=json.dumps(
                {
                    "id": f"chatcmpl-{number}",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "large",
                    "choices": [
                        {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
                    ],
                    "usage": {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26},
                }
            ).encode(),
            response_type="application/json",
        )
        assert spool.append(encode(one))
        ids.append(one.id)
    spool.close()
    return ids


def count(store: Store, column: Any) -> int:
    with store.read() as connection:
        return int(connection.execute(select(func.count(column))).scalar_one())


def test_ships_scores_and_builds_then_stops_cleanly(database_url: str, tmp_path: Path) -> None:
    environ = {} if database_url.startswith("sqlite") else {"DATABASE_URL": database_url}
    settings = settings_for(tmp_path, **environ)
    store = open_store(settings.store_url)
    upgrade(store)
    ids = spooled(settings, 60)
    with worker(settings, tmp_path) as process:
        wait_for(lambda: count(store, exchanges.c.id) == len(ids), tmp_path)
        wait_for(lambda: count(store, scores.c.exchange_id) == len(ids), tmp_path)
        dataset_id = datasets.queue_build(store, "triage", datasets.Filters(), time.time)
        wait_for(lambda: datasets.load_card(store, dataset_id).state in ("ready", "failed"), tmp_path)
        assert stop(process) == 0
    card = datasets.load_card(store, dataset_id)
    assert (card.state, card.error) == ("ready", None)
    with store.read() as connection:
        lease = select(tables.leases.c.ticked_at, tables.leases.c.expires_at).where(tables.leases.c.name == LEASE)
        ticked_at, expires_at = connection.execute(lease).one()
    store.close()
    assert time.time() - ticked_at < 60
    assert expires_at == 0.0  # the next controller need not wait
    assert (settings.data / "workflows.db").exists() is not bool(environ)  # they lie where the store lies


def test_a_dataset_that_cannot_be_built_says_why(settings: Settings, store: Store, tmp_path: Path) -> None:
    with worker(settings, tmp_path) as process:
        dataset_id = datasets.queue_build(store, "triage", datasets.Filters(), time.time)
        wait_for(lambda: datasets.load_card(store, dataset_id).state == "failed", tmp_path)
        assert stop(process, signal.SIGINT) == 0
    assert "no exchange passes" in str(datasets.load_card(store, dataset_id).error)


def test_killed_and_started_again_nothing_is_lost_or_doubled(settings: Settings, store: Store, tmp_path: Path) -> None:
    ids = set()
    for _ in range(2):
        ids |= set(spooled(settings, 300))
        with worker(settings, tmp_path) as process:
            before = len(ids) - 300
            wait_for(lambda before=before: count(store, exchanges.c.id) > before, tmp_path)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    with worker(settings, tmp_path) as process:
        wait_for(lambda: f':{process.pid}"' in (tmp_path / "worker.log").read_text(), tmp_path)  # it says that it runs
        wait_for(lambda: count(store, exchanges.c.id) == len(ids), tmp_path)
        assert stop(process) == 0
    with store.read() as connection:
        assert set(connection.execute(select(exchanges.c.id)).scalars()) == ids


def test_a_broken_configuration_stops_the_start_with_one_line(tmp_path: Path) -> None:
    config = tmp_path / "stillhouse.toml"
    config.write_text("[tasks.triage]\nteacher = 3\n")
    line = [sys.executable, "-m", "students.worker", "--config", str(config), "--data", str(tmp_path)]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "teacher" in ended.stderr
