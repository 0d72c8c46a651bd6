"""The end of a stream is found in any split of its bytes, and never leaves before it was found."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay import events
from gateway.relay.events import StreamError, TerminalScanner

DELTA = b'data: {"choices":[{"delta":{"content":"[DONE] error response.completed"}}]}'
NOT_TERMINAL = [
    DELTA,
    b": keep-alive data: [DONE]",
    b'event: response.created\ndata: {"type":"response.created","response":{"error":null}}',
    b'data: {"error":null,"choices":[]}',
    b'data: {"type":"error_like"}',
    b"data: ",
    b"data",
    b"",
    b"event: response.completed_not",
    b'data: {"id":"error"}',
    'data: {"t":"\u00e9\U0001f600"}'.encode(),
]
TERMINAL = [
    b"data: [DONE]",
    b"data:[DONE]",
    b'data: {"error":{"message":"x"}}',
    b'data: {"error" : "x"}',
    b'event: response.completed\ndata: {"type":"response.completed","response":{"a":"' + b"x" * 300 + b'"}}',
    b'data: {"type":"response.failed"}',
    b'data: { "type": "response.incomplete", "sequence_number": 3}',
    b'event: error\ndata: {"code":"x"}',
]
NEWLINES = [b"\n", b"\r\n", b"\r"]


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[a:b] for a, b in pairwise(places) if a != b]


def play(pieces: list[bytes]) -> tuple[bytes, bytes, bool]:
    """(what had left before the end was known, everything that left, whether it was found)."""
    scanner, left, withheld = TerminalScanner(), b"", b""
    for piece in pieces:
        if scanner.ended:
            break
        allowed = scanner.feed(piece)
        if scanner.ended:
            return left, left + withheld + piece, True
        assert allowed == len(piece) or allowed == 0 or not withheld
        if withheld:
            assert allowed == 0
        left += piece[:allowed]
        withheld += piece[allowed:]
    return left, left + withheld, False


@given(
    before=st.lists(st.sampled_from(NOT_TERMINAL), max_size=4),
    terminal=st.sampled_from(TERMINAL),
    newline=st.sampled_from(NEWLINES),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_a_terminal_event_is_found_in_any_split(
    before: list[bytes], terminal: bytes, newline: bytes, cuts: list[int]
) -> None:
    stream = b"".join(event.replace(b"\n", newline) + newline * 2 for event in [*before, terminal])
    left, everything, found = play(split(stream, cuts))
    assert found
    assert stream.startswith(everything)
    end = stream.rindex(b"[DONE]") + 6 if b"[DONE]" in terminal else len(stream.rstrip(b"\r\n")) + 2 * len(newline) - 1
    assert len(left) < end, "the client could know the end before it was recorded"


@given(
    contents=st.lists(st.sampled_from(NOT_TERMINAL), max_size=6),
    newline=st.sampled_from(NEWLINES),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_a_stream_without_a_terminal_event_is_never_withheld(
    contents: list[bytes], newline: bytes, cuts: list[int]
) -> None:
    stream = b"".join(event.replace(b"\n", newline) + newline * 2 for event in contents)
    assert play(split(stream, cuts)) == (stream, stream, False)


def test_one_byte_at_a_time() -> None:
    stream = DELTA + b"\r\n\r\ndata: [DONE]\r\n\r\n"
    left, everything, found = play([bytes([byte]) for byte in stream])
    assert found
    assert left == DELTA + b"\r\n\r\ndata: [DONE"
    assert everything == left + b"]"


def test_a_typed_end_is_withheld_from_its_first_line_on() -> None:
    scanner = TerminalScanner()
    first = b"data: {}\n\nevent: response.completed\n"
    assert scanner.feed(first) == 10
    assert scanner.feed(b'data: {"type":"response.completed"}\n') == 0
    assert not scanner.ended
    scanner.feed(b"\n")
    assert scanner.ended


@pytest.mark.parametrize(
    ("payload", "content"),
    [
        (b"", None),
        (b"[DONE]", None),
        (b'{"choices":[{"delta":{"role":"assistant","content":""}}]}', None),
        (b'{"choices":[{"delta":{"content":"hi"}}]}', "hi"),
        (b'{"choices":[{"delta":{"tool_calls":[{}]}}]}', ""),
        (b'{"choices":[{"delta":{"role":"assistant","content":null,"refusal":null,"tool_calls":[]}}]}', None),
        (b'{ "choices": [ { "delta": { "tool_calls": [ {"index": 0} ] } } ] }', ""),
        (b'{"choices": [{"delta": {"reasoning_content": "Hm"}}]}', ""),
        (b'{"choices":[{"delta":null}]}', None),
        (b'{"choices":[]}', None),
        (b'{"type":"response.output_text.delta","delta":"hi"}', "hi"),
        (b'{"type":"response.function_call_arguments.delta","delta":"{"}', ""),
        (b'{"type":"response.created"}', None),
    ],
)
def test_content(payload: bytes, content: str | None) -> None:
    assert events.content_of(payload) == content
    pattern = events.content_pattern("responses" if b'"type"' in payload else "chat.completions")
    assert pattern is not None
    assert bool(pattern.search(b"data: " + payload + b"\n\n")) == (content is not None)


@pytest.mark.parametrize(
    "payload",
    [b"{", b"[]", b'{"error":{}}', b'{"type":"error"}', b'{"type":"response.failed"}', b'{"choices":[{"delta":1}]}'],
)
def test_error_events_and_nonsense_raise(payload: bytes) -> None:
    with pytest.raises(StreamError):
        events.content_of(payload)


def test_our_own_error_events_end_a_stream() -> None:
    for route in ("chat.completions", "responses"):
        scanner = TerminalScanner()
        scanner.feed(events.error_event(route, "stopped", "student_broke_off"))
        assert scanner.ended
