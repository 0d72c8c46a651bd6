"""A whole rollout through the worker's own process: traffic spooled, truths by feedback, shares moved by verdicts."""

import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import students.tables as tables
from capture.db import Store, open_store
from capture.exchange import Arm, Assignment, Exchange, encode
from capture.feedback import Feedback, record
from capture.ids import new_id
from capture.migrations import upgrade
from capture.prompts import fingerprint
from capture.settings import Settings, load
from capture.spool import Spool, open_spool
from students import rollouts
from students.assignment import arm_for
from students.registry import load_student
from students.rollouts import Rollout, load_rollout
from tests.factories.judged import JUDGE, LABELS, judge, license_judges
from tests.factories.moving import begin_served
from tests.fakes.chat_server import ChatServer
from tests.students.test_worker import stop, worker

CONFIG = """
[upstreams.stand-in]
base_url = "{url}"
worker_key_env = "WORKER_KEY"

[upstreams.court]
base_url = "{court}"
worker_key_env = "COURT_KEY"

[prices.judge-1]
input = 0.01
output = 0.01

[tasks.triage]
kind = "classification"
label = "/category"
teacher = {{ upstream = "stand-in", model = "large" }}
judges = {{ upstreams = ["court"] }}

[tasks.triage.graders]
category = {{ type = "json_fields", against = "truth", fields = {{ category = 1.0 }} }}
fit = {judge}

[tasks.triage.rollout]
gates = ["category", "fit"]
shares = [0.5, 0.95]
margin = 0.1
minimum_pairs = 10
minimum_sessions = 10
watch_share = 1.0
"""


def label_of_ticket(text: str) -> str:
    return next(label for label in LABELS if label in text)


class Reader:
    """A model that is wrong now and then, by a hash of what it reads and of its own name."""

    def __init__(self, name: str, wrong: float) -> None:
        self.name, self.wrong = name, wrong

    def __call__(self, request: dict[str, Any]) -> str:
        text = request["messages"][-1]["content"]
        errs = random.Random(f"{self.name} {text}").random() < self.wrong
        return json.dumps({"category": "other" if errs else label_of_ticket(text)})


class World:
    """The app and the gateway in one: assigns sessions, answers, spools what a gateway would, reports truths."""

    def __init__(self, store: Store, spool: Spool, teacher: Reader, student: Reader) -> None:
        self.store, self.spool, self.teacher, self.student = store, spool, teacher, student
        self.name = ""  # that the student answers under
        self.numbers = itertools.count(1)
        self.bad_answers = 0

    def traffic(self, rollout: Rollout, tickets: int) -> None:
        for number in itertools.islice(self.numbers, tickets):
            label = LABELS[number % len(LABELS)]
            request = request_of(f"ticket {number}: my {label} does not work")
            session = f"session {number}"
            assignment = Assignment(arm_for(rollout.id, session, rollout.share))
            arm = Arm.STUDENT if assignment == Assignment.STUDENT else Arm.TEACHER
            said = (self.student if arm == Arm.STUDENT else self.teacher)(request)
            self.bad_answers += arm == Arm.STUDENT and label not in said
            noted = {"session": session, "rollout": rollout.id, "student": self.name}
            one = exchange(request, said, assignment=assignment, arm=arm, **noted)
            assert self.spool.append(encode(one))
            truth = Feedback(id=one.id, kind="truth", value={"category": label})
            record(self.store, truth, None, time.time, lambda _id, value: value)

    def until(self, rollout_id: str, states: set[str], log: Path) -> Rollout:
        deadline = time.monotonic() + 240  # a whole rollout, with a judge, on cores that others share
        while (rollout := load_rollout(self.store, rollout_id)).state not in states:
            assert time.monotonic() < deadline, (rollout.state, rollout.stage, log.read_text()[-3000:])
            self.traffic(rollout, 12)
            time.sleep(0.3)
        return rollout


