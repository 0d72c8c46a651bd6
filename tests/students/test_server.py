"""The student server as a process, with the tiny base: served when wanted, back after a kill, gone when told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

import students.tables as tables
from capture.db import Store, open_store
from capture.migrations import upgrade
from capture.settings import Settings, ViewSettings
from students.clients import Client, student_target
from students.registry import Training, ensure_base, load_student, register_local, server_of, unwant, want
from students.samples import sample_of
from tests.factories.examined import put_dataset
from tests.factories.store import new_store

NOW = 1_800_000_000.0


@contextmanager
def student_server(settings: Settings, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / "stillhouse.toml"
    config.write_text("[students]\nfirst_port = 19600\n")
    line = [sys.executable, "-m", "students.server", "--config", str(config), "--data", str(settings.data)]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(met: Callable[[], bool], folder: Path, within_s: float = 90) -> None:
    deadline = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline, (folder / "server.log").read_text()[-3000:]
        time.sleep(0.05)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = open_store(settings.store_url)
    upgrade(store)
    yield store
    store.close()


def pid_of(store: Store) -> int | None:
    with store.read() as connection:
        return connection.execute(select(tables.student_servers.c.pid)).scalar()


@pytest.mark.timeout(240)
def test_served_when_wanted_back_after_a_kill_gone_when_told(settings: Settings, store: Store, tmp_path: Path) -> None:
    base = ensure_base(store, "triage", "tiny", ViewSettings(max_tokens=8), time.time)
    want(store, base.id, time.time)

    def ready() -> bool:
        server = server_of(store, base.id)
        return server is not None and server.ready

    client = Client()
    with student_server(settings, tmp_path) as process:
        wait_for(ready, tmp_path)
        server = server_of(store, base.id)
        assert server is not None
        assert (server.capacity_per_s or 0) > 0
        request = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        assert client.ask(student_target(settings, base, server), request).error is None
        first = pid_of(store)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: ready() and pid_of(store) != first, tmp_path)
        second = pid_of(store)
        assert second is not None
        unwant(store, base.id)
        wait_for(lambda: not ready() and not psutil.pid_exists(second), tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    client.close()


@pytest.mark.timeout(120)
def test_a_student_whose_base_is_unknown_says_so(settings: Settings, store: Store, tmp_path: Path) -> None:
    stranger = ensure_base(store, "triage", "nobody-knows-it", ViewSettings(), time.time)
    want(store, stranger.id, time.time)
    with student_server(settings, tmp_path) as process:

        def told() -> bool:
            server = server_of(store, stranger.id)
            return server is not None and server.state == "dead"

        wait_for(told, tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    server = server_of(store, stranger.id)
    assert server is not None
    assert "nobody-knows-it" in str(server.detail)


def test_capacity_is_measured_with_what_the_student_will_be_asked(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put_dataset(store, "ds_1", 1)
    made = Training("ftjob-1", "triage", "tiny", "ds_1", "x", "w", ViewSettings(), ["f" * 16], tools=False)
    student = load_student(store, register_local(store, made, lambda: NOW).id)
    own = sample_of(store, student)
    assert (own.temperature, own.top_p) == (0.4, 1.0)  # as most rows have it: the server fixes them once
    assert [message["role"] for message in own.prompts[0]] == ["system", "user"]
    assert len(own.prompts) == 16
    assert own.max_tokens < student.view.max_tokens
    base = ensure_base(store, "triage", "tiny", ViewSettings(), lambda: NOW)
    assert sample_of(store, base).prompts == own.prompts
    elsewhere = ensure_base(store, "other", "tiny", ViewSettings(max_tokens=99), lambda: NOW)
    assert sample_of(store, elsewhere) == type(own)((), 0.0, 1.0, 99)
    store.close()
