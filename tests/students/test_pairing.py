"""Pairs: asked beside the traffic from real servers, kept once a session and day, scored when their truth comes."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from structlog.testing import capture_logs

import students.tables as tables
from capture.db import Store
from capture.exchange import Answer, Arm, Exchange, Usage
from capture.feedback import Feedback, record
from capture.graders.means import Python
from capture.graders.python_process import PythonProcesses
from capture.ids import new_id
from capture.prompts import fingerprint
from capture.redact import Redacted, Redactor
from capture.settings import (
    GraderSettings,
    JudgeSettings,
    PriceSettings,
    PythonGraderSettings,
    RolloutSettings,
    Settings,
    TaskSettings,
    TeacherSettings,
    UpstreamSettings,
    ViewSettings,
)
from capture.tables import exchanges
from students.clients import Client
from students.heavy_keys import HEAVY, WINDOW
from students.pairing import Candidate, Pairer, Stored, candidate
from students.pairs import Sweeper, forget_answers, forget_erased, read_output, written
from students.registry import Training, register_local, register_upstream
from students.rollout_start import Start, start
from students.rollouts import Rollout, load_rollout
from students.steering import promote
from students.workshop import Workshop
from tests.factories.judged import JUDGE
from tests.fakes.chat_server import ChatServer

NOW = 1_800_000_000.0
TRUTH_GRADER = {"category": GraderSettings(type="json_fields", against="truth", fields={"category": 1.0})}
TEACHER_GRADER = {"same": GraderSettings(type="json_fields", against="teacher", fields={"category": 1.0})}


def request_of(text: str) -> dict[str, Any]:
    return {
        "model": "large",
        "temperature": 0.3,
        "messages": [{"role": "system", "content": "Sort the ticket."}, {"role": "user", "content": text}],
    }


def task_of(graders: dict[str, GraderSettings], **rollout: Any) -> TaskSettings:
    return TaskSettings(
        kind="classification",
        label="/category",
        teacher=TeacherSettings(upstream="stand-in", model="large"),
        graders=graders,
        rollout=RolloutSettings(shares=(0.25, 0.95), margin=0.1, minimum_pairs=5, minimum_sessions=5, **rollout),
    )


def clock() -> float:
    return NOW


class Scene:
    """One task with a student, its server, a teacher, and a pairer between them."""

    def __init__(
        self,
        store: Store,
        teacher: ChatServer,
        student: ChatServer,
        task: TaskSettings,
        *,
        hosted: bool = False,
        python: Python | None = None,
    ) -> None:
        """`hosted`: the student is a model at an upstream of its own, asked with STUDENT_KEY."""
        self.store, self.task, self.python = store, task, python
        self.settings = Settings(
            upstreams={
                "stand-in": UpstreamSettings(base_url=teacher.url, worker_key_env="WORKER_KEY"),
                "own": UpstreamSettings(base_url=student.url, worker_key_env="STUDENT_KEY"),
            }
        )
        training = Training(
            fine_tune_id="ft_1",
            task="triage",
            base="tiny",
            dataset_id="ds_1",
            folder=None if hosted else "students/x",
            weights_hash=None if hosted else "0",
            view=ViewSettings(),
            fingerprints=[fingerprint(request_of(""))],
            tools=False,
            upstream="own" if hosted else None,
            upstream_model="small" if hosted else None,
        )
        self.student = register_local(store, training, clock)
        self.rollout = start(
            store, Start("triage", self.student.id, "tester", reason="a test", force=True), task, clock
        )
        self.serve(student.url)
        self.client = Client(pause=lambda _: None)
        self.pairer = self.new_pairer(self.client)

    def new_pairer(self, client: Client) -> Pairer:
        """As a worker that has just started."""
        shop = Workshop(self.store, self.settings, client, lambda: {"triage": self.task}, clock, python=self.python)
        redactor = Redactor(self.task.redaction, b"secret")

        def redact(_task: TaskSettings, request: dict[str, Any], answer: Answer, exchange_id: str) -> Redacted:
            """Answers as they are: those of these tests have no raw body."""
            return replace(redactor.redact(request, answer, exchange_id), answer=answer)

        return Pairer(shop, redact)

    def serve(self, url: str) -> None:
        with self.store.write() as connection:
            values = {"state": "ready", "url": url, "served_model": "served", "seen_at": NOW}
            connection.execute(tables.student_servers.update().values(values))

    def ask_all(
        self, offers: list[tuple[Exchange, dict[str, Any], Answer]], until: Callable[[], bool], kept: float = 1.0
    ) -> None:
        """`kept`: the probability that each was kept with."""
        self.pairer.refresh({"triage": self.task})
        self.pairer.start()
        try:
            for exchange, request, answer in offers:
                self.pairer.offer(Stored(exchange, request, answer, kept), "triage")
            deadline = time.monotonic() + 10
            while not until():
                assert time.monotonic() < deadline, dict(self.pairer.counts)
                time.sleep(0.005)
        finally:
            self.pairer.stop()
            self.client.close()

    def rows(self) -> list[Any]:
        with self.store.read() as connection:
            return list(connection.execute(select(tables.pairs).order_by(tables.pairs.c.created_at)).all())


def exchange(session: str, arm: Arm = Arm.TEACHER, rollout: Rollout | None = None, **changes: Any) -> Exchange:
    values = {
        "id": new_id(),
        "started_at": NOW,
        "route": "chat.completions",
        "task": "triage",
        "session": session,
        "rollout": rollout.id if rollout else None,
        "arm": arm,
        "upstream": "stand-in",
        "status": 200,
        "duration_ms": 10.0,
        "request": b"{}",
        **changes,
    }
    return Exchange(**values)


def saying(category: str) -> Answer:
    return Answer(message={"role": "assistant", "content": json.dumps({"category": category})}, usage=Usage(10, 5))


def test_shadow_waits_for_its_truth_and_then_counts(store: Store) -> None:
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        one = exchange("a")
        scene.ask_all([(one, request_of("my card is lost"), saying("loan"))], lambda: len(scene.rows()) == 1)
    row = scene.rows()[0]
    assert (row.state, row.differences, row.served) == ("waiting", {"refusals": 0.0}, False)
    assert "label" not in row.slices  # the teacher's answer is one of the two that are compared
    assert student.requests[0]["model"] == "served"
    assert student.requests[0]["temperature"] == 0.3
    assert teacher.requests == []  # a gate with truth needs no second answer of the teacher

    sweeper = Sweeper(store)
    assert sweeper.sweep({"triage": scene.task}) == 0
    put_exchange(store, one)
    record(store, Feedback(id=one.id, kind="truth", value={"category": "card"}), None, clock, lambda _id, value: value)
    assert sweeper.sweep({"triage": scene.task}) == 1
    row = scene.rows()[0]
    assert (row.state, row.differences) == ("scored", {"refusals": 0.0, "category": 1.0})
    assert (row.student_scores["category"], row.teacher_scores["category"]) == (1.0, 0.0)
    assert row.slices["label"] == "card"  # the truth's


def put_exchange(store: Store, one: Exchange, probability: float = 1.0) -> None:
    values = {
        "id": one.id,
        "started_at": one.started_at,
        "route": one.route,
        "task": one.task,
        "arm": one.arm,
        "upstream": one.upstream,
        "model": "large",
        "served_model": "large",
        "status": 200,
        "stream": False,
        "stored": False,
        "complete": True,
        "duration_ms": 1.0,
        "tokens_estimated": False,
        "metadata": {},
        "probability": probability,
        "holdout": False,
        "conversation": "c",
        "content_hash": "h",
        "redactions": 0,
        "preview": "",
    }
    with store.write() as connection:
        connection.execute(insert(exchanges).values(values))


@pytest.mark.usefixtures("worker_key")
def test_without_truth_the_teacher_is_asked_twice(store: Store) -> None:
    """score(student, t1) − score(t2, t1): a teacher that contradicts itself is no better than a student that does."""
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: '{"category": "x"}') as teacher:
        scene = Scene(store, teacher, student, task_of(TEACHER_GRADER))
        scene.ask_all([(exchange("a"), request_of("hello"), saying("card"))], lambda: len(scene.rows()) == 1)
    row = scene.rows()[0]
    assert (row.state, row.differences) == ("scored", {"same": 1.0, "refusals": 0.0})
    assert row.teacher_second == '{"category": "x"}'
    assert row.slices["label"] == "card"  # the teacher's first answer's; the second one is compared
    assert teacher.authorizations == ["Bearer sk-worker"]
    assert (teacher.requests[0]["model"], teacher.requests[0]["temperature"]) == ("large", 0.3)
    with store.read() as connection:
        spent = connection.execute(select(tables.spend)).one()
    assert (spent.purpose, spent.input_tokens, spent.output_tokens) == ("pairing", 10, 5)


@pytest.mark.usefixtures("worker_key")
def test_what_the_student_served_is_put_to_the_teacher(store: Store) -> None:
    with ChatServer(lambda _: "") as student, ChatServer(lambda _: '{"category": "card"}') as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        served = exchange("a", Arm.STUDENT, scene.rollout, student=scene.student.name)
        scene.ask_all([(served, request_of("hello"), saying("loan"))], lambda: len(scene.rows()) == 1)
    row = scene.rows()[0]
    assert (row.served, row.student_output, row.teacher_output) == (
        True,
        '{"category": "loan"}',
        '{"category": "card"}',
    )
    assert student.requests == []


@pytest.mark.usefixtures("worker_key")
def test_what_the_incumbent_answered_is_not_taken_for_the_newer_students_own(store: Store) -> None:
    """Under a newer rollout the incumbent answers what that leaves to the teacher: both arms have to be asked."""
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: '{"category": "x"}') as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        by_incumbent = exchange("a", Arm.STUDENT, scene.rollout, student="ft:older")
        scene.ask_all([(by_incumbent, request_of("hello"), saying("loan"))], lambda: len(scene.rows()) == 1)
    row = scene.rows()[0]
    assert (row.served, row.student_output, row.teacher_output) == (
        False,
        '{"category": "card"}',
        '{"category": "x"}',
    )


def test_built_in_metrics_and_declared_slices_need_no_grader_of_the_task(store: Store) -> None:
    task = task_of(TRUTH_GRADER, slices={"tier": "/metadata/tier", "who": "/metadata/who"})
    with ChatServer(lambda _: "I'm sorry, but I cannot help.") as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task)
        request = {**request_of("hello"), "metadata": {"tier": "gold", "who": "ann.smith@firm.de"}}
        scene.ask_all([(exchange("a"), request, saying("card"))], lambda: len(scene.rows()) == 1)
    row = scene.rows()[0]
    assert row.differences == {"refusals": -1.0}  # the task's own grader waits for its truth
    assert row.slices["tier"] == "gold"
    assert "@" in row.slices["who"]
    assert "ann" not in row.slices["who"]  # it is kept, and told with the evidence


def test_one_pair_a_session_and_day(store: Store) -> None:
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        offers = [(exchange("a"), request_of(f"hello {number}"), saying("card")) for number in range(5)]
        offers.append((exchange("b"), request_of("other"), saying("card")))
        offers.append((exchange("a", started_at=NOW + 86_400), request_of("tomorrow"), saying("card")))
        scene.ask_all(offers, lambda: len(scene.rows()) == 3)
        assert len(student.requests) == 3
        scene.client = Client()
        again = scene.pairer = scene.new_pairer(scene.client)
        scene.ask_all(offers, lambda: again.counts["session_has_a_pair"] == 3)
    assert len(scene.rows()) == 3
    assert len(student.requests) == 3


def test_who_stands_in_for_the_teacher_is_no_teacher(store: Store) -> None:
    """Its answers would be compared as the teacher's own; a model that the client named itself is what it would get."""
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        answered: list[dict[str, str]] = [
            {"upstream": "other", "model": "large", "served_model": "large"},
            {"upstream": "stand-in", "model": "triage", "served_model": "small"},
            {"upstream": "stand-in", "model": "tiny", "served_model": "small"},
            {"upstream": "stand-in", "model": "triage", "served_model": "large"},
            {"upstream": "other", "model": "small", "served_model": "small"},
        ]
        offers = [
            (exchange(f"session {number}", **changes), request_of("hello"), saying("card"))
            for number, changes in enumerate(answered)
        ]
        scene.ask_all(offers, lambda: len(scene.rows()) == 2)
    assert {row.exchange_id for row in scene.rows()} == {offer[0].id for offer in offers[3:]}
    assert scene.pairer.counts["fallback_of_the_teacher"] == 3


