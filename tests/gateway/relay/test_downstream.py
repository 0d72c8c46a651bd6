"""Clients of every kind, on raw sockets: smuggling, limits, slowness, pipelining, the app beside us, the drain."""

import contextlib
import inspect
import socket
import threading
import time
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.plan import Plan, Refusal, RequestHead
from gateway.relay.context import Limits
from tests.fakes.client import RawClient
from tests.fakes.relay_server import RelayServer, address, planning
from tests.fakes.upstream import LAST_CHUNK, Conversation, ScriptedUpstream, answering, chunk, response

ANSWER = b'{"id":"c1"}'
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n"
WHOLE = CHAT + b"content-length: 2\r\n\r\n{}"
LOCAL = b"GET /local HTTP/1.1\r\nhost: g\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        CHAT + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        CHAT + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
        CHAT + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
        CHAT + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        CHAT + b"content-length: 2, 2\r\n\r\n{}",
        CHAT + b"content-length: +2\r\n\r\n{}",
        CHAT + b"content-length: -2\r\n\r\n{}",
        CHAT + b"content-length: 0x2\r\n\r\n{}",
        CHAT + b"content-length: 2_0\r\n\r\n{}",
        CHAT + b"content-length: \r\n\r\n{}",
        CHAT + b"content-length: 99999999999999999999\r\n\r\n{}",
        CHAT + b"content-length : 2\r\n\r\n{}",
        CHAT + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        CHAT + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        CHAT + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        CHAT + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        CHAT + b"transfer-encoding: identity\r\n\r\n",
        CHAT + b"transfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        CHAT + b"transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        CHAT + b"transfer-encoding: chunked\r\n\r\n2\n{}\n0\n\n",
        CHAT + b"transfer-encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n",
        CHAT + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        CHAT + b"transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 5\r\n\r\n",
        CHAT + b"x-a: 1\r\n folded\r\n\r\n",
        CHAT + b"x-a: a\x00b\r\n\r\n",
        CHAT + b"x\x0ba: 1\r\n\r\n",
        CHAT + b": no name\r\n\r\n",
        CHAT + b"host: other\r\ncontent-length: 0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/2.0\r\nhost: g\r\n\r\n",
        b"POST /v1/chat/completions HTTP/0.9\r\nhost: g\r\n\r\n",
        b"POST /v1/../admin HTTP/1.1\r\nhost: g\r\ncontent-length: 0\r\n\r\n",
        b"POST /v1/x#y HTTP/1.1\r\nhost: g\r\ncontent-length: 0\r\n\r\n",
        b"POST /v1/x\x01 HTTP/1.1\r\nhost: g\r\n\r\n",
        b"POST /v1/x\xc3\xa9 HTTP/1.1\r\nhost: g\r\n\r\n",
        b"CONNECT evil:443 HTTP/1.1\r\nhost: g\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\nhost: g\n\n",
        b"GET /v1/realtime HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        CHAT + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\n{}",
        b"nonsense\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_what_could_be_read_two_ways_is_refused_and_the_connection_ends(raw: bytes, before: int) -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        for _ in range(before):  # a head that is known by then
            client.send(WHOLE)
            assert client.answer().status == 200
        client.send(raw + WHOLE)
        answer = client.answer()
        assert answer.status == 400
        assert answer.header(b"content-type") == b"application/json"
        assert answer.header(b"connection") == b"close"
        assert answer.body.startswith(b'{"error":{"message":')
        assert client.read_to_end() == b""
    assert len(upstream.requests) == before


def test_trailers_of_a_request_stay_behind() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(CHAT + b"transfer-encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\nauthorization: forged\r\n\r\n")
        assert client.answer().status == 200
    assert upstream.requests[0].header(b"authorization") is None
    assert upstream.requests[0].body == b"{}"
    assert upstream.requests[0].header(b"content-length") == b"2"


@pytest.mark.parametrize("split", [1, 3, 50])
def test_a_request_in_any_split_is_the_same(split: int) -> None:
    raw = CHAT + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        for start in range(0, len(raw), split):
            client.send(raw[start : start + split])
        assert client.answer().body == ANSWER
    assert upstream.requests[0].body == b"{}"


