"""The student's try: held, judged, released or handed to the teacher, unnoticed by the client."""

import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from capture.exchange import Arm, Assignment
from gateway.plan import Leg, Plan, RequestHead, StudentLeg
from tests.fakes.client import Answer, RawClient
from tests.fakes.relay_server import RelayServer, address, leg
from tests.fakes.upstream import (
    LAST_CHUNK,
    STREAM_HEAD,
    Conversation,
    Script,
    ScriptedUpstream,
    answering,
    chunk,
    response,
    stream,
)

STUDENT = b'{"choices":[{"message":{"content":"small"}}]}'
TEACHER = b'{"choices":[{"message":{"content":"big"}}]}'
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = b'data: {"choices":[{"delta":{"content":"wo"}}]}\n\n'
REST = b'data: {"choices":[{"delta":{"content":"rd"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
TAUGHT = [b'data: {"choices":[{"delta":{"content":"taught"}}]}\n\n', DONE]

Valid = Callable[[bytes, bool], str | None]


def ask(
    student: Script | int,
    *,
    streamed: bool = False,
    valid: Valid | None = None,
    buffered: bool = False,
    deadline_s: float = 5.0,
    route: str = "chat.completions",
    heard: list[bool] | None = None,
    changes: dict[str, Any] | None = None,
    max_connections: int = 10,
) -> tuple[Answer, RelayServer, ScriptedUpstream]:
    """One request whose plan has a student (a script, or a port where nobody listens) and a teacher that answers.

    `changes` are the student's leg's, `heard` is what its circuit heard.
    """
    taught = answering(stream(TAUGHT) if streamed else response(TEACHER))

    def hear(circuit: str, answered: bool) -> None:
        if circuit == "student" and heard is not None:
            heard.append(answered)

    with ScriptedUpstream(taught) as teacher, ScriptedUpstream(student if callable(student) else taught) as pupil:
        port = pupil.port if callable(student) else student

        def plan(head: RequestHead, body: bytes | None) -> Plan:
            small = leg(head, b'{"model":"small"}', address(port, max_connections=max_connections), "small")
            small = msgspec.structs.replace(small, **{"circuit": "student"} | (changes or {}))
            tried = StudentLeg(small, deadline_s, valid, buffered)
            return Plan(
                leg(head, body, address(teacher.port), "big"),
                student=tried,
                captured=True,
                route=route,
                arm=Arm.STUDENT,
                assignment=Assignment.STUDENT,
                stream=streamed,
                student_name="s1",
                observe=hear,
            )

        with RelayServer(plan) as server, RawClient(server.port) as client:
            answer = client.chat(b'{"model":"task"}')
            assert len(server.spool.records) == 1
            assert server.counters.in_flight == 0
    return answer, server, teacher


def test_a_students_unary_answer() -> None:
    answer, server, teacher = ask(answering(response(STUDENT)), valid=lambda _body, _is_stream: None)
    assert (answer.body, answer.header(b"x-stillhouse-arm"), answer.header(b"x-stillhouse-model")) == (
        STUDENT,
        b"student",
        b"small",
    )
    exchange = server.spool.exchanges[0]
    assert (exchange.arm, exchange.served_model, exchange.student, exchange.complete) == (
        "student",
        "small",
        "s1",
        True,
    )
    assert (exchange.request, exchange.response) == (b'{"model":"task"}', STUDENT)
    assert teacher.requests == []
    assert server.counters.requests == {("chat.completions", 2, "student"): 1}


def test_a_students_stream_is_held_until_its_first_content_and_then_flows() -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        for piece in [STREAM_HEAD, chunk(ROLE), chunk(WORD[:20]), chunk(WORD[20:]), chunk(REST + DONE), LAST_CHUNK]:
            talk.send(piece)

    answer, server, teacher = ask(script, streamed=True)
    assert (answer.body, answer.complete) == (ROLE + WORD + REST + DONE, True)
    assert answer.header(b"x-stillhouse-arm") == b"student"
    assert server.spool.exchanges[0].response == answer.body
    assert teacher.requests == []


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def silent(talk: Conversation) -> None:
    talk.read_request()
    assert talk.wait_closed(5)


def closing(talk: Conversation) -> None:
    talk.read_request()


def begun(talk: Conversation) -> None:
    talk.read_request()
    talk.send(STREAM_HEAD + chunk(ROLE))
    assert talk.wait_closed(5)