def test_without_a_worker_key_pairs_are_off_and_the_reason_is_told(store: Store) -> None:
    with ChatServer(lambda _: "") as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TEACHER_GRADER))
        offers = [(exchange("a"), request_of("hello"), saying("card"))]
        scene.ask_all(offers, lambda: scene.pairer.counts["held_back"] == 1)
        assert teacher.requests == []
    assert "worker key" in scene.pairer.obstacles[scene.rollout.id]


@pytest.mark.usefixtures("worker_key")
def test_pairs_stop_when_the_rate_limit_is_nearly_used_up(store: Store) -> None:
    headers = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "19"}
    with (
        ChatServer(lambda _: '{"category": "x"}') as student,
        ChatServer(lambda _: '{"category": "x"}', headers) as teacher,
    ):
        scene = Scene(store, teacher, student, task_of(TEACHER_GRADER))
        first = [(exchange("a"), request_of("hello"), saying("card"))]
        scene.ask_all(first, lambda: len(scene.rows()) == 1)
        scene.client = scene.pairer._client = Client()
        offers = [(exchange("b"), request_of("hello"), saying("card"))]
        scene.ask_all(offers, lambda: scene.pairer.counts["held_back"] == 1)
        assert len(teacher.requests) == 1
    assert "rate limit" in scene.pairer.obstacles[scene.rollout.id]


