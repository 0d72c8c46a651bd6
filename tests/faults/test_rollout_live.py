"""Rollouts under real traffic: two gateway processes, a worker and a student of its own process, over PostgreSQL.

A student that turns worse is rolled back, also while the store is away for a part of it; one that is killed at full
fails nobody. What the runs showed stands in docs/rollouts.md.
"""

import http.client
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from capture.db import Store, open_store
from capture.migrations import upgrade
from capture.prompts import fingerprint
from capture.settings import Settings, load
from capture.tasks import sync_tasks
from students import rollouts, steering
from students.assignment import FULL, arm_for
from students.rollouts import Rollout, load_rollout
from tests.factories.moving import begin_served
from tests.fakes import postgres
from tests.fakes.chat_server import ChatServer
from tests.fakes.door import Door
from tests.fakes.processes import family, free_port, wait_until
from tests.fakes.student_process import LABELS, StudentProcess, label_of, student_process

CONFIG = """
[gateway]
default_upstream = "stand-in"

[upstreams.stand-in]
base_url = "{url}"
worker_key_env = "WORKER_KEY"

[tasks.triage]
kind = "classification"
match = {{ model = "large" }}
teacher = {{ upstream = "stand-in", model = "large" }}
graders = {{ category = {{ type = "json_fields", against = "teacher", fields = {{ category = 1.0 }} }} }}

[tasks.triage.rollout]
shares = [0.5, 0.95]
margin = 0.05
minimum_pairs = 100000
minimum_sessions = 10
undecided_after_pairs = 200000
deadline_s = 20
watch_share = 1.0
guardrails = {{ category = {{ smallest = 0.02 }}, errors = {{ smallest = 0.02 }} }}
"""
SYSTEM = "Sort the ticket."
AT_ONCE = 4
WITHIN_S = 90.0
SHARE_GONE_WITHIN_S = 5.0
"""From the verdict on: gateways look at the store every second."""


@dataclass
class Replies:
    """What clients got, one entry a request."""

    statuses: Counter[int] = field(default_factory=Counter)
    arms: Counter[str] = field(default_factory=Counter)
    by_session: dict[str, set[str]] = field(default_factory=dict)
    students_last_at: float = 0.0
    """When the last request was made that the student was asked for, in Unix seconds."""

    def add(self, session: str, made_at: float, status: int, arm: str) -> None:
        self.statuses[status] += 1
        self.arms[arm] += 1
        self.by_session.setdefault(session, set()).add(arm)
        if arm != "teacher":
            self.students_last_at = max(self.students_last_at, made_at)

    @property
    def errors(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)


def request_of(text: str) -> dict[str, Any]:
    return {
        "model": "large",
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}],
    }


