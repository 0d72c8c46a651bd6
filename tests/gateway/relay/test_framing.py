"""Heads in and out, as pure functions."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plan import Refusal
from gateway.relay import framing
from gateway.relay.framing import Ending, MalformedError

HOST = (b"host", b"gateway")
TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1, max_size=20).map(
    str.encode
)
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40).map(str.encode)


def block(headers: list[tuple[bytes, bytes]], start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([start, *[b"%b: %b" % header for header in headers]])


class Parsed:
    """What llhttp makes of bytes: an independent reader of what we wrote."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


@pytest.mark.parametrize(
    ("target", "path", "sent_on"),
    [
        (b"/v1/chat/completions", "/v1/chat/completions", "/v1/chat/completions"),
        (b"/v1/x?a=%2F&b", "/v1/x", "/v1/x?a=%2F&b"),
        (b"/v1/%63hat/completions", "/v1/chat/completions", "/v1/%63hat/completions"),
        (b"http://other:81/v1/x?q=1", "/v1/x", "/v1/x?q=1"),
        (b"/v1/.well-known/..x", "/v1/.well-known/..x", "/v1/.well-known/..x"),
        (b"/v1/x?a=/../b", "/v1/x", "/v1/x?a=/../b"),
    ],
)
def test_path_of_takes_origin_and_absolute_form(target: bytes, path: str, sent_on: str) -> None:
    assert framing.path_of(target) == (path, sent_on)


@pytest.mark.parametrize(
    "target",
    [b"/v1/../admin", b"/v1/%2e%2e/admin", b"/v1/..", b"/./x", b"/v1/x#f", b"*", b"host:443", b"ftp://h/x", b""],
)
def test_path_of_refuses_what_an_upstream_may_read_differently(target: bytes) -> None:
    with pytest.raises(MalformedError):
        framing.path_of(target)