@pytest.mark.usefixtures("worker_key")
def test_pairs_stop_at_the_spend_cap(store: Store) -> None:
    with ChatServer(lambda _: '{"category": "x"}') as student, ChatServer(lambda _: '{"category": "x"}') as teacher:
        scene = Scene(store, teacher, student, task_of(TEACHER_GRADER, spend_cap_usd=1.0))
        scene.settings.prices["large"] = PriceSettings(input=100_000, output=0)  # one dollar for 10 tokens
        scene.ask_all([(exchange("a"), request_of("hello"), saying("card"))], lambda: len(scene.rows()) == 1)
        scene.client = scene.pairer._client = Client()
        offers = [(exchange("b"), request_of("hello"), saying("card"))]
        scene.ask_all(offers, lambda: scene.pairer.counts["held_back"] == 1)
        assert len(teacher.requests) == 1
    assert "spend cap" in scene.pairer.obstacles[scene.rollout.id]


@pytest.mark.usefixtures("worker_key")
@pytest.mark.parametrize("against", ["truth", "teacher"])
def test_a_grader_that_cannot_score_here_is_neither_waited_nor_paid_for(store: Store, against: str) -> None:
    code = {"type": "python", "against": against, "source": "def grade(sample, item): return item['reference']"}
    graders = {"shape": GraderSettings(type="empty"), "code": GraderSettings.model_validate(code)}
    with ChatServer(lambda _: "card") as student, ChatServer(lambda _: "card") as teacher:
        scene = Scene(store, teacher, student, task_of(graders, gates=("shape", "code")))
        scene.ask_all([(exchange("a"), request_of("hello"), saying("card"))], lambda: len(scene.rows()) == 1)
        assert teacher.requests == []
    assert (scene.rows()[0].state, scene.rows()[0].differences) == ("scored", {"shape": 0.0, "refusals": 0.0})


