"""One request end to end on real sockets: bytes as sent, bytes as received, and the record."""

import socket
import threading
from collections.abc import Iterator

import pytest

from gateway.plan import Leg, Plan, RequestHead
from tests.fakes.client import RawClient
from tests.fakes.relay_server import RelayServer, address, leg, planning
from tests.fakes.upstream import (
    LAST_CHUNK,
    STREAM_HEAD,
    Conversation,
    ScriptedUpstream,
    answering,
    chunk,
    response,
    stream,
)

BODY = b'{ "model":"big",  "messages":[{"role":"user","content":"h\\u00e9"}] , "new_field": 1.0}'
ANSWER = b'{"id":"c1","choices":[{"message":{"content":"ok"}}]}'
EVENTS = [b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b": keep-alive\n\n", b"data: [DONE]\n\n"]


def test_unary_passes_bytes_and_is_recorded() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER, extra=b"x-request-id: r1\r\n"))) as upstream,
        RelayServer(planning(address(upstream.port), model="big")) as server,
        RawClient(server.port) as client,
    ):
        client.post(
            b"/v1/chat/completions?a=b",
            BODY,
            b"Authorization: Bearer k\r\nConnection: keep-alive, x-hop\r\nx-hop: 1\r\n",
        )
        answer = client.answer()
        exchange = server.spool.exchanges[0]
    sent = upstream.requests[0]
    assert sent.start == b"POST /v1/chat/completions?a=b HTTP/1.1"
    assert sent.body == BODY
    assert sent.header(b"authorization") == b"Bearer k"
    assert sent.header(b"host") == b"127.0.0.1:%d" % upstream.port
    assert sent.header(b"x-hop") is None
    assert sent.header(b"connection") is None
    assert (answer.status, answer.body) == (200, ANSWER)
    assert answer.header(b"x-request-id") == b"r1"
    assert answer.header(b"x-stillhouse-id") == exchange.id.encode()
    assert answer.header(b"x-stillhouse-arm") == b"teacher"
    assert answer.header(b"x-stillhouse-model") == b"big"
    assert (exchange.request, exchange.response, exchange.complete) == (BODY, ANSWER, True)
    assert exchange.response_type == "application/json"
    assert exchange.first_ms is not None
    assert exchange.first_ms <= exchange.duration_ms


@pytest.mark.parametrize(("model", "told"), [("m" * 300, b"m" * 256), ("gr\u00f6\u00dfe\r\nx: y", b"grex: y")])
def test_a_models_name_fits_its_header(model: str, told: bytes) -> None:
    with ScriptedUpstream(answering(response(ANSWER))) as upstream:

        def plan(head: RequestHead, body: bytes | None) -> Plan:
            return Plan(leg(head, body, address(upstream.port), model), captured=True)

        with RelayServer(plan) as server, RawClient(server.port) as client:
            assert client.chat().header(b"x-stillhouse-model") == told
            assert server.spool.exchanges[0].served_model == model


def test_stream_passes_each_event_at_once_and_is_recorded_before_its_end() -> None:
    go_on = threading.Semaphore(0)

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(STREAM_HEAD)
        for event in EVENTS:
            talk.send(chunk(event))
            assert go_on.acquire(timeout=10)
        talk.send(LAST_CHUNK)

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.post(b"/v1/chat/completions", b'{"stream":true}')
        for event in EVENTS[:-1]:
            client.read_until(event)
            assert server.spool.records == []
            go_on.release()
        client.read_until(b"[DONE]")
        assert [exchange.response for exchange in server.spool.exchanges] == [b"".join(EVENTS)]
        go_on.release()
        answer = client.answer()
        assert (answer.body, answer.complete) == (b"".join(EVENTS), True)
        assert len(server.spool.records) == 1
        assert server.spool.exchanges[0].complete


def test_many_requests_share_one_connection_on_both_sides() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER), stream(EVENTS))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        assert client.chat().body == ANSWER
        assert [client.chat().body for _ in range(5)] == [b"".join(EVENTS)] * 5
        assert len(server.spool.records) == 6
        assert server.counters.requests == {("chat.completions", 2, "teacher"): 6}
        assert server.counters.in_flight == 0
    assert len(upstream.talks) == 1