def cut(talk: Conversation) -> None:
    talk.read_request()
    talk.send(STREAM_HEAD + chunk(ROLE))


@pytest.mark.parametrize(
    ("student", "streamed", "reason"),
    [
        (answering(response(b"{}", status=b"500 Oops")), False, "student_error"),
        (answering(response(b"{}", status=b"429 Too Many Requests")), True, "student_error"),
        (answering(response(b"{}", status=b"302 Found", extra=b"location: /x\r\n")), False, "student_error"),
        (answering(response(b'{"error":{"message":"x"}}')), False, "student_error"),
        (answering(response(b"<html>")), False, "student_invalid:not_json"),
        (answering(response(b"[" * 5000 + b"]" * 5000)), False, "student_invalid:not_json"),
        (answering(stream([b"data: " + b"[" * 5000 + b"]" * 5000 + b"\n\n", DONE])), True, "student_error"),
        (answering(response(STUDENT, extra=b"content-encoding: gzip\r\n")), False, "student_invalid:encoding"),
        (answering(response(STUDENT)), True, "student_invalid:no_stream"),
        (answering(stream([ROLE, DONE])), True, "student_invalid:empty"),
        (answering(stream([ROLE, b'data: {"error":{"message":"x"}}\n\n'])), True, "student_error"),
        (answering(stream([ROLE, b"data: {broken\n\n"])), True, "student_error"),
        (answering(b"nonsense\r\n\r\n"), False, "student_error"),
        (closing, False, "student_error"),
        (cut, True, "student_error"),
        (silent, False, "student_deadline"),
        (silent, True, "student_deadline"),
        (begun, True, "student_deadline"),
        pytest.param(refused_port(), False, "student_unreachable", id="refused-whole"),
        pytest.param(refused_port(), True, "student_unreachable", id="refused-streamed"),
    ],
)
def test_the_teacher_takes_over_unnoticed(student: Script | int, streamed: bool, reason: str) -> None:
    answer, server, teacher = ask(student, streamed=streamed, deadline_s=0.3 if "deadline" in reason else 5)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == (b"".join(TAUGHT) if streamed else TEACHER)
    assert answer.header(b"x-stillhouse-arm") == b"fallback"
    assert answer.header(b"x-stillhouse-model") == b"big"
    exchange = server.spool.exchanges[0]
    assert (exchange.arm, exchange.reason, exchange.assignment) == ("fallback", reason, "student")
    assert (exchange.complete, exchange.served_model, exchange.response) == (True, "big", answer.body)
    assert [request.body for request in teacher.requests] == [b'{"model":"task"}']
    assert server.counters.errors == {reason.partition(":")[0]: 1}


@pytest.mark.parametrize(
    ("student", "streamed", "answered"),
    [
        (answering(response(STUDENT)), False, True),
        (answering(stream([ROLE, WORD, DONE])), True, True),
        (answering(response(b"{}", status=b"500 Oops")), False, False),
        (answering(response(b"{}", status=b"529 Overloaded")), False, False),
        (answering(response(b"{}", status=b"501 Not Implemented")), False, True),
        (answering(response(b"{}", status=b"429 Too Many Requests")), True, True),
        (answering(response(b"{}", status=b"404 Not Found")), False, True),
        (answering(response(b"<html>")), False, True),
        (answering(response(STUDENT, extra=b"content-encoding: gzip\r\n")), False, True),
        (answering(stream([ROLE, DONE])), True, True),
        (answering(response(b'{"error":{"message":"x"}}')), False, False),
        (answering(stream([ROLE, b'data: {"error":{"message":"x"}}\n\n'])), True, False),
        (closing, False, False),
        (silent, False, False),
        pytest.param(refused_port(), False, False, id="refused"),
    ],
)
def test_its_circuit_hears_what_a_teachers_would(student: Script | int, streamed: bool, answered: bool) -> None:
    heard: list[bool] = []
    ask(student, streamed=streamed, heard=heard, deadline_s=0.3 if student is silent else 5)
    assert heard == [answered]


@pytest.mark.parametrize("more", [{"max_connections": 0}, {"changes": {"headers": ((b"x-a", b"b\nc"),)}}])
def test_what_is_ours_says_nothing_of_the_student(more: Any) -> None:
    heard: list[bool] = []
    answer, _, _ = ask(answering(response(STUDENT)), heard=heard, **more)
    assert (answer.body, heard) == (TEACHER, [])