def test_a_python_grader_scores_both_sides_of_a_pair_where_it_may_run(store: Store) -> None:
    code = {"type": "python", "source": "def grade(sample, item): return 1 / (sample['output_text'] != 'boom')"}
    graders = {"shape": GraderSettings(type="empty"), "code": GraderSettings.model_validate(code)}
    python = PythonProcesses(PythonGraderSettings(allowed=True))
    with ChatServer(lambda _: "boom") as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(graders, gates=("shape", "code")), python=python)
        offers = [(exchange("a"), request_of("hello"), saying("card"))]
        scene.ask_all(offers, lambda: len(scene.rows()) == 1)
    python.close()
    row = scene.rows()[0]
    assert (row.state, row.student_scores["code"], row.differences["code"]) == ("scored", 0.0, -1.0)


def test_a_pair_waits_for_its_judges_where_its_rollout_decides_by_one(store: Store) -> None:
    allowed = task_of(TRUTH_GRADER).model_copy(update={"judges": JudgeSettings(upstreams=("court",))})
    tone = GraderSettings.model_validate(JUDGE)
    task = allowed.model_copy(update={"graders": {**TRUTH_GRADER, "tone": tone}})
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task)
        for gates in (("category",), ("category", "tone")):
            policy = scene.rollout.policy.model_copy(update={"gates": gates, "guardrails": {}})
            with store.write() as connection:
                connection.execute(update(tables.rollouts).values(policy=policy.model_dump(mode="json")))
            scene.client = Client()
            scene.pairer = scene.new_pairer(scene.client)
            offers = [(exchange(gates[-1]), request_of("hello"), saying("card"))]
            scene.ask_all(offers, lambda gates=gates: len(scene.rows()) == len(gates))
    assert {row.state for row in scene.rows()} == {"waiting", "judging"}


