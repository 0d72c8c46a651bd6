"""What is written down: before the end can be known, in part when it broke off, and never at the answer's cost."""

import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture.exchange import decode
from gateway.plan import Address, Leg, Plan
from gateway.relay import framing
from gateway.relay.context import Limits
from gateway.relay.counters import Counters
from gateway.relay.held import Held
from gateway.relay.recording import Asked, Recording
from tests.fakes.client import RawClient
from tests.fakes.relay_server import MemorySpool, RelayServer, address, planning
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

ANSWER = b'{"id":"c1"}'
EVENTS = [b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b"data: [DONE]\n\n", b": after the end\n\n"]
COMPLETED = b'event: response.completed\ndata: {"type":"response.completed","response":{"output":[]}}\n\n'


def recording(spool: MemorySpool, copy_bytes: int = 1000) -> Recording:
    plan = Plan(
        Leg(Address("u", "h", 1, False), "POST", "/", (), b"{}"), captured=True, route="chat.completions", task="t"
    )
    counters = Counters()
    keeping = SimpleNamespace(
        spool=spool, counters=counters, held=Held(counters, 10**6), limits=Limits(copy_bytes=copy_bytes)
    )
    return Recording(Asked("i", 1.0, 0.0, b"{}", ""), plan, keeping)


def head(content_type: bytes = b"text/event-stream", encoding: bytes = b"") -> framing.ResponseHead:
    block = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-encoding: %b" % (content_type, encoding)
    return framing.response_head(200, block)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    events=st.lists(st.sampled_from([*EVENTS, COMPLETED, b"data: \xf0\x9f\x98\x80\r\n\r\n"]), max_size=8),
    cuts=st.lists(st.integers(0, 1000), max_size=10),
)
def test_every_byte_leaves_in_order_and_one_record_is_written(events: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(events)
    places = sorted({cut % (len(whole) + 1) for cut in cuts} | {0, len(whole)})
    spool = MemorySpool()
    kept = recording(spool)
    kept.begin(head())
    left = b""
    for start, stop in pairwise(places):
        left += kept.take(whole[start:stop], end=False)
        assert b"[DONE]" not in left or spool.records
        assert COMPLETED not in left or spool.records
    left += kept.take(b"", end=True)
    assert left == whole
    [exchange] = spool.exchanges
    assert exchange.complete
    assert whole.startswith(exchange.response)


def test_compressed_streams_are_recorded_at_their_end() -> None:
    spool = MemorySpool()
    kept = recording(spool)
    kept.begin(head(encoding=b"gzip"))
    assert kept.take(b"data: [DONE]\n\n", end=False) == b"data: [DONE]\n\n"
    assert spool.records == []
    kept.take(b"", end=True)
    assert spool.exchanges[0].response_encoding == "gzip"


def test_a_response_beyond_the_bound_is_kept_in_part() -> None:
    spool = MemorySpool()
    kept = recording(spool, copy_bytes=10)
    kept.begin(head(b"application/json"))
    assert [kept.take(b"x" * 8, end=False) for _ in range(3)] == [b"x" * 8] * 3
    kept.take(b"", end=True)
    [exchange] = spool.exchanges
    assert (exchange.response, exchange.complete, exchange.cause) == (b"x" * 10, False, "too_large")


def test_a_withheld_event_beyond_the_bound_is_let_go() -> None:
    spool = MemorySpool()
    kept = recording(spool, copy_bytes=50)
    kept.begin(head())
    first = b"event: response.completed\n"
    assert kept.take(first, end=False) == b""
    assert kept.take(b"data: " + b"x" * 60, end=False) == first + b"data: " + b"x" * 60
    assert spool.exchanges[0].cause == "too_large"


@pytest.mark.parametrize("failure", [False, OSError("no room")])
def test_a_spool_that_takes_nothing_costs_no_answer(failure: bool | OSError) -> None:
    class Full(MemorySpool):
        def append(self, record: bytes, task: str | None = None) -> bool:  # noqa: ARG002
            if isinstance(failure, OSError):
                raise failure
            return failure

    with (
        ScriptedUpstream(answering(response(ANSWER), stream(EVENTS))) as upstream,
        RelayServer(planning(address(upstream.port)), spool=Full()) as server,
        RawClient(server.port) as client,
    ):
        assert client.chat().body == ANSWER
        assert client.chat().body == b"".join(EVENTS)
        assert (server.counters.appended, server.counters.not_appended) == (0, 2)


def test_the_record_is_there_before_the_last_byte_of_a_unary_answer() -> None:
    spool = MemorySpool()
    with (
        ScriptedUpstream(answering([response(ANSWER)[:-1], response(ANSWER)[-1:]])) as upstream,
        RelayServer(planning(address(upstream.port)), spool=spool) as server,
        RawClient(server.port) as client,
    ):
        client.post(b"/v1/chat/completions", b"{}")
        client.read_until(ANSWER)
        assert [exchange.response for exchange in spool.exchanges] == [ANSWER]


def test_opted_out_exchanges_are_counted_and_not_kept() -> None:
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port), opted_out=True)) as server,
        RawClient(server.port) as client,
    ):
        answer = client.chat()
        assert (answer.body, answer.header(b"x-stillhouse-arm")) == (ANSWER, b"teacher")
        assert (server.spool.records, server.spool.opted_out) == ([], 1)


