from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plan import Plan, Refusal, RequestHead
from gateway.relay.context import Limits
from gateway.relay.framing import RequestFraming
from gateway.relay.known import KnownHead, known_head
from tests.fakes.client import RawClient
from tests.fakes.relay_server import RelayServer, address, planning
from tests.fakes.upstream import ScriptedUpstream, answering, response

HEAD = RequestHead("POST", "/v1/chat/completions", ())
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nContent-Length: %d\r\nx-a: 1\r\n\r\n%b"
ANSWER = response(b'{"id":"c1"}')


def known(raw: bytes = CHAT % (2, b"{}")) -> KnownHead:
    found = known_head(raw, HEAD, RequestFraming(length=2))
    assert found is not None
    return found


def test_the_same_head_is_known_whatever_its_length() -> None:
    raw = CHAT % (12345, b"{")
    assert known().begins(raw) == (12345, len(raw) - 1)
    assert known().framing(12345) == RequestFraming(length=12345, hosts=1)


@pytest.mark.parametrize(
    "raw",
    [
        CHAT.replace(b"x-a: 1", b"x-a: 2") % (2, b"{}"),
        CHAT.replace(b"x-a: 1", b"x-a: 1\r\ntransfer-encoding: chunked") % (2, b"{}"),
        CHAT.replace(b"%d", b"") % b"{}",
        CHAT.replace(b"%d", b"+2") % b"{}",
        CHAT.replace(b"%d", b"-2") % b"{}",
        CHAT.replace(b"%d", b"2 ") % b"{}",
        CHAT.replace(b"%d", b"2, 2") % b"{}",
        CHAT.replace(b"%d", b"0x2") % b"{}",
        CHAT.replace(b"%d", b"1234567890123") % b"{}",
        CHAT.replace(b"%d", b"\xb2") % b"{}",
        CHAT.replace(b"\r\nx-a", b"\nx-a") % (2, b"{}"),
        (CHAT % (2, b""))[:-1],
        b"",
    ],
)
def test_any_other_byte_is_for_llhttp(raw: bytes) -> None:
    assert known().begins(raw) is None


@pytest.mark.parametrize(
    ("raw", "asked"),
    [
        (b"POST /v1 HTTP/1.1\r\nhost: g\r\n\r\n", RequestFraming()),
        (b"POST /v1 HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n", RequestFraming(chunked=True)),
        (CHAT % (2, b"{}"), RequestFraming(length=2, expects_continue=True)),
        (CHAT.replace(b"x-a: 1", b"x-a: " + b"1" * 9000) % (2, b"{}"), RequestFraming(length=2)),
    ],
)
def test_what_is_not_kept(raw: bytes, asked: RequestFraming) -> None:
    assert known_head(raw, HEAD, asked) is None


@given(bodies=st.lists(st.binary(min_size=1, max_size=20), min_size=2, max_size=4), cuts=st.lists(st.integers(1, 200)))
def test_requests_that_repeat_a_head_arrive_as_they_were_sent_in_any_split(
    relaying: tuple[RelayServer, ScriptedUpstream], bodies: list[bytes], cuts: list[int]
) -> None:
    server, upstream = relaying
    seen = len(upstream.requests)
    with RawClient(server.port) as client:
        for body in bodies:
            raw = CHAT % (len(body), body)
            places = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
            for start, end in pairwise(places):
                client.send(raw[start:end])
            assert client.answer().status == 200
    assert [request.body for request in upstream.requests[seen:]] == bodies
    assert {request.header(b"x-a") for request in upstream.requests[seen:]} == {b"1"}


@pytest.fixture(scope="module")
def relaying() -> Iterator[tuple[RelayServer, ScriptedUpstream]]:
    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(body_bytes=100)) as server,
    ):
        yield server, upstream


def test_what_follows_a_known_request_in_one_read_is_read_too(
    relaying: tuple[RelayServer, ScriptedUpstream],
) -> None:
    server, upstream = relaying
    seen = len(upstream.requests)
    with RawClient(server.port) as client:
        client.send(CHAT % (2, b"{}"))
        assert client.answer().status == 200
        client.send(
            CHAT % (3, b"one") + CHAT % (3, b"two") + b"GET /local HTTP/1.1\r\nhost: g\r\n\r\n" + b"nonsense\r\n"
        )
        assert [client.answer().status for _ in range(4)] == [200, 200, 200, 400]
        assert client.ended()
    assert [request.body for request in upstream.requests[seen:]] == [b"{}", b"one", b"two"]


def test_the_first_of_two_heads_in_one_read_is_the_one_that_is_known(
    relaying: tuple[RelayServer, ScriptedUpstream],
) -> None:
    server, upstream = relaying
    seen = len(upstream.requests)
    with RawClient(server.port) as client:
        client.send(CHAT % (2, b"{}") + CHAT.replace(b"x-a: 1", b"x-a: 2") % (2, b"{}"))
        assert [client.answer().status for _ in range(2)] == [200, 200]
        client.send(CHAT % (2, b"{}"))
        assert client.answer().status == 200
    assert [request.header(b"x-a") for request in upstream.requests[seen:]] == [b"1", b"2", b"1"]


def test_a_known_heads_body_has_its_limit(relaying: tuple[RelayServer, ScriptedUpstream]) -> None:
    server, _ = relaying
    with RawClient(server.port) as client:
        client.send(CHAT % (2, b"{}"))
        assert client.answer().status == 200
        client.send(CHAT % (101, b"x" * 101))
        assert client.answer().status == 413
        assert client.ended()
    assert server.counters.held_bytes == 0


def test_who_repeats_a_head_is_asked_for_the_key_before_the_body_again() -> None:
    wrong = Refusal(401, "The gateway key is not valid.")
    answers: list[Refusal | None] = [wrong]

    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        RelayServer(planning(address(upstream.port)), screen=lambda _: answers.pop()) as server,
        RawClient(server.port) as client,
    ):
        client.send(CHAT % (2, b"{}"))
        assert client.answer().status == 200
        client.send(CHAT % (50, b"{"))
        assert client.answer().status == 401
        assert client.ended()
    assert (answers, len(upstream.requests)) == ([], 1)


def test_a_slow_body_behind_a_known_head_is_let_go() -> None:
    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        RelayServer(
            planning(address(upstream.port)), limits=Limits(body_timeout_s=0.2, body_bytes_per_s=10_000)
        ) as server,
        RawClient(server.port) as client,
    ):
        client.send(CHAT % (2, b"{}"))
        assert client.answer().status == 200
        client.send(CHAT % (50, b"{"))
        assert client.answer().status == 408
        assert client.ended()


def test_a_plan_is_asked_with_the_very_same_head() -> None:
    heads: list[RequestHead] = []

    with ScriptedUpstream(answering(ANSWER)) as upstream:
        plans = planning(address(upstream.port))

        def plan(head: RequestHead, body: bytes | None) -> Plan | Refusal:
            heads.append(head)
            return plans(head, body)

        with RelayServer(plan) as server, RawClient(server.port) as client:
            for body in (b"{}", b'{"a":1}', b"{}"):
                client.send(CHAT % (len(body), body))
                assert client.answer().status == 200
    assert len({id(head) for head in heads}) == 1