@pytest.mark.usefixtures("worker_key")
def test_the_teacher_is_not_paid_while_the_student_is_away(store: Store) -> None:
    with ChatServer(lambda _: "") as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TEACHER_GRADER))
        scene.serve("http://127.0.0.1:1/v1")
        offers = [(exchange("a"), request_of("hello"), saying("card"))]
        scene.ask_all(offers, lambda: scene.pairer.counts["student_away"] == 1)
        assert teacher.requests == []
    assert "does not answer" in scene.pairer.obstacles[scene.rollout.id]


@pytest.mark.usefixtures("worker_key")
def test_a_student_at_an_upstream_without_a_key_is_an_obstacle_that_is_told(store: Store) -> None:
    with ChatServer(lambda _: "") as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TEACHER_GRADER), hosted=True)
        offers = [(exchange("a"), request_of("hello"), saying("card"))]
        scene.ask_all(offers, lambda: scene.pairer.counts["student_away"] == 1)
        assert teacher.requests == student.requests == []
    assert "upstream own has no worker key" in scene.pairer.obstacles[scene.rollout.id]


def test_an_upstream_that_has_no_room_for_the_student_is_away_and_no_error_of_its(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDENT_KEY", "sk-student")
    statuses = iter([429, 503, 429])

    def answer(_: dict[str, Any]) -> Any:
        status = next(statuses, None)
        return '{"category": "card"}' if status is None else (status, {"error": {"message": "not now"}})

    with ChatServer(answer) as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER), hosted=True)
        offers = [(exchange("a"), request_of("hello"), saying("card"))]
        scene.ask_all(offers, lambda: scene.pairer.counts["student_away"] == 1)
        assert "answers for the student with status 503" in scene.pairer.obstacles[scene.rollout.id]
        assert scene.rows() == []
        scene.client = scene.pairer._client = Client(pause=lambda _: None)
        scene.ask_all(offers, lambda: len(scene.rows()) == 1)
        assert len(student.requests) == 4
    assert (scene.rows()[0].student_output, scene.rows()[0].student_error) == ('{"category": "card"}', None)


