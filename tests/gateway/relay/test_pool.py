"""Connections that are kept, gone stale, refused, too slow, or not to be trusted."""

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from gateway.plan import Address
from tests.fakes.certificates import authority
from tests.fakes.client import RawClient
from tests.fakes.relay_server import RelayServer, address, planning
from tests.fakes.upstream import Conversation, ScriptedUpstream, answering, chunk, response

ANSWER = b'{"id":"c1"}'
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def test_a_stale_connection_is_retried_once_and_unnoticed() -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(response(ANSWER))
        if talk.number == 0:
            talk.read_request()  # gone with the second request in hand, nothing said
        else:
            talk.wait_closed()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        assert client.chat().status == 200
        assert client.chat().status == 200
        assert server.counters.retries == 1
        assert len(server.spool.records) == 2
    assert [len(talk.requests) for talk in upstream.talks] == [2, 1]
    assert upstream.talks[0].requests[1].raw == upstream.talks[1].requests[0].raw


def test_a_fresh_connection_that_breaks_is_not_retried() -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        assert client.chat().status == 502
        assert server.counters.retries == 0
    assert len(upstream.talks) == 1


def test_a_reused_connection_that_had_begun_to_answer_is_not_retried() -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(response(ANSWER))
        talk.read_request()
        talk.send(b"HTTP/1.1 2")

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        assert client.chat().status == 200
        assert client.chat().status == 502
        assert server.counters.retries == 0
    assert len(upstream.talks) == 1


@pytest.mark.parametrize("ending", [b"connection: close\r\n", b"HTTP/1.0"])
def test_a_connection_that_will_close_is_not_used_again(ending: bytes) -> None:
    raw = response(ANSWER, extra=ending) if ending.endswith(b"\n") else response(ANSWER).replace(b"HTTP/1.1", ending)
    with (
        ScriptedUpstream(answering(raw)) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        assert [client.chat().body for _ in range(3)] == [ANSWER] * 3
    assert len(upstream.talks) == 3


def test_a_connection_with_bytes_after_the_answer_is_not_used_again() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER) + response(b"smuggled"))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        assert [client.chat().body for _ in range(3)] == [ANSWER] * 3
    assert len(upstream.talks) == 3


def test_an_idle_connection_that_speaks_is_dropped() -> None:
    spoken = threading.Event()

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(response(ANSWER))
        if talk.number == 0:
            talk.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
            assert talk.wait_closed()
            spoken.set()
        talk.wait_closed()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        assert client.chat().body == ANSWER
        assert spoken.wait(10)
        assert client.chat().body == ANSWER


def test_a_refused_connection_is_a_502_that_may_be_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with RelayServer(planning(address(port))) as server, RawClient(server.port) as client:
        answer = client.chat()
    assert (answer.status, answer.header(b"x-should-retry")) == (502, None)
    assert b'"code":"upstream_unreachable"' in answer.body
    assert server.spool.exchanges[0].cause == "upstream_unreachable"


def test_an_unknown_host_is_a_502() -> None:
    nowhere = Address("fake", "no-such-host.invalid", 80, False)
    with RelayServer(planning(nowhere)) as server, RawClient(server.port) as client:
        assert b'"code":"upstream_unreachable"' in client.chat().body


def test_connecting_has_a_time_limit() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = []
        for _ in range(4):  # fill the backlog, so that the next one waits for ever
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
            fillers.append(filler)
        to = address(deaf.getsockname()[1], connect_timeout_s=0.2)
        with RelayServer(planning(to)) as server, RawClient(server.port) as client:
            answer = client.chat()
        for filler in fillers:
            filler.close()
    assert answer.status == 504
    assert b'"code":"upstream_connect_timeout"' in answer.body
    assert answer.header(b"x-should-retry") is None