def test_pipelined_requests_are_answered_in_their_order() -> None:
    def plan(head: RequestHead, body: bytes | None) -> Plan | Refusal:
        if body == b"no":
            return Refusal(403, "no")
        return planning(address(upstream.port))(head, body)

    def echo(talk: Conversation) -> None:
        while (request := talk.read_request()) is not None:
            talk.send(response(b"echo " + request.body))

    with ScriptedUpstream(echo) as upstream, RelayServer(plan) as server, RawClient(server.port) as client:
        posts = [CHAT + b"content-length: 2\r\n\r\n" + body for body in (b"aa", b"no", b"bb")]
        passed = b"POST /v1/embeddings HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n2\r\ncc\r\n0\r\n\r\n"
        client.send(posts[0] + LOCAL + posts[1] + passed + LOCAL + posts[2] + LOCAL)
        bodies = [client.answer().body for _ in range(7)]
    assert bodies[0] == b"echo aa"
    assert bodies[1] == bodies[4] == bodies[6] == b'{"size":0}'
    assert b'"no"' in bodies[2]
    assert bodies[3] == b"echo cc"
    assert bodies[5] == b"echo bb"


def test_a_malformed_request_is_refused_after_those_before_it() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(WHOLE + LOCAL + b"nonsense\r\n\r\n")
        assert [client.answer().status for _ in range(3)] == [200, 200, 400]
        assert client.ended()


def test_too_many_pipelined_requests_are_cut() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(pipelined=3)) as server,
        RawClient(server.port) as client,
    ):
        client.send(WHOLE * 10)
        statuses = [client.answer().status for _ in range(4)]
        assert client.ended()
    assert statuses == [200, 200, 200, 400]


def test_heads_have_a_limit() -> None:
    limits = Limits(head_bytes=4096, headers=20)
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port)), limits=limits) as server,
    ):
        for raw in [
            CHAT + b"x-long: " + b"y" * 5000 + b"\r\n\r\n",
            b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nhost: g\r\n\r\n",
            CHAT + b"".join(b"x-%d: 1\r\n" % i for i in range(30)) + b"\r\n",
            CHAT + b"x-long: " + b"y" * 5000 + b"\r\ncontent-length: 2\r\n\r\n{}",
        ]:
            with RawClient(server.port) as client:
                client.send(raw[:100])
                client.send(raw[100:])
                assert client.answer().status == 431
    assert upstream.requests == []


def test_a_head_that_never_ends_is_cut() -> None:
    limits = Limits(head_bytes=4096)
    with RelayServer(planning(address(1)), limits=limits) as server, RawClient(server.port) as client:
        client.send(CHAT + b"x-long: ")
        with contextlib.suppress(OSError):
            for _ in range(100):
                client.send(b"y" * 100_000)
        assert client.answer().status == 431


def test_a_large_body_before_a_head_does_not_count_as_head() -> None:
    limits = Limits(head_bytes=4096)
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port)), limits=limits) as server,
        RawClient(server.port) as client,
    ):
        client.send(CHAT + b"content-length: 20000\r\n\r\n" + b"x" * 20_000 + WHOLE[:10])
        assert client.answer().status == 200
        client.send(WHOLE[10:])
        assert client.answer().status == 200


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/embeddings", b"/local"])
@pytest.mark.parametrize("before", [b"", b"5\r\nhello\r\n"], ids=["no body", "body"])
@pytest.mark.parametrize("endless", [b"aa: bb\r\n" * 1000, b"x" * 8000], ids=["trailers", "one trailer"])
def test_trailers_have_the_limit_of_a_head(path: bytes, before: bytes, endless: bytes) -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(head_bytes=4096)) as server,
        RawClient(server.port) as client,
    ):
        client.send(b"POST %b HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n" % path + before)
        client.send(b"0\r\na: ")
        with contextlib.suppress(OSError):
            for _ in range(200):
                client.send(endless)
        answer = client.answer()
        assert answer.status == 431
        assert b'"code":"headers_too_large"' in answer.body
        client.read_to_end()


def test_a_body_in_the_smallest_chunks_is_no_overhead() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(head_bytes=1000)) as server,
        RawClient(server.port) as client,
    ):
        client.send(CHAT + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(300):
            client.send(b"1\r\n")
            client.send(b"x\r\n")
        client.send(b"0\r\n\r\n")
        assert client.answer().status == 200
    assert upstream.requests[0].body == b"x" * 300


def test_nothing_follows_a_refusal_whatever_came_with_its_request(caplog: pytest.LogCaptureFixture) -> None:
    def plan(head: RequestHead, body: bytes | None) -> Plan | Refusal:
        return Refusal(401, "no")

    with RelayServer(plan) as server, RawClient(server.port) as client:
        client.send(b"POST /v1/embeddings HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n")
        assert client.answer().status == 401
        assert client.read_to_end() == b""
        assert server.counters.errors == {"refused": 1}
    assert caplog.text == ""


def test_bodies_have_a_limit_even_when_their_length_is_not_said() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(body_bytes=1000)) as server,
    ):
        for raw in [
            CHAT + b"content-length: 1001\r\n\r\n",
            CHAT + b"content-length: 1001\r\nexpect: 100-continue\r\n\r\n",
            CHAT + b"transfer-encoding: chunked\r\n\r\n" + b"1f4\r\n%b\r\n" % (b"x" * 500) * 3,
        ]:
            with RawClient(server.port) as client:
                client.send(raw)
                answer = client.answer()
                assert answer.status == 413
                assert b'"code":"body_too_large"' in answer.body
    assert upstream.requests == []


