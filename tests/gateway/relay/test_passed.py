"""Routes that are passed: both bodies streamed, neither held nor kept."""

import threading

import pytest

from gateway.plan import RequestHead, Surface
from gateway.relay.causes import Cause
from gateway.relay.context import Limits, open_relay
from gateway.relay.exchange import Relayed
from gateway.relay.framing import RequestFraming
from tests.fakes.client import RawClient
from tests.fakes.relay_server import MemorySpool, OneRouter, RelayServer, address, planning
from tests.fakes.upstream import Conversation, ScriptedUpstream, answering, chunk, response

MULTIPART = b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\n' + bytes(range(256)) * 2000 + b"\r\n--x--\r\n"
POST = b"POST /v1/files?x=1 HTTP/1.1\r\nhost: g\r\ncontent-type: multipart/form-data; boundary=x\r\n"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_binary_upload_arrives_as_sent_and_nothing_is_kept(chunked: bool) -> None:
    with (
        ScriptedUpstream(answering(response(b"\x00\xff" * 100_000, content_type=b"audio/mpeg"))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        for _ in range(2):
            if chunked:
                pieces = [MULTIPART[start : start + 50_000] for start in range(0, len(MULTIPART), 50_000)]
                client.send(POST + b"transfer-encoding: chunked\r\n\r\n" + b"".join(map(chunk, pieces)) + b"0\r\n\r\n")
            else:
                client.send(POST + b"content-length: %d\r\n\r\n" % len(MULTIPART) + MULTIPART)
            answer = client.answer()
            assert answer.body == b"\x00\xff" * 100_000
            assert answer.header(b"x-stillhouse-id") is not None
            assert answer.header(b"x-stillhouse-arm") is None
        assert server.spool.records == []
        assert server.counters.requests == {("passed", 2, ""): 2}
    assert [request.body for request in upstream.requests] == [MULTIPART] * 2
    assert upstream.requests[0].start == b"POST /v1/files?x=1 HTTP/1.1"
    assert (upstream.requests[0].header(b"content-length") is None) == chunked
    assert len(upstream.talks) == 1


@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
def test_requests_without_a_body(method: bytes) -> None:
    with (
        ScriptedUpstream(answering(response(b"[]"))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(method + b" /v1/batches HTTP/1.1\r\nhost: g\r\n\r\n")
        assert client.answer().body == b"[]"
    assert upstream.requests[0].header(b"content-length") is None
    assert upstream.requests[0].header(b"transfer-encoding") is None


def test_an_upload_flows_while_it_comes() -> None:
    first = threading.Event()

    def script(talk: Conversation) -> None:
        talk._until(b"\r\n\r\n")
        assert talk._exactly(5) == b"first"
        first.set()
        assert talk._exactly(6) == b"second"
        talk.send(response(b"{}"))
        talk.wait_closed()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(POST + b"content-length: 11\r\n\r\nfirst")
        assert first.wait(10)
        client.send(b"second")
        assert client.answer().status == 200


def test_a_slow_upstream_holds_the_upload_back() -> None:
    reading = threading.Event()
    size = 30_000_000

    def script(talk: Conversation) -> None:
        assert reading.wait(10)
        request = talk.read_request()
        assert request is not None
        talk.send(response(b"%d" % len(request.body)))

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port, timeout_s=1) as client,
    ):
        client.send(POST + b"content-length: %d\r\n\r\n" % size)
        sent, block = 0, b"x" * 1_000_000
        try:
            while sent < size:
                sent += client.socket.send(block)
        except TimeoutError:
            pass
        assert sent < size, "the whole upload was taken though nobody read it"
        reading.set()
        client.socket.settimeout(10)
        while sent < size:
            sent += client.socket.send(block[: size - sent])
        assert client.answer().body == b"%d" % size


class Client:
    """Remembers what was asked of the client's side."""

    write_paused = False

    def __init__(self) -> None:
        self.holds: list[bool] = []

    def write(self, data: bytes) -> None:
        """Nobody reads."""

    def done(self, keep_alive: bool) -> None:
        """Nothing follows."""

    def broken(self, looks_whole: bool) -> None:
        """Nothing follows."""

    def hold_upload(self, hold: bool) -> None:
        self.holds.append(hold)


async def test_a_pause_by_the_last_piece_ends_too() -> None:
    with ScriptedUpstream(answering(response(b"{}"))) as upstream:
        context, client = open_relay(OneRouter(planning(address(upstream.port))), MemorySpool()), Client()
        head = RequestHead("POST", "/v1/files", ())
        upload = Relayed(context, client, head, Surface.PASSED, RequestFraming(length=2), http11=True)
        upload.begin()
        upload.body(b"ab")
        upload.upload_paused(True)
        upload.end_body()
        upload.upload_paused(False)
        upload.upload_paused(True)  # of what is in flight: there is nothing left to hold
        assert client.holds == [True, False]
        upload.abandon(Cause.CLIENT_LEFT)
        context.close()


def test_an_early_answer_ends_the_connection_but_is_read() -> None:
    def script(talk: Conversation) -> None:
        talk._until(b"\r\n\r\n")
        talk.send(response(b"{}", status=b"401 Unauthorized"))
        talk.wait_closed()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(POST + b"content-length: 1000000\r\n\r\n" + b"x" * 1000)
        answer = client.answer()
        assert (answer.status, answer.header(b"connection")) == (401, b"close")
        assert client.ended()


def test_a_client_that_leaves_in_mid_upload_closes_the_upstream() -> None:
    closed = threading.Event()

    def script(talk: Conversation) -> None:
        talk._until(b"\r\n\r\n")
        if talk.wait_closed():
            closed.set()

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
    ):
        with RawClient(server.port) as client:
            client.send(POST + b"content-length: 1000\r\n\r\nx")
            upstream.arrived.get(timeout=10)
        assert closed.wait(2)
        assert server.counters.in_flight == 0


def test_an_upload_has_a_limit() -> None:
    with (
        ScriptedUpstream(lambda talk: talk.wait_closed() and None) as upstream,
        RelayServer(planning(address(upstream.port)), limits=Limits(passed_body_bytes=1000)) as server,
        RawClient(server.port) as client,
    ):
        client.send(POST + b"transfer-encoding: chunked\r\n\r\n" + chunk(b"x" * 900))
        client.send(chunk(b"x" * 900))
        assert client.answer().status == 413


def test_a_broken_upload_is_a_400_and_never_completed_upstream() -> None:
    with (
        ScriptedUpstream(answering(response(b"{}"))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(POST + b"transfer-encoding: chunked\r\n\r\n" + chunk(b"x") + b"zz\r\n")
        assert client.answer().status == 400
        assert client.ended()
    assert upstream.requests == []


def test_a_passed_event_stream_is_not_kept_waiting() -> None:
    go_on = threading.Event()

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        assert go_on.wait(10)

    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(b"GET /v1/fine_tuning/jobs/x/events?stream=true HTTP/1.1\r\nhost: g\r\n\r\n")
        client.read_until(b"data: 1\n\n")
        go_on.set()
        assert client.answer().complete