@pytest.mark.parametrize("first", ["refuses", "breaks off", "answers 503", "answers 429 slowly"])
def test_another_teacher_is_asked_while_nothing_has_left(first: str) -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        if first == "answers 503":
            talk.send(response(b"{}", status=b"503 Service Unavailable"))
        if first == "answers 429 slowly":
            talk.send(response(b"{}", status=b"429 Too Many Requests")[:-1])
            assert talk.wait_closed()

    seen: list[tuple[str, bool]] = []
    with ScriptedUpstream(script) as broken, ScriptedUpstream(answering(response(ANSWER))) as other:
        gone = socket.create_server(("127.0.0.1", 0))
        port = gone.getsockname()[1] if first == "refuses" else broken.port
        gone.close()

        def plan(head: RequestHead, body: bytes | None) -> Plan:
            return Plan(
                leg(head, body, address(port), "one"),
                captured=True,
                route="chat.completions",
                others=(leg(head, body, address(other.port), "two"),),
                observe=lambda upstream, answered: seen.append((upstream, answered)),
            )

        with RelayServer(plan) as server, RawClient(server.port) as client:
            answer = client.chat(BODY)
            assert client.chat(BODY).status == 200
    assert (answer.status, answer.body, answer.header(b"x-stillhouse-model")) == (200, ANSWER, b"two")
    assert [exchange.served_model for exchange in server.spool.exchanges] == ["two", "two"]
    assert other.requests[0].body == BODY
    assert seen[-1] == ("fake", True)
    assert (("fake", False) in seen) == (first != "answers 429 slowly")  # too many requests: it works


def test_when_the_last_teacher_fails_its_failure_is_the_answer() -> None:
    with ScriptedUpstream(answering(response(b'{"error":1}', status=b"500 Oops"))) as upstream:

        def plan(head: RequestHead, body: bytes | None) -> Plan:
            return Plan(leg(head, body, address(1)), captured=True, others=(leg(head, body, address(upstream.port)),))

        with RelayServer(plan) as server, RawClient(server.port) as client:
            answer = client.chat()
    assert (answer.status, answer.body) == (500, b'{"error":1}')
    assert server.spool.exchanges[0].status == 500


@pytest.mark.parametrize("status", [502, 503])
def test_a_leg_that_cannot_be_made_is_none(status: int, caplog: pytest.LogCaptureFixture) -> None:
    given_back: list[bool] = []
    with ScriptedUpstream(answering(response(b"{}", status=b"503 Service Unavailable"))) as upstream:
        first = address(upstream.port if status == 503 else 1)

        def plan(head: RequestHead, body: bytes | None) -> Plan:
            def others() -> Iterator[Leg]:
                "\u0107".encode("latin-1")  # as with a key that no header can carry
                yield leg(head, body, first)

            release = (lambda: given_back.append(True),)
            return Plan(leg(head, body, first), captured=True, others=others(), release=release)

        with RelayServer(plan) as server, RawClient(server.port) as client:
            assert [client.chat().status for _ in range(2)] == [status] * 2
    assert given_back == [True] * 2
    assert server.counters.in_flight == 0
    assert "no other leg could be made" in caplog.text


def test_a_withheld_event_still_leaves_when_the_upstream_breaks_off() -> None:
    begun = b'event: response.completed\ndata: {"type":"resp'

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(STREAM_HEAD + chunk(EVENTS[0]) + chunk(begun))

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.post(b"/v1/responses", b'{"stream":true}')
        answer = client.answer()
    assert (answer.body, answer.complete) == (EVENTS[0] + begun, False)
    assert [exchange.cause for exchange in server.spool.exchanges] == ["upstream_broke_off"]


def test_giving_back_that_fails_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port), release=(fail,))) as server,
        RawClient(server.port) as client,
    ):
        assert [client.chat().body for _ in range(2)] == [ANSWER] * 2
    assert "could not be given back" in caplog.text