class Scene:
    """Two gateways, a worker, a teacher and a student. `ports` are the gateways'."""

    def __init__(self, store: Store, ports: list[int], student: StudentProcess, rollout: Rollout, door: Door) -> None:
        self.store, self.ports, self.student, self.rollout, self.door = store, ports, student, rollout, door
        self._numbers = itertools.count(1)
        self.replies = Replies()

    def traffic(self, sessions: int) -> Replies:
        """Each session asks once at either gateway, several at a time; what came back."""
        replies = Replies()
        asked = [f"session {number}" for number in itertools.islice(self._numbers, sessions)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for found in pool.map(self._session, asked):
                for reply in found:
                    for kept in (replies, self.replies):
                        kept.add(*reply)
        return replies

    def _session(self, session: str) -> list[tuple[str, float, int, str]]:
        label = LABELS[hash(session) % len(LABELS)]
        return [
            (session, time.time(), *ask(port, session, f"{session}: my {label} does not work")) for port in self.ports
        ]

    def state(self) -> Rollout:
        return load_rollout(self.store, self.rollout.id)

    def sees_the_student(self, port: int) -> bool:
        """Whether a gateway gives the student its sessions, as it does once it has seen the controller's first tick."""
        session = next(name for name in map(str, itertools.count()) if self._arm(name, 0.5) == "student")
        return ask(port, session, "is my card there?")[1] == "student"

    def _arm(self, session: str, share: float) -> str:
        return arm_for(self.rollout.id, session, share)

    def until_everybody_asks(self, arms: set[str]) -> float:
        """Traffic until only these arms answer at both gateways; after how many seconds that began."""
        began = time.monotonic()
        while set((replies := self.traffic(12)).arms) - arms:
            assert time.monotonic() - began < WITHIN_S, replies.arms
        return time.monotonic() - began


def ask(port: int, session: str, text: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/json", "authorization": "Bearer sk", "x-stillhouse-session": session}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(request_of(text)), headers)
        reply = connection.getresponse()
        reply.read()
        return reply.status, reply.headers.get("x-stillhouse-arm", "none")
    finally:
        connection.close()


def teacher(request: dict[str, Any]) -> str:
    return json.dumps({"category": label_of(request["messages"][-1]["content"])})


@contextmanager
def process(*words: str, log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        found = subprocess.Popen(
            [sys.executable, "-m", *words], stdout=out, stderr=out, env={**os.environ, "WORKER_KEY": "sk-w", **environ}
        )
        try:
            yield found
        finally:
            for one in family(found.pid):
                one.kill()
            found.wait()


@pytest.fixture
def scene(tmp_path: Path, postgres_url: str) -> Iterator[Scene]:
    with ExitStack() as stack:
        database = postgres.new_database(postgres_url)
        door = stack.enter_context(Door(socket_of(database)))
        url = f"postgresql://postgres@127.0.0.1:{door.port}{urlsplit(database).path}"
        student = stack.enter_context(student_process(tmp_path, free_port()))
        upstream = stack.enter_context(ChatServer(teacher))
        config = tmp_path / "stillhouse.toml"
        config.write_text(CONFIG.format(url=upstream.url))
        settings = load(config, {"DATABASE_URL": database}, data=tmp_path / "data")
        store = open_store(settings.store_url)
        stack.callback(store.close)
        upgrade(store)
        sync_tasks(store, settings)
        rollout = begin(store, settings, student.url)
        options = ("--config", str(config), "--data", str(settings.data))
        stack.enter_context(process("students.worker", *options, log=tmp_path / "worker.log", DATABASE_URL=url))
        ports = [free_port(), free_port()]
        for number, port in enumerate(ports):
            where = ("--port", str(port), "--metrics-port", "0")
            log = tmp_path / f"gateway-{number}.log"
            stack.enter_context(process("gateway", *options, *where, log=log, DATABASE_URL=url))
        for port in ports:
            wait_until(lambda port=port: health(port, "/healthz") is not None)
        scene = Scene(store, ports, student, rollout, door)
        wait_until(lambda: all(scene.sees_the_student(port) for port in ports))
        yield scene


def socket_of(database: str) -> str:
    """The Unix socket behind a PostgreSQL URL."""
    folder = parse_qs(urlsplit(database).query)["host"][0]
    return next(str(path) for path in Path(folder).glob(".s.PGSQL.*") if path.is_socket())


def health(port: int, path: str) -> bytes | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        said = reply.read()
        return said if reply.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


def begin(store: Store, settings: Settings, url: str) -> Rollout:
    """A rollout whose student is up, moved to half of the traffic by a person."""
    rollout = begin_served(store, settings.tasks["triage"], fingerprint(request_of("")), url)
    return steering.promote(store, rollout.id, "tester", "a test begins at half", time.time)


@pytest.mark.timeout(280)
def test_a_student_ten_points_worse_at_half_is_rolled_back_though_the_store_goes_away(scene: Scene) -> None:
    good = scene.traffic(60)
    assert good.errors == 0
    assert_sticky(good, scene.rollout.id, 0.5)
    assert scene.state().state == "running"

    scene.student.errs_at(0.1)
    worse_at = time.time()
    scene.traffic(20)
    scene.door.shut()
    while not all(b"degraded" in (health(port, "/readyz") or b"") for port in scene.ports):
        assert time.time() - worse_at < WITHIN_S
        scene.traffic(4)
    away = scene.traffic(60)
    assert_sticky(away, scene.rollout.id, 0.5)  # by the last snapshot
    scene.door.open()

    deadline = time.monotonic() + 200
    while scene.state().state == "running":
        assert time.monotonic() < deadline, rollouts.list_verdicts(scene.store, scene.rollout.id)
        scene.traffic(20)
    back_after_s = scene.until_everybody_asks({"teacher"})
    assert scene.state().state == "rolled_back"
    last = rollouts.list_verdicts(scene.store, scene.rollout.id)[-1]
    assert (last.kind, last.share) == ("roll_back", 0.0)
    assert last.reason in ("harm", "gate_refuted", "drift")
    assert scene.replies.students_last_at - last.at <= SHARE_GONE_WITHIN_S
    assert scene.replies.errors == 0
    tell(f"{dict(scene.replies.arms)}; {last.at - worse_at:.1f} s, then {back_after_s:.1f} s; {last.sentence}")


@pytest.mark.timeout(280)
def test_a_student_killed_at_full_fails_nobody(scene: Scene) -> None:
    steering.promote(scene.store, scene.rollout.id, "tester", "a test at full", time.time)
    began = time.monotonic()
    while True:  # the gateways look at the store every second
        at_full = scene.traffic(40)
        if at_full.arms["student"] >= 0.85 * sum(at_full.arms.values()):
            break
        assert time.monotonic() - began < WITHIN_S
    assert at_full.errors == 0
    with ThreadPoolExecutor(1) as beside:
        before = sum(scene.replies.arms.values())
        under_way = beside.submit(scene.traffic, 120)
        wait_until(lambda: sum(scene.replies.arms.values()) > before + 20)
        scene.student.kill()
        assert under_way.result().errors == 0
    killed = scene.traffic(40)
    assert killed.errors == 0
    assert "student" not in killed.arms
    assert killed.arms["fallback"] + killed.arms["teacher"] == 80
    assert_sticky(killed, scene.rollout.id, FULL, student="fallback")
    scene.student.start()
    back_after_s = scene.until_everybody_asks({"student", "teacher"})
    assert scene.replies.errors == 0
    tell(f"{dict(scene.replies.arms)}; answered by the student again after {back_after_s:.1f} s")


def tell(shown: str) -> None:
    """For docs/rollouts.md: pytest -s shows it."""
    sys.stdout.write(f"\n{shown}\n")


def assert_sticky(replies: Replies, rollout_id: str, share: float, student: str = "student") -> None:
    """Both gateways gave each session the arm that its hash says."""
    for session, arms in replies.by_session.items():
        expected = student if arm_for(rollout_id, session, share) == "student" else "teacher"
        assert arms == {expected}, session