def request_of(text: str) -> dict[str, Any]:
    return {
        "model": "large",
        "messages": [{"role": "system", "content": "Sort it."}, {"role": "user", "content": text}],
    }


def exchange(request: dict[str, Any], said: str, **changes: Any) -> Exchange:
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    body = {"id": new_id("chatcmpl-"), "object": "chat.completion", "created": 0, "model": "large", "choices": [choice]}
    return Exchange(
        id=new_id(),
        started_at=time.time(),
        route="chat.completions",
        task="triage",
        fingerprint=fingerprint(request),
        upstream="stand-in",
        status=200,
        duration_ms=5.0,
        request=json.dumps(request).encode(),
        response=json.dumps(body).encode(),
        response_type="application/json",
        **changes,
    )


@pytest.fixture
def teacher_server() -> Iterator[ChatServer]:
    with ChatServer(Reader("teacher", 0.08)) as server:
        yield server


@pytest.fixture
def court() -> Iterator[ChatServer]:
    with ChatServer(judge) as server:
        yield server


@pytest.fixture
def settings(
    tmp_path: Path, teacher_server: ChatServer, court: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setenv("WORKER_KEY", "sk-worker")
    monkeypatch.setenv("COURT_KEY", "sk-court")
    config = tmp_path / "stillhouse.toml"
    fit = ", ".join(f"{name} = {json.dumps(value)}" for name, value in JUDGE.items())
    config.write_text(CONFIG.format(url=teacher_server.url, court=court.url, judge=f"{{ {fit} }}"))
    return load(config, {}, data=tmp_path / "data")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = open_store(settings.store_url)
    upgrade(store)
    yield store
    store.close()


def begin(store: Store, settings: Settings, url: str) -> Rollout:
    license_judges(store, settings, settings.tasks["triage"])
    return begin_served(store, settings.tasks["triage"], fingerprint(request_of("")), url)


def test_to_full_by_proof_and_back_by_proof(settings: Settings, store: Store, tmp_path: Path) -> None:
    student = Reader("student", 0.08)
    spool = open_spool(settings)
    world = World(store, spool, Reader("teacher", 0.08), student)
    with ChatServer(student) as server, worker(settings, tmp_path) as process:
        rollout = begin(store, settings, server.url)
        world.name = load_student(store, rollout.student_id).name
        full = world.until(rollout.id, {"full", "rolled_back"}, tmp_path / "worker.log")
        assert (full.state, full.share) == ("full", 0.95)
        student.wrong = 0.9
        world.bad_answers = 0
        back = world.until(rollout.id, {"rolled_back"}, tmp_path / "worker.log")
        assert back.share == 0.0
        assert stop(process) == 0
    spool.close()
    kinds = [verdict.kind for verdict in rollouts.list_verdicts(store, rollout.id)]
    assert kinds.count("advance") == 2
    assert kinds[-1] == "roll_back"
    assert 0 < world.bad_answers < 400
    with store.read() as connection:
        assert set(connection.execute(select(tables.pairs.c.served)).scalars()) == {True, False}
        consumed = tables.pairs.c.state == "consumed"
        judged = connection.execute(select(tables.pairs.c.differences).where(consumed)).scalars()
        assert all({"category", "fit"} <= found.keys() for found in judged)


def test_a_bad_student_never_leaves_shadow(settings: Settings, store: Store, tmp_path: Path) -> None:
    student = Reader("student", 0.6)
    spool = open_spool(settings)
    world = World(store, spool, Reader("teacher", 0.08), student)
    with ChatServer(student) as server, worker(settings, tmp_path) as process:
        rollout = begin(store, settings, server.url)
        world.name = load_student(store, rollout.student_id).name
        ended = world.until(rollout.id, {"full", "rolled_back"}, tmp_path / "worker.log")
        assert stop(process) == 0
    spool.close()
    assert (ended.state, ended.stage) == ("rolled_back", 0)
    assert world.bad_answers == 0