@pytest.mark.parametrize("others", [0, 1])
def test_who_answers_for_it_is_the_next_leg_and_the_teacher_where_there_is_none(others: int) -> None:
    with ScriptedUpstream(answering(response(TEACHER))) as teacher, ScriptedUpstream(closing) as pupil:

        def plan(head: RequestHead, body: bytes | None) -> Plan:
            legs: Iterable[Leg] = [leg(head, body, address(teacher.port), "other")] * others
            tried = StudentLeg(leg(head, body, address(pupil.port), "small"), 5)
            return Plan(leg(head, body, address(teacher.port)), tried, True, route="chat.completions", others=legs)

        with RelayServer(plan) as server, RawClient(server.port) as client:
            answer = client.chat()
    assert (answer.header(b"x-stillhouse-arm"), answer.body) == (b"fallback", TEACHER)
    assert answer.header(b"x-stillhouse-model") == (b"other" if others else b"big")


def test_an_invalid_unary_answer_never_leaves() -> None:
    answer, server, _ = ask(answering(response(STUDENT)), valid=lambda _body, _is_stream: "schema")
    assert answer.body == TEACHER
    assert server.spool.exchanges[0].reason == "student_invalid:schema"


def test_a_validator_that_fails_lets_nothing_leave() -> None:
    def fail(body: bytes, is_stream: bool) -> str | None:
        raise RuntimeError("broken")

    answer, server, _ = ask(answering(response(STUDENT)), valid=fail)
    assert answer.body == TEACHER
    assert server.spool.exchanges[0].reason == "student_invalid:validator"


@pytest.mark.parametrize("ok", [True, False])
def test_a_buffered_stream_is_validated_whole_and_replayed(ok: bool) -> None:
    seen = []

    def valid(text: bytes, is_stream: bool) -> str | None:
        seen.append((text, is_stream))
        return None if ok else "schema"

    pieces = stream([ROLE, WORD, REST, DONE])
    answer, server, _ = ask(answering(pieces), streamed=True, valid=valid, buffered=True)
    assert seen == [(ROLE + WORD + REST + DONE, True)]
    assert answer.body == (ROLE + WORD + REST + DONE if ok else b"".join(TAUGHT))
    assert server.spool.exchanges[0].arm == ("student" if ok else "fallback")


@pytest.mark.parametrize("route", ["chat.completions", "responses"])
def test_a_student_that_dies_in_mid_stream_ends_with_an_error_event(route: str) -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(STREAM_HEAD + chunk(ROLE + WORD) + chunk(REST[:15]))

    answer, server, teacher = ask(script, streamed=True, route=route)
    assert answer.complete
    assert answer.body.startswith(ROLE + WORD)
    event = answer.body[len(ROLE + WORD) :]
    if route == "responses":
        assert event.startswith(b"event: error\n")
        event = event.partition(b"\n")[2]
    payload = json.loads(event.removeprefix(b"data: "))
    assert payload.get("error", payload)["code"] == "student_broke_off"
    exchange = server.spool.exchanges[0]
    assert (exchange.arm, exchange.complete, exchange.cause) == ("student", False, "student_broke_off")
    assert exchange.response == answer.body
    assert teacher.requests == []


def test_a_client_that_leaves_during_the_try_closes_the_student() -> None:
    closed = threading.Event()

    def script(talk: Conversation) -> None:
        talk.read_request()
        if talk.wait_closed():
            closed.set()

    with ScriptedUpstream(answering(response(TEACHER))) as teacher, ScriptedUpstream(script) as pupil:

        def plan(head: RequestHead, body: bytes | None) -> Plan:
            tried = StudentLeg(leg(head, body, address(pupil.port), "small"), 5)
            return Plan(leg(head, body, address(teacher.port)), student=tried, captured=True, route="chat.completions")

        with RelayServer(plan) as server:
            with RawClient(server.port) as client:
                client.post(b"/v1/chat/completions", b"{}")
                pupil.arrived.get(timeout=10)
            assert closed.wait(2)
            exchange = server.spool.wait_for(1)[0]
        assert (exchange.complete, exchange.cause) == (False, "client_left")
        assert teacher.requests == []
