"""What bounds this process as a whole: bodies held at once, connections, and keys asked for before bodies are read."""

import time

import pytest

from gateway.plan import Plan, Refusal, RequestHead
from gateway.relay.context import Limits
from tests.fakes.client import RawClient
from tests.fakes.relay_server import RelayServer, address, leg, planning
from tests.fakes.upstream import Conversation, ScriptedUpstream, answering, response

ANSWER = response(b'{"choices":[]}')
WRONG_KEY = Refusal(401, "The gateway key is not valid.", type="authentication_error", code="invalid_api_key")
HALF = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"


def eventually(what: str, is_so: object) -> None:
    deadline = time.monotonic() + 10
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def screening(head: RequestHead) -> Refusal | None:
    return None if head.header(b"authorization") == b"Bearer good" else WRONG_KEY


def test_a_body_is_not_read_for_a_wrong_key() -> None:
    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        RelayServer(planning(address(upstream.port)), screen=screening) as server,
        RawClient(server.port) as client,
    ):
        client.send(HALF % (b"/v1/chat/completions", 1_000_000, b"") + b"x" * 10)
        answer = client.answer()
        assert client.ended()
    assert (answer.status, server.counters.held_bytes, upstream.requests) == (401, 0, [])
    assert b"invalid_api_key" in answer.body


def test_a_wrong_key_gets_no_continue() -> None:
    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        RelayServer(planning(address(upstream.port)), screen=screening) as server,
        RawClient(server.port) as wrong,
        RawClient(server.port) as right,
    ):
        asks = b"expect: 100-continue\r\n"
        wrong.send(HALF % (b"/v1/chat/completions", 2, asks))
        right.send(HALF % (b"/v1/chat/completions", 2, asks + b"authorization: Bearer good\r\n"))
        assert wrong.answer().status == 401
        assert right.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")


def test_bodies_held_at_once_have_a_bound_and_room_comes_back() -> None:
    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(held_bytes=3000)) as server,
        RawClient(server.port) as first,
        RawClient(server.port) as second,
    ):
        first.send(HALF % (b"/v1/chat/completions", 2500, b"") + b"x" * 2000)
        eventually("the first body came", lambda: server.counters.held_bytes == 2000)
        second.send(HALF % (b"/v1/chat/completions", 2500, b"") + b"x" * 2000)
        refused = second.answer()
        assert (refused.status, refused.header(b"retry-after")) == (503, b"1")
        assert b'"code":"overloaded"' in refused.body
        eventually("the second's bytes were let go", lambda: server.counters.held_bytes == 2000)
        first.send(b"x" * 500)
        assert first.answer().status == 200
        assert server.counters.held_bytes == 0


def test_a_client_that_leaves_gives_its_room_back() -> None:
    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(HALF % (b"/v1/chat/completions", 100, b"") + b"x" * 60)
        eventually("its body came", lambda: server.counters.held_bytes == 60)
        client.reset()
        eventually("its room came back", lambda: server.counters.held_bytes == 0)


def test_an_answer_that_there_is_no_room_to_keep_is_relayed_whole_and_kept_in_part() -> None:
    with (
        ScriptedUpstream(answering(response(b"y" * 5000))) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(held_bytes=1000)) as server,
        RawClient(server.port) as client,
    ):
        assert client.chat().body == b"y" * 5000
        [exchange] = server.spool.exchanges
        assert (exchange.complete, exchange.cause) == (False, "gateway_overloaded")
        assert server.counters.held_bytes == 0


def test_one_connection_too_many_is_told_so_and_the_others_go_on() -> None:
    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(connections=2)) as server,
        RawClient(server.port) as first,
        RawClient(server.port) as second,
    ):
        assert [first.chat().status, second.chat().status] == [200, 200]
        with RawClient(server.port) as third:
            answer = third.chat()
            assert (answer.status, answer.header(b"retry-after")) == (503, b"1")
            assert third.ended()
        assert first.chat().status == 200
        second.close()
        eventually("two connections are left", lambda: server.counters.connections <= 1)
        with RawClient(server.port) as fourth:
            assert fourth.chat().status == 200


def test_far_too_many_connections_are_cut_at_once() -> None:
    with (
        RelayServer(planning(address(1)), limits=Limits(connections=1)) as server,
        RawClient(server.port),
        RawClient(server.port),
        RawClient(server.port) as third,
    ):
        assert third.read_to_end() == b""


def test_an_upstreams_connections_have_a_cap() -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        assert talk.wait_closed()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port, max_connections=1))) as server,
        RawClient(server.port) as first,
        RawClient(server.port) as second,
    ):
        first.post(b"/v1/chat/completions", b"{}")
        upstream.arrived.get(timeout=10)
        answer = second.chat()
        assert (answer.status, answer.header(b"retry-after")) == (503, b"1")
        assert b'"code":"upstream_busy"' in answer.body


@pytest.mark.parametrize(("size", "peeked"), [(10, 10), (100, 64)])
def test_a_passed_body_is_looked_at_and_streamed(size: int, peeked: int) -> None:
    seen: list[bytes] = []
    with ScriptedUpstream(answering(ANSWER)) as upstream:

        def plan(head: RequestHead, body: bytes | None) -> Plan:
            seen.append(body or b"")
            return Plan(leg(head, body, address(upstream.port)))

        with (
            RelayServer(plan, peeks=True, limits=Limits(peek_bytes=64)) as server,
            RawClient(server.port) as client,
        ):
            client.send(HALF % (b"/v1/embeddings", size, b"") + b"z" * peeked)
            eventually("it was looked at", lambda: seen)
            client.send(b"z" * (size - peeked))
            assert client.answer().status == 200
            assert server.counters.held_bytes == 0
    assert [len(one) for one in seen] == [peeked]
    assert upstream.requests[0].body == b"z" * size
    assert server.spool.records == []


def test_a_passed_request_without_a_body_is_not_waited_for() -> None:
    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        RelayServer(planning(address(upstream.port)), peeks=True) as server,
        RawClient(server.port) as client,
    ):
        client.send(b"GET /v1/batches HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.answer("GET").status == 200