def test_request_framing_reads_length_chunked_expect_and_connection() -> None:
    read = framing.request_framing("1.1", [HOST, (b"content-length", b"12"), (b"expect", b"100-Continue")])
    assert (read.length, read.chunked, read.expects_continue) == (12, False, True)
    read = framing.request_framing("1.1", [HOST, (b"transfer-encoding", b"Chunked"), (b"connection", b"close, X-Hop")])
    assert (read.length, read.chunked, read.named) == (None, True, {b"close", b"x-hop"})


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", []),
        ("1.1", [HOST, HOST]),
        ("1.0", [HOST, HOST]),
        ("2.0", [HOST]),
        ("0.9", []),
        ("1.0", [HOST, (b"transfer-encoding", b"chunked")]),
        ("1.1", [HOST, (b"transfer-encoding", b"gzip, chunked")]),
    ],
)
def test_request_framing_refuses_what_llhttp_lets_through(version: str, headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(MalformedError):
        framing.request_framing(version, headers)


def test_end_to_end_drops_hop_by_hop_named_and_framing_headers() -> None:
    headers = [HOST, (b"te", b"x"), (b"x-a", b"1"), (b"x-hop", b"2"), (b"content-length", b"3"), (b"x-a", b"4")]
    assert framing.end_to_end(headers, frozenset({b"x-hop"})) == ((b"x-a", b"1"), (b"x-a", b"4"))


@given(
    headers=st.lists(st.tuples(TOKEN.map(lambda name: b"x-" + name.lower()), VALUE), max_size=12),
    body=st.binary(max_size=200),
)
def test_a_request_written_is_read_back_the_same(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    raw = framing.request_head("POST", "/v1/x?a=b", b"h", tuple(headers), framing.length_line(len(body))) + body
    parsed = Parsed()
    httptools.HttpRequestParser(parsed).feed_data(raw)
    assert parsed.headers == [(b"host", b"h"), *headers, (b"content-length", b"%d" % len(body))]
    assert (parsed.body, parsed.complete) == (body, 1)


@pytest.mark.parametrize("bad", [b"a\r\nx-evil: 1", b"a\nb", b"a\rb"])
def test_a_header_that_breaks_out_of_its_line_is_refused(bad: bytes) -> None:
    with pytest.raises(MalformedError):
        framing.request_head("GET", "/", b"h", ((b"authorization", bad),), b"")
    with pytest.raises(MalformedError):
        framing.request_head("GET", "/ HTTP/1.1\r\nx: y", b"h", (), b"")


def test_response_head_keeps_order_and_spelling_but_not_one_hop_headers() -> None:
    head = framing.response_head(
        200,
        block(
            [
                (b"Content-Type", b"text/event-stream"),
                (b"Connection", b"close, X-Hop"),
                (b"X-Hop", b"1"),
                (b"X-Request-ID", b"r"),
                (b"Set-Cookie", b"a"),
                (b"set-cookie", b"b"),
                (b"Content-Encoding", b"GZIP"),
                (b"Transfer-Encoding", b"chunked"),
                (b"x-stillhouse-arm", b"forged"),
            ]
        ),
    )
    assert head.lines == (
        b"Content-Type: text/event-stream\r\nX-Request-ID: r\r\n"
        b"Set-Cookie: a\r\nset-cookie: b\r\nContent-Encoding: GZIP\r\n"
    )
    assert (head.chunked, head.length, head.content_encoding) == (True, None, b"gzip")


def test_response_head_refuses_foreign_transfer_codings() -> None:
    with pytest.raises(MalformedError):
        framing.response_head(200, block([(b"Transfer-Encoding", b"gzip, chunked")]))


@pytest.mark.parametrize(
    ("method", "status", "length", "http11", "ending"),
    [
        ("HEAD", 200, 5, True, Ending.NONE),
        ("GET", 204, None, True, Ending.NONE),
        ("GET", 304, 7, True, Ending.NONE),
        ("POST", 200, 5, True, Ending.LENGTH),
        ("POST", 200, None, True, Ending.CHUNKED),
        ("POST", 200, None, False, Ending.CLOSE),
    ],
)
def test_ending(method: str, status: int, length: int | None, http11: bool, ending: Ending) -> None:
    lines = [] if length is None else [(b"content-length", b"%d" % length)]
    assert framing.ending_of(method, framing.response_head(status, block(lines)), http11) is ending


def test_response_start_keeps_an_unusual_reason_and_says_close() -> None:
    head = framing.response_head(299, block([(b"content-length", b"3")], b"HTTP/1.1 299 Fine Enough"))
    start = framing.response_start(head, Ending.LENGTH, b"x-own: 1\r\n", keep_alive=False)
    assert start == b"HTTP/1.1 299 Fine Enough\r\nx-own: 1\r\ncontent-length: 3\r\nconnection: close\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8))
def test_chunks_are_read_back_the_same(pieces: list[bytes]) -> None:
    head = framing.response_head(200, block([]))
    raw = framing.response_start(head, Ending.CHUNKED, b"", keep_alive=True)
    raw += b"".join(map(framing.chunk, pieces)) + framing.LAST_CHUNK
    parsed = Parsed()
    httptools.HttpResponseParser(parsed).feed_data(raw)
    assert (parsed.body, parsed.complete) == (b"".join(pieces), 1)


def test_a_refusal_is_one_whole_response() -> None:
    raw = framing.refusal_response(Refusal(429, "slow", headers=((b"retry-after", b"1"),)), b"{}", keep_alive=True)
    assert raw == (
        b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        b"retry-after: 1\r\n\r\n{}"
    )


def test_the_final_head_is_found_behind_interim_ones_and_blank_lines() -> None:
    raw = (
        b"\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\na: b\r\n\r\nbody\r\n\r\n"
    )
    assert framing.head_block(raw, 2) == b"HTTP/1.1 200 OK\r\na: b"
    assert framing.head_block(b"\r\n\r\nHTTP/1.1 200\r\n\r\n", 0) == b"HTTP/1.1 200"