def test_what_was_taken_is_given_back_once() -> None:
    released = []
    with (
        ScriptedUpstream(answering(response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port), release=(lambda: released.append(1),))) as server,
        RawClient(server.port) as client,
    ):
        client.chat()
        client.chat(extra=b"connection: close\r\n")
    assert released == [1, 1]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("when", ["before the head", "before the first event", "in mid-stream", "in mid-body"])
def test_a_client_that_leaves_is_recorded_in_part_and_its_upstream_closed(how: str, when: str) -> None:
    sent = {
        "before the head": b"",
        "before the first event": STREAM_HEAD,
        "in mid-stream": STREAM_HEAD + chunk(EVENTS[0]),
        "in mid-body": response(ANSWER)[:-3],
    }[when]
    ready, closed = threading.Event(), threading.Event()

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(sent)
        ready.set()
        if talk.wait_closed():
            closed.set()

    with ScriptedUpstream(script) as upstream, RelayServer(planning(address(upstream.port))) as server:
        client = RawClient(server.port)
        client.post(b"/v1/chat/completions", b'{"stream":true}')
        assert ready.wait(10)
        if sent:
            client.read_until(b"\r\n\r\n")
        if when == "in mid-stream":
            client.read_until(EVENTS[0])
        client.reset() if how == "reset" else client.close()
        assert closed.wait(1), "the upstream was not closed within a second"
        [exchange] = server.spool.wait_for(1)
        assert (exchange.complete, exchange.cause) == (False, "client_left")
        assert exchange.response == {"in mid-stream": EVENTS[0], "in mid-body": ANSWER[:-3]}.get(when, b"")
        assert exchange.status == (0 if when == "before the head" else 200)
        assert server.counters.in_flight == 0


def test_a_client_that_leaves_after_the_end_of_the_stream_has_a_whole_record() -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(STREAM_HEAD + chunk(EVENTS[0]) + chunk(EVENTS[1]))
        talk.wait_closed()

    with ScriptedUpstream(script) as upstream, RelayServer(planning(address(upstream.port))) as server:
        with RawClient(server.port) as client:
            client.post(b"/v1/chat/completions", b'{"stream":true}')
            client.read_until(b"[DONE]")
        assert [exchange.complete for exchange in server.spool.exchanges] == [True]


def test_a_slow_client_pauses_its_upstream_and_a_stalled_one_is_let_go() -> None:
    block = b"x" * 100_000
    stuck, closed = threading.Event(), threading.Event()

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        talk.socket.settimeout(0.5)
        try:
            for _ in range(300):
                talk.send(chunk(block))
        except TimeoutError:
            stuck.set()
        if talk.wait_closed():
            closed.set()

    limits = Limits(stall_timeout_s=2, copy_bytes=1000)
    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port)), limits=limits) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.post(b"/v1/chat/completions", b"{}")
        assert stuck.wait(10), "the upstream could send 30 MB to a client that reads nothing"
        assert closed.wait(10)
        assert server.counters.errors == {"client_stalled": 1}


def test_a_slow_client_also_pauses_the_answer_to_its_next_request() -> None:
    asked_again, stuck = threading.Event(), threading.Event()

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(response(b"x" * 3_000_000))
        talk.read_request()
        asked_again.set()
        talk.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        talk.socket.settimeout(0.5)
        try:
            for _ in range(300):
                talk.send(chunk(b"x" * 100_000))
        except TimeoutError:
            stuck.set()
        talk.wait_closed()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(copy_bytes=1000)) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        for _ in range(2):
            client.post(b"/v1/chat/completions", b"{}")
        while not asked_again.wait(0.01):  # how much of the first answer the kernel holds is its own affair
            client.socket.recv(65536)
        assert stuck.wait(30), "the upstream could send 30 MB to a client that reads nothing"


def test_a_slow_client_that_reads_on_gets_everything() -> None:
    block = b"x" * 1_000_000
    paused = threading.Event()

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        talk.socket.settimeout(0.5)
        left = chunk(block) * 20 + LAST_CHUNK
        while left:
            try:
                left = left[talk.socket.send(left) :]
            except TimeoutError:
                paused.set()
        talk.socket.settimeout(10)
        talk.wait_closed()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port, between_bytes_timeout_s=0.2))) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.post(b"/v1/chat/completions", b"{}")
        assert paused.wait(10)
        answer = client.answer()
    assert (len(answer.body), answer.complete) == (20_000_000, True)


def test_a_streams_time_is_taken_at_its_first_content_and_once() -> None:
    spool = MemorySpool()
    kept = recording(spool)
    kept.begin(head())
    kept.take(b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n', end=False)
    first_byte_ms = kept.first_ms
    kept.take(EVENTS[0], end=False)
    first_content_ms = kept.first_ms
    kept.take(EVENTS[0], end=False)
    kept.take(EVENTS[1], end=True)
    assert first_byte_ms is not None
    assert first_content_ms is not None
    assert first_byte_ms < first_content_ms
    assert decode(spool.records[0]).first_ms == first_content_ms


def test_records_are_exchanges() -> None:
    spool = MemorySpool()
    kept = recording(spool)
    kept.begin(head(b"application/json"))
    kept.take(ANSWER, end=True)
    exchange = decode(spool.records[0])
    assert (exchange.id, exchange.task, exchange.upstream, exchange.status) == ("i", "t", "u", 200)
