"""Serving: real servers of the tiny model, warmed up, measured, started again when they die, gone when not wanted."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from students import bases
from students.keeping import Ports, command
from students.serving import ServedStudent, ServerState, Serving, serve_students

WITHIN_S = 60


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bases.pull("tiny", tmp_path_factory.mktemp("models"))


class Room:
    """A serving loop in a thread, with what it reported and what is wanted of it."""

    def __init__(self, serving: Serving) -> None:
        self.wanted: Sequence[ServedStudent] = ()
        self.states: list[ServerState] = []
        self._stop = threading.Event()
        arguments = (self.ask, self.states.append, self._stop, serving)
        self._thread = threading.Thread(target=serve_students, args=arguments)
        self._thread.start()

    def ask(self) -> Sequence[ServedStudent]:
        return self.wanted

    def until(
        self, state: str, after: int = 0, met: Callable[[ServerState], bool] = lambda _state: True
    ) -> ServerState:
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            found = [told for told in self.states[after:] if told.state == state and met(told)]
            if found:
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"never {state}: {self.states[-3:]}")

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(Serving(tmp_path / "logs", first_port=19600))
    yield room
    room.close()


def ask(state: ServerState, **more: Any) -> httpx2.Response:
    body = {"model": state.served_model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 6, **more}
    with httpx2.Client(trust_env=False) as client:
        return client.post(f"{state.url}/chat/completions", json=body, timeout=60)


@pytest.mark.timeout(180)
def test_served_measured_killed_and_back(room: Room, base: Path) -> None:
    room.wanted = (ServedStudent("st_1", base, max_tokens=8),)
    ready = room.until("ready")
    assert ready.capacity_per_s is not None
    assert ready.capacity_per_s > 0
    assert ready.url == "http://127.0.0.1:19600/v1"
    first, second = ask(ready), ask(ready, temperature=2.0)
    assert first.status_code == 200
    assert first.json()["model"] == ready.served_model == base.name
    assert str(base.parent) not in first.text
    assert first.json()["usage"]["completion_tokens"] <= 6
    said = [reply.json()["choices"][0]["message"]["content"] for reply in (first, second)]
    assert said[0] == said[1], "the warm-up's sampling holds for all"
    assert ask(ready, response_formats={}).status_code == 422

    seen = len(room.states)
    assert ready.pid is not None
    os.kill(ready.pid, signal.SIGKILL)
    assert "ended with -9" in str(room.until("dead", seen).detail)
    again = room.until("ready", seen)
    assert again.pid != ready.pid
    assert ask(again).status_code == 200

    room.wanted = ()
    room.until("stopped", seen)
    assert not psutil.pid_exists(again.pid or 0)


@pytest.mark.timeout(120)
def test_a_student_that_cannot_be_loaded_is_dead_with_a_reason(room: Room, tmp_path: Path) -> None:
    room.wanted = (ServedStudent("st_2", tmp_path / "nothing"),)
    dead = room.until("dead")
    assert "see " in str(dead.detail)
    assert (tmp_path / "logs" / "st_2.log").exists()
    assert "starting again in 0.5 s" in str(dead.detail)
    room.until("dead", 1, lambda told: "starting again in 1 s" in str(told.detail))


@pytest.mark.timeout(120)
def test_memory_is_bounded(tmp_path: Path, base: Path) -> None:
    room = Room(Serving(tmp_path / "logs", first_port=19620, memory_mb=20))
    try:
        room.wanted = (ServedStudent("st_3", base),)
        assert "memory_mb = 20" in str(room.until("dead").detail)
    finally:
        room.close()


def test_a_wish_that_cannot_be_read_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = threading.Event()
    stop = threading.Event()

    def away() -> Sequence[ServedStudent]:
        asked.set()
        raise OSError("the store is away")

    thread = threading.Thread(target=serve_students, args=(away, lambda _state: None, stop, Serving(tmp_path / "logs")))
    thread.start()
    assert asked.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert "the store is away" in caplog.text


def test_ports_are_not_handed_out_twice() -> None:
    ports = Ports("127.0.0.1", 19640)
    first, second = ports.take(), ports.take()
    assert first != second
    ports.give_back(first)
    assert ports.take() == first


def test_the_command_is_bound_to_loopback_and_to_its_memory(tmp_path: Path) -> None:
    line = command(ServedStudent("st_1", tmp_path), Serving(tmp_path / "logs", cache_tokens=1600), 9601)
    told = dict(pairwise(line))
    assert told["--host"] == "127.0.0.1"
    assert told["--port"] == "9601"
    assert told["serve"] == tmp_path.name
    assert told["--cb-num-blocks"] == "100"
    assert "--continuous-batching" in line
    assert "--trust-remote-code" not in line