def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(body_bytes=1000)) as server,
        RawClient(server.port) as client,
    ):
        client.send(CHAT + b"content-length: 2000000\r\n\r\n")
        for _ in range(20):
            client.send(b"x" * 100_000)
        assert client.answer().status == 413
        assert client.ended()


def test_expect_continue_is_answered_by_us() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        for path in (b"/v1/chat/completions", b"/v1/embeddings"):
            client.send(b"POST %b HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n" % path)
            assert client.answer("HEAD").status == 100
            client.send(b"{}")
            assert client.answer().status == 200
    assert [request.header(b"expect") for request in upstream.requests] == [None, None]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (CHAT, 408),
        (b"G", 408),
        (CHAT + b"content-length: 5\r\n\r\n{", 408),
        (b"POST /v1/files HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\n\r\n{", 408),
        (b"POST /local HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\n\r\n{", 408),
        (WHOLE + b"GET /", 408),
        (b"", None),
        (LOCAL, None),
    ],
)
def test_slow_clients_are_let_go(sent: bytes, status: int | None) -> None:
    limits = Limits(head_timeout_s=0.2, body_timeout_s=0.2, keep_alive_s=0.3, linger_s=0.1)
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port)), limits=limits) as server,
        RawClient(server.port) as client,
    ):
        client.send(sent)
        if sent in (LOCAL, WHOLE + b"GET /"):
            assert client.answer().status == 200
        if status is not None:
            assert client.answer().status == status
        assert client.ended()
        assert server.counters.in_flight == 0


def test_a_slow_loris_of_single_bytes_is_let_go() -> None:
    limits = Limits(head_timeout_s=0.3, linger_s=0.1)
    with RelayServer(planning(address(1)), limits=limits) as server, RawClient(server.port) as client:
        began = time.monotonic()
        client.send(CHAT)
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 5:
                client.send(b"x-a: 1\r\n")
                time.sleep(0.05)  # the pace of the attack
        assert time.monotonic() - began < 5


def test_a_body_at_a_fair_pace_may_take_longer_than_its_timeout() -> None:
    limits = Limits(body_timeout_s=0.2, body_bytes_per_s=1000)
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port)), limits=limits) as server,
        RawClient(server.port) as client,
    ):
        client.send(CHAT + b"content-length: 2000\r\n\r\n")
        for _ in range(10):
            client.send(b"x" * 200)
            time.sleep(0.06)  # 3,300 bytes a second
        assert client.answer().status == 200


def test_a_client_that_half_closes_counts_as_gone() -> None:
    closed = threading.Event()

    def script(talk: Conversation) -> None:
        talk.read_request()
        if talk.wait_closed():
            closed.set()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(WHOLE)
        client.socket.shutdown(socket.SHUT_WR)
        (exchange,) = server.spool.wait_for(1)
        assert client.read_to_end() == b""
        assert closed.wait(10)
    assert (exchange.complete, exchange.cause) == (False, "client_left")


def test_http10_clients_get_a_close_delimited_answer() -> None:
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    with (
        ScriptedUpstream(answering(raw)) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}")
        answer = client.answer()
    assert (answer.header(b"transfer-encoding"), answer.header(b"connection"), answer.body) == (None, b"close", b"ab")


def test_a_close_delimited_answer_that_broke_off_does_not_look_whole() -> None:
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n"
    with (
        ScriptedUpstream(answering(raw)) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}")
        client.read_until(b"\r\n\r\nab")
        upstream.talks[0].close()
        with pytest.raises(ConnectionResetError):
            client.socket.recv(1)


@pytest.mark.parametrize("end", ["close", "keep-alive", "breaks off"])
def test_a_client_that_reads_nothing_gives_its_connection_back(end: str) -> None:
    """Also where so little is unsent that nothing else waits for it."""

    def unsent() -> int:
        assert server.context is not None
        [connection] = server.context.clients
        return cast(Any, connection).transport._transport.get_write_buffer_size()  # type: ignore[no-any-return]

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while not unsent():
            talk.send(chunk(b"x" * 20_000))
            time.sleep(0.005)  # until it was relayed
        if end != "breaks off":
            talk.send(LAST_CHUNK)
            talk.wait_closed()

    limits = Limits(stall_timeout_s=0.3, keep_alive_s=0.2)
    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port)), limits=limits) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.post(b"/v1/chat/completions", b"{}", b"connection: close\r\n" if end == "close" else b"")
        deadline = time.monotonic() + 10
        while server.counters.requests == {} or server.counters.connections:
            assert time.monotonic() < deadline, "the connection stays"
            time.sleep(0.01)
        assert server.counters.errors.keys() <= {"upstream_broke_off"}
        assert [exchange.complete for exchange in server.spool.exchanges] == [end != "breaks off"]


