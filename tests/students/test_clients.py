"""Background calls on real sockets: what goes out, what comes back, what is tried again."""

from collections.abc import Iterator
from typing import Any

import pytest

from capture.errors import RefusedError, UpstreamAwayError
from capture.settings import Settings, UpstreamSettings, ViewSettings
from students.clients import Client, Target, student_target, teacher_target
from students.registry import Server, Student
from tests.fakes.chat_server import ChatServer, completion

REQUEST = {
    "model": "whatever",
    "stream": True,
    "stream_options": {"include_usage": True},
    "store": True,
    "metadata": {"app": "x"},
    "temperature": 0.2,
    "messages": [{"role": "user", "content": "hello"}],
}


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(pauses: list[float]) -> Iterator[Client]:
    client = Client(pause=pauses.append)
    yield client
    client.close()


def test_a_unary_request_with_this_model_and_nothing_kept(client: Client) -> None:
    with ChatServer(lambda _: "hi", {"x-ratelimit-limit-tokens": "10", "x-ratelimit-remaining-tokens": "1"}) as server:
        reply = client.ask(Target(server.url, "m", headers={"authorization": "Bearer k"}), REQUEST)
    sent = server.requests[0]
    assert sent == {
        "model": "m",
        "temperature": 0.2,
        "messages": REQUEST["messages"],
        "path": "/v1/chat/completions",
    }
    assert server.authorizations == ["Bearer k"]
    assert (reply.answer.text, reply.error, reply.remaining) == ("hi", None, pytest.approx(0.1))
    assert reply.answer.usage is not None
    assert reply.duration_ms > 0


def test_responses_are_told_not_to_be_kept(client: Client) -> None:
    with ChatServer(lambda _: (200, {"object": "response", "output": []})) as server:
        client.ask(Target(server.url, "m"), {"input": "hello", "store": True}, "responses")
    assert server.requests == [{"input": "hello", "model": "m", "store": False, "path": "/v1/responses"}]


def test_overload_is_tried_again_with_pauses_and_then_told(client: Client, pauses: list[float]) -> None:
    with ChatServer(lambda _: (429, {"error": {"message": "slow down"}})) as server:
        reply = client.ask(Target(server.url, "m"), REQUEST, attempts=3)
        assert len(server.requests) == 3
    assert (reply.status, reply.error) == (429, "status 429")
    assert len(pauses) == 2
    assert pauses[1] >= 1.0 > pauses[0] >= 0.5


def test_a_fault_that_passes_is_not_told(client: Client) -> None:
    def answer(request: dict[str, Any]) -> Any:
        return (503, {}) if len(server.requests) == 1 else "hi"

    with ChatServer(answer) as server:
        assert client.ask(Target(server.url, "m"), REQUEST, attempts=2).answer.text == "hi"


def test_a_bad_request_is_not_tried_again(client: Client) -> None:
    with ChatServer(lambda _: (400, {"error": {"message": "no"}})) as server:
        assert client.ask(Target(server.url, "m"), REQUEST, attempts=3).error == "status 400"
        assert len(server.requests) == 1


def test_what_is_no_answer_is_an_error(client: Client) -> None:
    with ChatServer(lambda _: (200, {"detail": "hm"})) as server:
        assert client.ask(Target(server.url, "m"), REQUEST).error is not None


def test_nobody_there_is_told_apart_from_somebody_who_errs(client: Client) -> None:
    with ChatServer(lambda _: "hi") as server:
        url = server.url
    with pytest.raises(UpstreamAwayError, match="does not answer"):
        client.ask(Target(url, "m"), REQUEST)


def test_a_time_limit_is_an_error_of_the_answer(client: Client) -> None:
    import threading

    release = threading.Event()

    def answer(request: dict[str, Any]) -> Any:
        release.wait(10)
        return 200, completion("late", request)

    with ChatServer(answer) as server:
        reply = client.ask(Target(server.url, "m", timeout_s=0.1), REQUEST)
        release.set()
    assert "ReadTimeout" in str(reply.error)


def test_redirects_are_not_followed(client: Client) -> None:
    with ChatServer(lambda _: "hi") as other:
        headers = {"location": f"{other.url}/chat/completions"}
        with ChatServer(lambda _: (307, {}), headers) as server:
            assert client.ask(Target(server.url, "m"), REQUEST).error is not None
        assert other.requests == []


def settings_with(**upstream: Any) -> Settings:
    return Settings(upstreams={"u": UpstreamSettings(base_url="http://127.0.0.1:1/v1", **upstream)})


def test_the_workers_own_credential_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "sk-gateway")
    without = settings_with(auth="key", api_key_env="GATEWAY_KEY")
    assert teacher_target(without, "u", "m") is None
    monkeypatch.setenv("WORKER_KEY", "sk-worker")
    target = teacher_target(settings_with(worker_key_env="WORKER_KEY"), "u", "m")
    assert target is not None
    assert target.headers == {"authorization": "Bearer sk-worker"}


def test_azure_has_its_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_KEY", "k")
    known = settings_with(kind="azure", worker_key_env="WORKER_KEY", api_version="2025-01-01")
    target = teacher_target(known, "u", "gpt")
    assert target is not None
    assert target.url == "http://127.0.0.1:1/v1/deployments/gpt"
    assert (target.headers, target.query) == ({"api-key": "k"}, {"api-version": "2025-01-01"})


def student(**changes: Any) -> Student:
    known: dict[str, Any] = {
        "id": "st_1",
        "name": "ft:tiny:triage:1",
        "task": "triage",
        "kind": "local",
        "base": "tiny",
        "fine_tune_id": None,
        "dataset_id": None,
        "folder": None,
        "weights_hash": None,
        "upstream": None,
        "upstream_model": None,
        "view": ViewSettings(),
        "fingerprints": frozenset(),
        "tools": False,
        "created_at": 0.0,
    }
    return Student(**known | changes)


def test_a_student_answers_where_its_server_says() -> None:
    server = Server("st_1", "ready", "http://127.0.0.1:9600/v1", "served", 3.0, None, 0.0)
    target = student_target(settings_with(), student(), server)
    assert (target.url, target.model) == ("http://127.0.0.1:9600/v1", "served")
    for away in (None, Server("st_1", "starting", None, None, None, None, 0.0)):
        with pytest.raises(UpstreamAwayError):
            student_target(settings_with(), student(), away)


def test_a_student_at_an_upstream_needs_the_workers_key() -> None:
    registered = student(kind="registered", upstream="u", upstream_model="lora")
    with pytest.raises(RefusedError, match="worker_key_env"):
        student_target(settings_with(), registered, None)
