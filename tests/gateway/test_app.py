"""A whole gateway on real sockets, with the `openai` SDK unmodified in front and fakes behind it."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from capture.db import Store
from capture.exchange import Arm, Assignment
from capture.keys import KeyLimits, create
from capture.migrations import upgrade
from capture.redact import Redactor, load_secret
from capture.settings import RedactionSettings
from capture.tables import feedback
from capture.tasks import fingerprint
from students.assignment import arm_for
from tests.factories.requests import EVERY_FIELD
from tests.factories.rollouts import add_rollout, add_student, tick
from tests.factories.routing import settings_of
from tests.factories.store import add_exchange, answer_of
from tests.fakes.chatting import chatting
from tests.fakes.gateway import GatewayServer
from tests.fakes.upstream import ScriptedUpstream, answering, response

SYSTEM = "Sort the ticket."
ASKED: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": "I was charged twice"},
]
STUDENT_SESSION = next(f"s{n}" for n in range(1000) if arm_for("ro_1", f"s{n}", 0.25) == "student")
CONTROL_SESSION = next(f"s{n}" for n in range(1000) if arm_for("ro_1", f"s{n}", 0.25) == "control")


class Scene:
    """A gateway, its teacher, perhaps its student."""

    def __init__(self, gateway: GatewayServer, teacher: ScriptedUpstream, student: ScriptedUpstream | None) -> None:
        self.gateway, self.teacher, self.student = gateway, teacher, student
        self.store: Store = gateway.app.state.store

    def client(self, **options: Any) -> OpenAI:
        return OpenAI(base_url=self.gateway.url, api_key="sk-client", max_retries=0, **options)

    def sent(self, number: int = -1) -> dict[str, Any]:
        """A body that the teacher got."""
        found: dict[str, Any] = json.loads(self.teacher.requests[number].body)
        return found


Prepare = Callable[[Store, Path], None]


def nothing(_store: Store, _data: Path) -> None:
    """An empty store."""


@contextmanager
def scene(
    folder: Path,
    *,
    teacher: str = "teacher says",
    student: Callable[[dict[str, Any]], str] | str | None = None,
    keys: str = "off",
    prepare: Prepare = nothing,
) -> Iterator[Scene]:
    with ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream(chatting(teacher, "teacher")))
        settings = settings_of(
            folder,
            f"""