def test_connection_close_is_obeyed() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        assert client.chat(extra=b"connection: close\r\n").header(b"connection") == b"close"
        assert client.ended()


def test_the_app_answers_its_own_routes_on_the_same_connection() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        for _ in range(2):
            client.post(b"/local", b"x" * 300_000)
            assert client.answer().body == b'{"size":300000}'
            assert client.chat().body == ANSWER


def test_a_broken_body_of_the_apps_request_is_a_400_of_ours() -> None:
    with RelayServer(planning(address(1))) as server, RawClient(server.port) as client:
        client.send(b"POST /local HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n")
        assert client.answer().status == 400
        assert client.ended()


def test_a_router_that_fails_is_a_500_without_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    def plan(head: RequestHead, body: bytes | None) -> Plan | Refusal:
        raise ValueError("secret")

    with RelayServer(plan) as server, RawClient(server.port) as client:
        answer = client.chat()
        assert client.chat().status == 500
        assert server.counters.in_flight == 0
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "no plan could be made" in caplog.text


def test_the_drain_lets_a_stream_end_and_closes_idle_connections() -> None:
    go_on = threading.Event()

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n")
        assert go_on.wait(10)
        talk.send(b"3\r\nend\r\n0\r\n\r\n")

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port)), graceful_s=10) as server,
        RawClient(server.port) as idle,
        RawClient(server.port) as client,
    ):
        idle.send(LOCAL)
        assert idle.answer().status == 200
        client.send(WHOLE)
        client.read_until(b"begun")
        server.stop()
        assert idle.ended()
        go_on.set()
        answer = client.answer()
        assert (answer.body, answer.complete) == (b"begunend", True)
        assert client.ended()
    assert server.spool.exchanges[0].complete


def test_a_request_during_the_drain_is_answered_with_close() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port)), graceful_s=10) as server,
        RawClient(server.port) as idle,
        RawClient(server.port) as client,
    ):
        client.send(WHOLE[:-1])
        idle.send(LOCAL)
        assert idle.answer().status == 200
        server.stop()
        assert idle.ended()
        client.send(WHOLE[-1:])
        answer = client.answer()
        assert (answer.status, answer.header(b"connection")) == (200, b"close")
        assert client.ended()


def test_when_the_drains_time_is_over_the_rest_is_recorded_as_broken_off() -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n")
        talk.wait_closed()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port)), graceful_s=1) as server,
        RawClient(server.port) as client,
    ):
        client.send(WHOLE)
        client.read_until(b"begun")
        server.stop()
        assert b"0\r\n\r\n" not in client.read_to_end()
    exchange = server.spool.exchanges[0]
    assert (exchange.complete, exchange.cause, exchange.response) == (False, "gateway_stopped", b"begun")


def test_uvicorns_private_seam_has_the_shape_we_rely_on() -> None:
    """Fails loudly when uvicorn changes under us: the only file that touches it is gateway/relay/downstream.py."""
    assert uvicorn.__version__ == "0.54.0"
    assert list(inspect.signature(HttpToolsProtocol.__init__).parameters) == [
        "self",
        "config",
        "server_state",
        "app_state",
        "_loop",
    ]
    for name in ("_start_asgi_task", "on_response_complete", "shutdown", "on_headers_complete", "on_message_begin"):
        assert callable(getattr(HttpToolsProtocol, name))
    assert {"keep_alive", "on_response"} <= set(inspect.signature(RequestResponseCycle.__init__).parameters)


def test_an_answer_under_way_outlives_the_timeout_of_a_broken_request_behind_it() -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(6):
            time.sleep(0.1)  # longer than the body's time limit altogether
            talk.send(b"1\r\nx\r\n")
        talk.send(b"0\r\n\r\n")

    limits = Limits(body_timeout_s=0.2, head_timeout_s=0.2)
    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port)), limits=limits) as server,
        RawClient(server.port) as client,
    ):
        client.send(WHOLE + CHAT + b"transfer-encoding: chunked\r\n\r\nzz\r\n")
        answer = client.answer()
        assert (answer.body, answer.complete) == (b"xxxxxx", True)
        assert client.answer().status == 400
        assert client.ended()