def test_a_task_that_cannot_be_graded_stops_no_other(store: Store) -> None:
    half = {"type": "multi", "graders": {"shape": {"type": "empty"}}, "calculate_output": "shape +"}
    broken = task_of({"half": GraderSettings.model_validate(half)})
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        own = ("own", scene.settings.upstreams)
        other = register_upstream(store, "other", "small", own, ViewSettings(), clock)
        asked = Start("other", other.id, "tester", reason="a test", force=True)
        rollout = start(store, asked, task_of(TRUTH_GRADER), clock)
        one = exchange("a")
        with capture_logs() as logs:
            for _ in range(3):
                scene.pairer.refresh({"triage": scene.task, "other": broken})
            assert scene.pairer.obstacles.keys() == {rollout.id}
            assert "calculate_output" in scene.pairer.obstacles[rollout.id]
        assert [line["task"] for line in logs] == ["other"]
        scene.ask_all([(one, request_of("hello"), saying("card"))], lambda: len(scene.rows()) == 1)
    put_exchange(store, one)
    record(store, Feedback(id=one.id, kind="truth", value={"category": "card"}), None, clock, lambda _id, value: value)
    sweeper = Sweeper(store)
    assert sweeper.sweep({"triage": broken}) == 0
    assert sweeper.sweep({"triage": scene.task}) == 1
    scene.pairer.refresh({"triage": scene.task, "other": scene.task})
    assert scene.pairer.obstacles == {}


@pytest.mark.parametrize(
    ("changes", "request_changes", "word"),
    [
        ({"status": 500}, {}, "unanswered"),
        ({"complete": False}, {}, "unanswered"),
        ({}, {"n": 2}, "ineligible"),
        ({}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "ineligible"),
    ],
)
def test_what_is_no_evidence_is_counted_and_not_asked(
    store: Store, changes: dict[str, Any], request_changes: dict[str, Any], word: str
) -> None:
    with ChatServer(lambda _: "") as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        offers = [(exchange("a", **changes), {**request_of("hello"), **request_changes}, saying("card"))]
        scene.ask_all(offers, lambda: scene.pairer.counts[word] == 1)
        assert student.requests == []


def test_tools_of_the_responses_api_are_no_pair_whatever_the_student_was_proven_on(store: Store) -> None:
    with ChatServer(lambda _: "") as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        scene.pairer.refresh({"triage": scene.task})
        (watching,) = scene.pairer._live["triage"]
        able = replace(watching, student=replace(watching.student, tools=True))
        asked = {"model": "large", "store": False, "input": "hello"}
        plain = Stored(exchange("a", route="responses"), asked, saying("card"), 1.0)
        assert isinstance(candidate(able, plain), Candidate)
        with_tools = replace(plain, request={**asked, "tools": [{"type": "function", "name": "f"}]})
        assert candidate(able, with_tools) == "ineligible"


def test_a_prompt_that_was_never_seen_is_shadowed_apart(store: Store) -> None:
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        new = {**request_of("hello")}
        new["messages"] = [{"role": "system", "content": "Another prompt."}, new["messages"][1]]
        scene.ask_all([(exchange("a"), new, saying("card"))], lambda: len(scene.rows()) == 1)
    assert scene.rows()[0].slices["unproven"] == "prompt"


def test_a_student_that_errs_scores_nothing_and_one_that_is_away_is_no_pair(store: Store) -> None:
    with ChatServer(lambda _: (500, {"error": {"message": "no"}})) as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        scene.ask_all([(exchange("a"), request_of("hello"), saying("card"))], lambda: len(scene.rows()) == 1)
    assert (scene.rows()[0].student_output, scene.rows()[0].student_error) == (None, "status 500")
    scene.client = scene.pairer._client = Client()
    offers = [(exchange("b"), request_of("hello"), saying("card"))]
    scene.ask_all(offers, lambda: scene.pairer.counts["student_away"] == 1)
    assert len(scene.rows()) == 1


def test_the_sampled_share_is_a_keyed_hash(store: Store) -> None:
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER, pair_share=0.3))
        offers = [(exchange(f"session {n}"), request_of("hello"), saying("card")) for n in range(200)]
        counts = scene.pairer.counts
        scene.ask_all(offers, lambda: counts["paired:shadow"] + counts["not_sampled"] == 200)
    assert 35 <= counts["paired:shadow"] <= 90
    assert {row.probability for row in scene.rows()} == {0.3}


def test_a_pair_has_the_probability_that_its_exchange_was_kept_with(store: Store) -> None:
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        offers = [(exchange("a"), request_of("hello"), saying("card"))]
        scene.ask_all(offers, lambda: len(scene.rows()) == 1, kept=0.25)
    assert scene.rows()[0].probability == 0.25