[gateway]
keys = "{keys}"
default_upstream = "openai"
[upstreams.openai]
base_url = "http://127.0.0.1:{upstream.port}/v1"
[tasks.triage]
match = {{ metadata = {{ app = "triage" }} }}
teacher = {{ upstream = "openai", model = "gpt-4.1" }}
""",
        )
        gateway = GatewayServer(settings)
        store: Store = gateway.app.state.store
        upgrade(store)
        small = None
        if student is not None:
            small = stack.enter_context(ScriptedUpstream(chatting(student, "student")))
            known = ({"messages": ASKED}, {"messages": ASKED, "response_format": JSON}, EVERY_FIELD)
            prints = [fingerprint(request) for request in known]
            add_student(store, f"http://127.0.0.1:{small.port}/v1", fingerprints=prints)
            add_rollout(store)
            tick(store, gateway.app.state.clock())
        prepare(store, settings.data)
        stack.enter_context(gateway)
        yield Scene(gateway, upstream, small)


JSON = {"type": "json_object"}


def test_the_sdk_through_the_gateway_unary_and_streamed(tmp_path: Path) -> None:
    with scene(tmp_path) as here, here.client() as client:
        reply = client.chat.completions.with_raw_response.create(
            model="gpt-4.1", messages=ASKED, metadata={"app": "triage"}
        )
        assert reply.parse().choices[0].message.content == "teacher says"
        assert (reply.headers["x-stillhouse-arm"], reply.headers["x-stillhouse-model"]) == ("teacher", "gpt-4.1")
        chunks = list(client.chat.completions.create(model="triage", messages=ASKED, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "teacher says"
        assert here.sent(0) == {"model": "gpt-4.1", "messages": ASKED}
        assert here.sent(1)["model"] == "gpt-4.1"
        assert here.teacher.requests[0].header(b"authorization") == b"Bearer sk-client"
        unary, streamed = here.gateway.exchanges
    assert unary.id == reply.headers["x-stillhouse-id"]
    assert (unary.task, streamed.task, streamed.stream) == ("triage", "triage", True)
    assert json.loads(unary.request)["metadata"] == {"app": "triage"}


def test_models_are_merged(tmp_path: Path) -> None:
    with scene(tmp_path, student="hi") as here, here.client() as client:
        names = [model.id for model in client.models.list()]
        assert names == ["model-of-teacher", "triage", "ft:small:triage:1"]
        assert client.models.retrieve("ft:small:triage:1").owned_by == "stillhouse"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nothing")


def test_health_and_every_unknown_route_in_openais_shape(tmp_path: Path) -> None:
    with scene(tmp_path) as here, httpx2.Client(base_url=f"http://127.0.0.1:{here.gateway.port}") as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/readyz").json() == {"status": "ok", "store": "ok"}
        for method, path, status in (
            ("GET", "/nope", 404),
            ("GET", "/feedback", 405),
            ("PUT", "/v1/chat/completions", 405),
        ):
            reply = http.request(method, path)
            assert reply.status_code == status
            assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


# students


def test_a_students_session_is_answered_by_the_student(tmp_path: Path) -> None:
    with scene(tmp_path, student="student says") as here, here.client() as client:
        for session, arm in ((STUDENT_SESSION, "student"), (CONTROL_SESSION, "teacher")):
            reply = client.chat.completions.with_raw_response.create(
                model="triage",
                messages=ASKED,
                max_completion_tokens=12,
                reasoning_effort="low",
                extra_headers={"x-stillhouse-session": session},
            )
            assert reply.headers["x-stillhouse-arm"] == arm
            assert reply.parse().choices[0].message.content == f"{arm} says"
        assert here.student is not None
        (asked,) = here.student.requests
        assert json.loads(asked.body) == {"model": "served-small", "messages": ASKED, "max_tokens": 12}
        assert asked.header(b"authorization") is None
        first, second = here.gateway.exchanges
    assert (first.arm, first.assignment, first.rollout) == (Arm.STUDENT, Assignment.STUDENT, "ro_1")
    assert first.fingerprint == fingerprint({"messages": ASKED})
    assert (first.student, first.served_model) == ("ft:small:triage:1", "ft:small:triage:1")
    assert (second.arm, second.assignment) == (Arm.TEACHER, Assignment.CONTROL)


def sent_by_the_sdk(client: OpenAI, session: str, **changes: Any) -> Any:
    """The answer to a request with every field that there is, but for `changes`."""
    fields = {**EVERY_FIELD, **changes}
    tomorrow = {"a_field_of_tomorrow": fields.pop("a_field_of_tomorrow")}
    headers = {"x-stillhouse-session": session}
    return client.chat.completions.with_raw_response.create(**fields, extra_body=tomorrow, extra_headers=headers)


def test_of_every_field_of_a_reasoning_models_request_the_student_gets_what_a_plain_server_takes(
    tmp_path: Path,
) -> None:
    with scene(tmp_path, student='{"category": "billing"}') as here, here.client() as client:
        reply = sent_by_the_sdk(client, STUDENT_SESSION)
        assert reply.headers["x-stillhouse-arm"] == "student"
        text = "".join(chunk.choices[0].delta.content or "" for chunk in reply.parse() if chunk.choices)
        assert json.loads(text) == {"category": "billing"}
        assert here.student is not None
        (asked,) = here.student.requests
        assert json.loads(asked.body) == {
            "model": "served-small",
            "messages": [
                {"role": "system", "content": "Sort.\nIn JSON."},
                {"role": "user", "content": "Charged twice"},
            ],
            "max_tokens": 40,
            "temperature": 0.3,
            "top_p": 0.9,
            "seed": 7,
            "stop": ["\n\n"],
            "stream": True,
        }
        sent_by_the_sdk(client, CONTROL_SESSION).parse().close()
        assert here.sent() == {name: value for name, value in EVERY_FIELD.items() if name != "metadata"}


TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modality"),
        ({"tools": [TOOL]}, "tools"),
        ({"messages": [{"role": "user", "content": "another prompt"}]}, "unknown_prompt_version"),
        ({"messages": [*EVERY_FIELD["messages"], {"role": "user", "content": "long " * 10_000}]}, "context"),
    ],
)
def test_what_the_student_may_not_answer_reaches_the_teacher_with_the_reason_counted(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with scene(tmp_path, student="{}") as here, here.client() as client:
        reply = sent_by_the_sdk(client, STUDENT_SESSION, stream=False, stream_options=None, **changes)
        assert reply.headers["x-stillhouse-arm"] == "teacher"
        assert here.student is not None
        assert here.student.requests == []
        assert here.sent()["messages"] == {**EVERY_FIELD, **changes}["messages"]
        assert here.gateway.app.state.tally.reasons == {("triage", reason): 1}


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_not_the_json_that_was_asked_for_never_leaves(tmp_path: Path, stream: bool) -> None:
    with scene(tmp_path, teacher='{"a":1}', student="no json") as here, here.client() as client:
        reply = client.chat.completions.with_raw_response.create(
            model="triage",
            messages=ASKED,
            response_format={"type": "json_object"},
            stream=stream,
            extra_headers={"x-stillhouse-session": STUDENT_SESSION},
        )
        parsed: Any = reply.parse()
        text = (
            "".join(chunk.choices[0].delta.content or "" for chunk in parsed)
            if stream
            else parsed.choices[0].message.content
        )
        assert text == '{"a":1}'
        assert reply.headers["x-stillhouse-arm"] == "fallback"
        (exchange,) = here.gateway.exchanges
    assert (exchange.arm, exchange.assignment) == (Arm.FALLBACK, Assignment.STUDENT)
    assert exchange.reason is not None
    assert "invalid_json" in exchange.reason


def test_a_dead_student_costs_no_client_an_error(tmp_path: Path) -> None:
    with scene(tmp_path, student="student says") as here, here.client() as client:
        assert here.student is not None
        here.student.__exit__(None, None, None)
        reply = client.chat.completions.with_raw_response.create(
            model="triage", messages=ASKED, extra_headers={"x-stillhouse-session": STUDENT_SESSION}
        )
        assert reply.headers["x-stillhouse-arm"] == "fallback"
        assert reply.parse().choices[0].message.content == "teacher says"


# keys


def test_keys_scoped_limited_and_never_sent_on(tmp_path: Path) -> None:
    tokens: dict[str, str] = {}

    def prepare(store: Store, data: Path) -> None:
        tokens["all"], _ = create(store, data, "all", [], None, lambda: 0.0)
        tokens["one"], _ = create(store, data, "one", ["triage"], None, lambda: 0.0, KeyLimits(requests_per_minute=1))

    with scene(tmp_path, keys="required", prepare=prepare) as here, here.client() as client:
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="triage", messages=ASKED)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
        one = client.with_options(default_headers={"x-stillhouse-key": tokens["one"]})
        one.chat.completions.create(model="triage", messages=ASKED)
        with pytest.raises(openai.RateLimitError) as limited:
            one.chat.completions.create(model="triage", messages=ASKED)
        assert limited.value.response.headers["x-ratelimit-limit-requests"] == "1"
        with pytest.raises(openai.PermissionDeniedError):
            one.chat.completions.create(model="gpt-4.1", messages=ASKED)
        every = client.with_options(default_headers={"x-stillhouse-key": tokens["all"]})
        every.chat.completions.create(model="gpt-4.1", messages=ASKED)
        assert len(here.teacher.requests) == 2
        assert not any(token.encode() in request.raw for request in here.teacher.requests for token in tokens.values())
        assert {exchange.key_id is None for exchange in here.gateway.exchanges} == {False}


# feedback


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


def give(here: Scene, **said: Any) -> httpx2.Response:
    return httpx2.post(f"http://127.0.0.1:{here.gateway.port}/feedback", json=said)


def test_feedback_is_kept_once_and_redacted_as_its_exchange_is(tmp_path: Path) -> None:
    exchange: list[str] = []

    def prepare(store: Store, _data: Path) -> None:
        exchange.append(add_exchange(store, task="triage"))

    with scene(tmp_path, prepare=prepare) as here:
        said = {"id": exchange[0], "kind": "comment", "value": "write to ann@example.com"}
        first, again = give(here, **said), give(here, **said)
        assert first.status_code == 200
        assert first.json() == again.json()
        with here.store.read() as connection:
            (row,) = connection.execute(feedback.select()).all()
        redactor = Redactor(RedactionSettings(), load_secret(here.gateway.settings.data))
        assert row.value == redactor.redact_value(exchange[0], said["value"])
        assert "ann@example.com" not in row.value


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"id": "x", "kind": "score", "value": 2}, 400),
        ({"id": "x", "kind": "nonsense", "value": 1}, 400),
        ({"id": "x", "value": 1}, 400),
        ({"id": "x", "kind": "comment", "value": "a" * 300_000}, 413),
        ({"id": "x", "kind": "truth", "value": nested(600)}, 400),
        ({"id": "not shipped yet", "kind": "truth", "value": "billing"}, 200),
    ],
)
def test_feedback_that_is_none(tmp_path: Path, said: dict[str, Any], status: int) -> None:
    with scene(tmp_path) as here:
        reply = give(here, **said)
        assert reply.status_code == status
        assert ("error" in reply.json()) == (status != 200)


# stored completions


def test_stored_completions_through_the_sdk(tmp_path: Path) -> None:
    def prepare(store: Store, _data: Path) -> None:
        for number in (1, 2, 3):
            add_exchange(store, stored=True, completion_id=f"chatcmpl-{number}", metadata={"n": str(number)})
        add_exchange(store, completion_id="chatcmpl-4")

    with scene(tmp_path, prepare=prepare) as here, here.client() as client:
        kept = client.chat.completions
        assert [one.id for one in kept.list(limit=2)] == ["chatcmpl-1", "chatcmpl-2", "chatcmpl-3"]
        assert [one.id for one in kept.list(metadata={"n": "2"}, order="desc")] == ["chatcmpl-2"]
        assert kept.retrieve("chatcmpl-1").metadata == {"n": "1"}  # type: ignore[attr-defined]
        assert kept.update("chatcmpl-1", metadata={"a": "b"}).metadata == {"a": "b"}  # type: ignore[attr-defined]
        messages = list(kept.messages.list("chatcmpl-1"))
        assert [message.id for message in messages] == ["chatcmpl-1-0", "chatcmpl-1-1"]
        assert kept.delete("chatcmpl-1").deleted
        for gone in ("chatcmpl-1", "chatcmpl-4"):
            with pytest.raises(openai.NotFoundError):
                kept.retrieve(gone)
        for wrong in ({"limit": 1000}, {"order": "sideways"}):
            with pytest.raises(openai.BadRequestError):
                list(kept.list(**wrong))  # type: ignore[arg-type]
        for refused in ({"k" * 65: "v"}, {"k": "\0"}, {"\0": "v"}):
            with pytest.raises(openai.BadRequestError):
                kept.update("chatcmpl-2", metadata=refused)


def test_what_a_stored_completion_is_tagged_with_later_is_redacted_as_what_came_with_it(tmp_path: Path) -> None:
    exchange: list[str] = []

    def prepare(store: Store, _data: Path) -> None:
        exchange.append(add_exchange(store, task="triage", stored=True, completion_id="chatcmpl-1"))

    given = {"mail": "ann@example.com", "ssn": "123-45-6789"}
    with scene(tmp_path, prepare=prepare) as here, here.client() as client:
        said = client.chat.completions.update("chatcmpl-1", metadata=given)
        redactor = Redactor(RedactionSettings(), load_secret(here.gateway.settings.data))
        expected = redactor.redact({"metadata": given}, answer_of("ok"), exchange[0]).request["metadata"]
        assert said.metadata == expected  # type: ignore[attr-defined]
        assert not set(given.values()) & set(expected.values())


def test_a_url_with_nul_is_a_400_on_either_database(tmp_path: Path, database_url: str) -> None:
    environ = {} if database_url.startswith("sqlite") else {"STILLHOUSE_DATABASE_URL": database_url}
    settings = settings_of(tmp_path, **environ)
    with GatewayServer(settings) as gateway, httpx2.Client(base_url=gateway.url) as client:
        upgrade(gateway.app.state.store)
        for path in ("/a%00", "/a%00/messages", "?model=%00", "?after=%00", "?metadata%5B%00%5D=x"):
            assert client.get(f"/chat/completions{path}").status_code == 400, path
        assert client.get("/chat/completions?model=%2500").status_code == 200


def test_a_key_sees_its_own_stored_completions_alone(tmp_path: Path) -> None:
    tokens: dict[str, str] = {}

    def prepare(store: Store, data: Path) -> None:
        for name in ("a", "b"):
            tokens[name], key = create(store, data, name, [], None, lambda: 0.0)
            add_exchange(store, stored=True, completion_id=f"chatcmpl-{name}", key_id=key.id)

    with scene(tmp_path, keys="required", prepare=prepare) as here, here.client() as anybody:
        client = anybody.with_options(default_headers={"x-stillhouse-key": tokens["a"]})
        assert [one.id for one in client.chat.completions.list()] == ["chatcmpl-a"]
        for attempt in (client.chat.completions.retrieve, client.chat.completions.delete):
            with pytest.raises(openai.NotFoundError):
                attempt("chatcmpl-b")


# the store away, the upstream odd


def test_with_the_store_away_requests_are_served_and_readiness_is_degraded(tmp_path: Path) -> None:
    with scene(tmp_path) as here, here.client() as client:
        database = here.gateway.settings.data / "stillhouse.db"
        here.store.close()
        for file in database.parent.glob("stillhouse.db*"):
            file.rename(tmp_path / file.name)
        database.mkdir()
        here.gateway.app.state.snapshots.refresh()
        ready = httpx2.get(f"http://127.0.0.1:{here.gateway.port}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert client.chat.completions.create(model="triage", messages=ASKED).choices[0].message.content
        lost = give(here, id="x", kind="truth", value="y")
        assert (lost.status_code, lost.json()["error"]["code"]) == (503, "store_away")
        assert len(here.gateway.exchanges) == 1


def test_an_upstream_that_answers_html_is_relayed_as_it_is(tmp_path: Path) -> None:
    page = response(b"<html>", status=b"502 Bad Gateway", content_type=b"text/html")
    with ScriptedUpstream(answering(page)) as upstream:
        config = f'[upstreams.a]\nbase_url = "http://127.0.0.1:{upstream.port}/v1"\n'
        with GatewayServer(settings_of(tmp_path, config)) as gateway:
            reply = httpx2.post(f"{gateway.url}/chat/completions", json={"model": "m", "messages": []})
            assert (reply.status_code, reply.text) == (502, "<html>")
