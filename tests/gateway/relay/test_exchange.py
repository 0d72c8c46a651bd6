"""One request end to end on real sockets: bytes as sent, bytes as received, and the record."""

import threading

from tests.fakes.client import RawClient
from tests.fakes.relay_server import RelayServer, address, planning
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