def test_each_request_of_a_key_with_too_much_of_the_traffic_stands_for_itself(store: Store) -> None:
    """An app that names one user for all of its clients would else bring one pair a day."""
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        scene.pairer.refresh({"triage": scene.task})
        for _ in range(int(HEAVY * WINDOW)):
            scene.pairer.offer(Stored(exchange("the app"), request_of("hello"), saying("card"), 1.0), "triage")
        assert len(scene.pairer._claims) == 1
        offers = [(exchange("the app"), request_of("hello"), saying("card")) for _ in range(5)]
        offers += [(exchange("a client"), request_of("hello"), saying("card")) for _ in range(5)]
        scene.ask_all(offers, lambda: len(scene.rows()) == 7)
    assert len({row.session for row in scene.rows()}) == 7


def test_at_full_a_smaller_share_is_watched(store: Store) -> None:
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER, watch_share=0.2))
        for _ in range(2):
            promote(store, scene.rollout.id, "tester", "a test", clock)
        offers = [(exchange(f"session {n}"), request_of("hello"), saying("card")) for n in range(200)]
        counts = scene.pairer.counts
        scene.ask_all(offers, lambda: counts["paired:shadow"] + counts["not_sampled"] == 200)
    assert 20 <= counts["paired:shadow"] <= 65


def test_a_full_queue_drops_and_counts(store: Store) -> None:
    with ChatServer(lambda _: "") as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        scene.pairer.refresh({"triage": scene.task})
        for number in range(300):  # nobody takes anything out: the threads were not started
            stored = Stored(exchange(f"session {number}"), request_of("hello"), saying("card"), 1.0)
            scene.pairer.offer(stored, "triage")
        scene.client.close()
    assert scene.pairer.counts["dropped:queue_full"] == 300 - 256


def test_erased_exchanges_take_their_pairs_along(store: Store) -> None:
    from capture.tables import tombstones

    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        one = exchange("a")
        scene.ask_all([(one, request_of("hello"), saying("card"))], lambda: len(scene.rows()) == 1)
    with store.write() as connection:
        connection.execute(insert(tombstones).values(exchange_id=one.id, who="tester", erased_at=NOW))
    assert forget_erased(store) == 1
    assert scene.rows() == []


def test_exchanges_that_expire_take_their_pairs_answers_along_and_leave_the_evidence(store: Store) -> None:
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: '{"category": "x"}') as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER | TEACHER_GRADER))
        offers = [(exchange(session), request_of("hello"), saying("card")) for session in "abc"]
        scene.ask_all(offers, lambda: len(scene.rows()) == 3)
    with store.write() as connection:
        ids = [one.id for one, _, _ in offers]
        scored = tables.pairs.c.exchange_id == ids[0]
        connection.execute(update(tables.pairs).where(scored).values(state="consumed"))
        forget_answers(connection, ids[:2])
    rows = {row.exchange_id: row for row in scene.rows()}
    assert [rows[one].state for one in ids] == ["consumed", "void", "waiting"]
    for one in ids[:2]:
        assert (rows[one].teacher_output, rows[one].teacher_second, rows[one].student_output) == ("", None, None)
        assert rows[one].differences == rows[ids[2]].differences != {}
    assert rows[ids[2]].teacher_output
    assert forget_erased(store) == 0


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": '{"category": "card"}'},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    ],
)
def test_outputs_are_read_as_they_were_written(message: dict[str, Any]) -> None:
    assert read_output(written(Answer(message=message))).message == message


def test_promoted_rollouts_record_their_stage(store: Store) -> None:
    with ChatServer(lambda _: '{"category": "card"}') as student, ChatServer(lambda _: "") as teacher:
        scene = Scene(store, teacher, student, task_of(TRUTH_GRADER))
        promote(store, scene.rollout.id, "tester", "a test", clock)
        assert load_rollout(store, scene.rollout.id).stage == 1
        scene.ask_all([(exchange("a"), request_of("hello"), saying("card"))], lambda: len(scene.rows()) == 1)
    assert scene.rows()[0].stage == 1
