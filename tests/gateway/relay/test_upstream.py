"""Odd upstreams on real sockets: what llhttp and the connection make of them, and what the client sees."""

import pytest

from tests.fakes.client import Answer, RawClient
from tests.fakes.relay_server import RelayServer, address, planning
from tests.fakes.upstream import Conversation, Script, ScriptedUpstream, answering, chunk, response, stream

ANSWER = b'{"id":"c1"}'
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"


def once(data: bytes | list[bytes], *, then_close: bool = True) -> Script:
    """Answers one request with raw bytes, then closes."""

    def script(talk: Conversation) -> None:
        talk.read_request()
        for piece in [data] if isinstance(data, bytes) else data:
            talk.send(piece)
        if not then_close:
            talk.wait_closed()

    return script


def ask(script: Script, method: bytes = b"POST", path: bytes = b"/v1/chat/completions") -> tuple[Answer, RelayServer]:
    """One request through a relay to a scripted upstream."""
    with (
        ScriptedUpstream(script) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(b"%b %b HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n\r\n{}" % (method, path))
        return client.answer(method.decode()), server


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + response(ANSWER),
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + response(ANSWER),
        b"HTTP/1.1 200 OK\r\n\r\n" + ANSWER,
        b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER,
        b"HTTP/1.1 200\r\ncontent-length: 11\r\n\r\n" + ANSWER,
        CHUNKED + b"\r\n" + chunk(ANSWER[:3]) + chunk(ANSWER[3:]) + b"0\r\n\r\n",
        CHUNKED + b"trailer: x-t\r\n\r\n" + chunk(ANSWER) + b"0\r\nx-t: 1\r\n\r\n",
        CHUNKED + b"\r\nb;ext=1\r\n" + ANSWER + b"\r\n0\r\n\r\n",
        response(ANSWER, extra=b"connection: close\r\n"),
        response(ANSWER) + b"garbage after the end",
        b"\r\n" + response(ANSWER),
    ],
)
@pytest.mark.parametrize("split", [1, 7, 10_000])
def test_odd_but_whole_answers_are_relayed_whole(raw: bytes, split: int) -> None:
    answer, server = ask(once([raw[i : i + split] for i in range(0, len(raw), split)]))
    assert (answer.status, answer.body, answer.complete) == (200, ANSWER, True)
    assert [(exchange.response, exchange.complete) for exchange in server.spool.exchanges] == [(ANSWER, True)]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", b"upstream_broke_off"),
        (b"HTTP/1.1 200 O", b"upstream_broke_off"),
        (b"<html>no</html>\r\n\r\n", b"upstream_framing"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc", b"upstream_framing"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"upstream_framing"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc", b"upstream_framing"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", b"upstream_framing"),
        (b"HTTP/1.1 200 OK\r\n" + b"x-long: " + b"y" * 300_000, b"upstream_framing"),
        (b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", b"upstream_framing"),
    ],
)
def test_no_answer_is_a_502_of_ours_and_recorded(raw: bytes, code: bytes) -> None:
    answer, server = ask(once(raw))
    assert answer.status == 502
    assert b'"code":"%b"' % code in answer.body
    assert answer.header(b"x-should-retry") == b"false"
    assert answer.header(b"x-stillhouse-id") is not None
    exchange = server.spool.exchanges[0]
    assert (exchange.status, exchange.complete, exchange.cause) == (502, False, code.decode())
    assert exchange.response == answer.body


@pytest.mark.parametrize(
    ("raw", "came", "cause"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n" + ANSWER, ANSWER, "upstream_broke_off"),
        (CHUNKED + b"\r\n" + chunk(ANSWER), ANSWER, "upstream_broke_off"),
        (CHUNKED + b"\r\n" + chunk(ANSWER) + b"zz\r\n", ANSWER, "upstream_framing"),
    ],
)
def test_an_answer_that_breaks_off_breaks_off_for_the_client(raw: bytes, came: bytes, cause: str) -> None:
    answer, server = ask(once(raw))
    assert (answer.status, answer.body, answer.complete) == (200, came, False)
    exchange = server.spool.exchanges[0]
    assert (exchange.response, exchange.complete, exchange.cause) == (came, False, cause)


def test_a_reset_in_mid_stream_is_an_end_without_an_end() -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(CHUNKED + b"\r\n" + chunk(ANSWER))
        talk.read_request()

    def play(talk: Conversation) -> None:
        talk.read_request()
        talk.send(CHUNKED + b"\r\n" + chunk(ANSWER))
        talk.reset()

    answer, server = ask(play)
    assert not answer.complete
    assert server.spool.exchanges[0].cause == "upstream_broke_off"


@pytest.mark.parametrize(
    ("method", "raw", "status"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", 200),
        (b"POST", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 500\r\netag: x\r\n\r\n", 304),
    ],
)
def test_answers_without_a_body(method: bytes, raw: bytes, status: int) -> None:
    answer, _ = ask(once(raw, then_close=False), method, b"/v1/other")
    assert (answer.status, answer.body) == (status, b"")
    assert answer.header(b"content-length") == (None if status == 204 else b"500")
    assert answer.header(b"transfer-encoding") is None


def test_a_head_request_does_not_spoil_the_next_one() -> None:
    with (
        ScriptedUpstream(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n", response(ANSWER))) as upstream,
        RelayServer(planning(address(upstream.port))) as server,
        RawClient(server.port) as client,
    ):
        client.send(b"HEAD /v1/models HTTP/1.1\r\nhost: g\r\n\r\n")
        assert client.answer("HEAD").header(b"content-length") == b"11"
        client.send(b"HEAD /v1/models HTTP/1.1\r\nhost: g\r\n\r\n")
        assert client.answer("HEAD").header(b"content-length") == b"11"


def test_compressed_answers_pass_as_they_are() -> None:
    packed = bytes(range(256))
    raw = response(packed, extra=b"content-encoding: gzip\r\n")
    answer, server = ask(once(raw))
    assert answer.body == packed
    assert answer.header(b"content-encoding") == b"gzip"
    exchange = server.spool.exchanges[0]
    assert (exchange.response, exchange.response_encoding) == (packed, "gzip")


def test_a_stream_without_done_is_whole_when_its_message_ends() -> None:
    answer, server = ask(once(b"".join(stream([b'data: {"a":1}\n\n']))))
    assert answer.complete
    assert server.spool.exchanges[0].complete


@pytest.mark.parametrize("status", [b"301 Moved Permanently", b"307 Temporary Redirect"])
def test_a_redirect_is_the_clients_to_see_and_followed_by_nobody(status: bytes) -> None:
    with ScriptedUpstream(answering(response(ANSWER))) as elsewhere:
        there = b"http://127.0.0.1:%d/v1/chat/completions" % elsewhere.port
        answer, server = ask(once(response(b"{}", status=status, extra=b"location: %b\r\n" % there)))
        assert elsewhere.requests == []
    assert (answer.status, answer.header(b"location")) == (int(status[:3]), there)
    assert server.spool.exchanges[0].status == int(status[:3])