@pytest.mark.parametrize(
    ("sent", "limit", "code"),
    [
        ([], {"first_byte_timeout_s": 0.2}, "upstream_first_byte_timeout"),
        ([], {"total_timeout_s": 0.2}, "upstream_total_timeout"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], {"first_byte_timeout_s": 0.2}, "upstream_first_byte_timeout"),
    ],
)
def test_no_answer_in_time_is_a_504_and_closes_the_upstream(
    sent: list[bytes], limit: dict[str, float], code: str
) -> None:
    closed = []

    def script(talk: Conversation) -> None:
        talk.read_request()
        for piece in sent:
            talk.send(piece)
        closed.append(talk.wait_closed())

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port, **limit))) as server,
        RawClient(server.port) as client,
    ):
        answer = client.chat()
        assert (answer.status, answer.header(b"x-should-retry")) == (504, b"false")
        assert client.chat().status == 504  # the client's connection lives on
    assert code.encode() in answer.body
    assert closed == [True, True]
    assert [exchange.cause for exchange in server.spool.exchanges] == [code] * 2


@pytest.mark.parametrize(
    ("limit", "cause"),
    [({"between_bytes_timeout_s": 0.2}, "upstream_stalled"), ({"total_timeout_s": 0.3}, "upstream_total_timeout")],
)
def test_an_answer_that_stalls_breaks_off(limit: dict[str, float], cause: str) -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(HEAD + chunk(b"begun"))
        talk.wait_closed()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port, **limit))) as server,
        RawClient(server.port) as client,
    ):
        answer = client.chat()
    assert (answer.body, answer.complete) == (b"begun", False)
    assert server.spool.exchanges[0].cause == cause


def test_a_slow_but_steady_answer_is_not_cut() -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(HEAD)
        for _ in range(8):
            time.sleep(0.1)  # the pace under test
            talk.send(chunk(b"x"))
        talk.send(b"0\r\n\r\n")

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port, between_bytes_timeout_s=0.4))) as server,
        RawClient(server.port) as client,
    ):
        answer = client.chat()
    assert (answer.body, answer.complete) == (b"x" * 8, True)


def test_tls_is_verified_and_works(tmp_path: Path) -> None:
    trusted, certificate = authority(tmp_path, "127.0.0.1")
    with (
        ScriptedUpstream(answering(response(ANSWER)), tls=certificate) as upstream,
        RelayServer(planning(address(upstream.port, tls=True)), tls=trusted) as server,
        RawClient(server.port) as client,
    ):
        assert [client.chat().body for _ in range(2)] == [ANSWER] * 2
    assert len(upstream.talks) == 1


@pytest.mark.parametrize("case", ["unknown authority", "wrong name"])
def test_tls_that_cannot_be_trusted_is_refused(tmp_path: Path, case: str) -> None:
    trusted, certificate = authority(tmp_path, "127.0.0.1" if case == "unknown authority" else "elsewhere.test")
    context = ssl.create_default_context() if case == "unknown authority" else trusted
    with (
        ScriptedUpstream(answering(response(ANSWER)), tls=certificate) as upstream,
        RelayServer(planning(address(upstream.port, tls=True)), tls=context) as server,
        RawClient(server.port) as client,
    ):
        assert b'"code":"upstream_unreachable"' in client.chat().body
    assert upstream.requests == []


def test_a_client_that_leaves_while_we_connect_leaves_nothing_behind() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        with RelayServer(planning(address(deaf.getsockname()[1]))) as server:
            with RawClient(server.port) as client:
                client.post(b"/v1/chat/completions", b"{}")
                while server.counters.in_flight == 0:
                    time.sleep(0.01)
            [exchange] = server.spool.wait_for(1)
            assert server.context is not None
            assert server.context.pool.watch <= {server.context.pool, *server.context.clients}
        for filler in fillers:
            filler.close()
    assert (exchange.cause, exchange.status) == ("client_left", 0)


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (100_000, 502)])
def test_a_streamed_upload_is_sent_again_only_while_it_is_small(size: int, status: int) -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(response(ANSWER))
        if talk.number == 0:
            talk.read_request()
        else:
            talk.wait_closed()

    upload = b"POST /v1/files HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size
    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        for expected in (200, status):
            client.send(upload)
            assert client.answer().status == expected
    assert [len(request.body) for request in upstream.requests][:2] == [size, size]
