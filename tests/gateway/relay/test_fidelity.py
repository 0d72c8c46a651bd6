"""Any split of an upstream's bytes gives the client the same body and the spool the same record; as httpx2 reads it."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.relay.causes import Cause
from gateway.relay.framing import ResponseHead
from gateway.relay.upstream import UpstreamConnection
from tests.fakes.client import RawClient
from tests.fakes.relay_server import RelayServer, address, planning
from tests.fakes.upstream import Conversation, ScriptedUpstream, chunk

EVENTS = [
    b": keep-alive\r\n\r\n",
    b'data: {"choices":[{"delta":{"content":"\xf0\x9f\x98\x80"}}]}\n\n',
    b"data: one\ndata: two\n\n",
    b"event: response.output_text.delta\ndata: {}\n\n",
    b'data: {"error":{"message":"late"}}\n\n',
    b"\n",
    b"data: [DONE]\n\n",
]
HEADS = [
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n",
]
CUTS = st.lists(st.integers(0, 5000), max_size=12)


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[start:stop] for start, stop in pairwise(places)]


class Scripted:
    """Sends whatever it was given last, in those pieces."""

    pieces: list[bytes]

    def __call__(self, talk: Conversation) -> None:
        while talk.read_request() is not None:
            for piece in self.pieces:
                talk.send(piece)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Scripted, RelayServer]]:
    script = Scripted()
    with ScriptedUpstream(script) as upstream, RelayServer(planning(address(upstream.port))) as server:
        yield script, server


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(head=st.sampled_from(HEADS), events=st.lists(st.sampled_from(EVENTS), max_size=8), cuts=CUTS)
def test_a_stream_is_relayed_byte_for_byte(
    served: tuple[Scripted, RelayServer], head: bytes, events: list[bytes], cuts: list[int]
) -> None:
    script, server = served
    raw = head + b"".join(map(chunk, events)) + b"0\r\n\r\n"
    script.pieces = split(raw, cuts)
    server.spool.records.clear()
    with RawClient(server.port) as client:
        answer = client.chat(b'{"stream":true}')
    assert (answer.body, answer.complete) == (b"".join(events), True)
    [exchange] = server.spool.exchanges
    assert exchange.complete
    assert answer.body.startswith(exchange.response)
    rest = answer.body[len(exchange.response) :]
    assert not rest or b"[DONE]" in exchange.response or b'"error"' in exchange.response


class Transport(asyncio.Transport):
    """Goes nowhere; remembers whether it was closed."""

    closed = False

    def write(self, data: object) -> None:
        """Nobody listens."""

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


class Told:
    """A call and a pool in one: what a connection says to both."""

    method = "POST"
    loop = cast(asyncio.AbstractEventLoop, SimpleNamespace(call_soon=lambda _send: None))  # nothing is sent here

    def __init__(self) -> None:
        self.heads: list[ResponseHead] = []
        self.body = b""
        self.ends: list[str] = []

    def received(self, head: ResponseHead | None, data: bytes, end: bool) -> None:
        if head is not None:
            self.heads.append(head)
        self.body += data
        if end:
            self.ends.append("end")

    def lost(self, cause: Cause, nothing_came: bool) -> None:
        self.ends.append(f"{cause} {nothing_came}")

    def upload_paused(self, paused: bool) -> None:
        """No upload here."""

    def idle(self, connection: UpstreamConnection) -> None:  # noqa: ARG002
        self.ends.append("idle")

    def gone(self, connection: UpstreamConnection) -> None:  # noqa: ARG002
        self.ends.append("gone")


def read(pieces: list[bytes], *, eof: bool) -> tuple[list[str], bytes, list[tuple[int, bytes]]]:
    """What a connection makes of a response in pieces: (endings in order, body, heads)."""
    told = Told()
    connection = UpstreamConnection(told, ("h", 1, False))
    connection.connection_made(Transport())
    connection.serve(told, b"")
    for piece in pieces:
        if not connection.closing:
            connection.data_received(piece)
    if eof:
        connection.connection_lost(None)
    return told.ends, told.body, [(head.status, head.lines) for head in told.heads]


AMBIGUOUS = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
RESPONSES = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\n\r\nhello",
    b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\ntrailer: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    AMBIGUOUS,
    b"nonsense",
    b"HTTP/1.1 200 OK\r\ncontent-le",
]


@given(raw=st.sampled_from(RESPONSES), cuts=CUTS)
def test_a_response_means_the_same_in_any_split(raw: bytes, cuts: list[int]) -> None:
    assert read(split(raw, cuts), eof=True) == read([raw], eof=True)


@given(data=st.binary(max_size=300), cuts=CUTS)
def test_noise_is_never_more_than_a_lost_call(data: bytes, cuts: list[int]) -> None:
    ends, _, _ = read(split(b"HTTP/1.1 200 OK\r\n" + data, cuts), eof=True)
    assert len([end for end in ends if end not in ("idle", "gone")]) == 1


@pytest.mark.parametrize("raw", [raw for raw in RESPONSES if raw is not AMBIGUOUS])
def test_the_client_sees_what_httpx2_would_have_seen_directly(raw: bytes) -> None:
    """Either the same status and body, or no whole answer either way. (It takes AMBIGUOUS, which we refuse.)"""

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(raw)

    def ask(port: int) -> tuple[int, bytes] | None:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            try:
                answer = client.post("/v1/chat/completions", json={})
            except httpx2.TransportError:
                return None
            return None if answer.status_code == 502 else (answer.status_code, answer.content)

    with ScriptedUpstream(script) as upstream, RelayServer(planning(address(upstream.port))) as server:
        assert ask(server.port) == ask(upstream.port)
