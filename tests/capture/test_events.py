"""Event streams: the same events in any split, with every way to end a line."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.events import Event, EventParser, parse

STREAM = (
    "\ufeff: a comment\n\n"
    'data: {"a": 1}\n\n'
    "event: response.created\r\ndata: one\r\ndata:two\r\n\r\n"
    "data: ü€😀\rdata:  kept space\r\r"
    "id: 7\nretry: 3\ndata\n\n"
    "event: nothing\n\n"
    "data: [DONE]\n\n"
).encode()
EVENTS = [
    Event("", b'{"a": 1}'),
    Event("response.created", b"one\ntwo"),
    Event("", "ü€😀\n kept space".encode()),
    Event("", b""),
    Event("", b"[DONE]"),
]


def test_a_whole_stream() -> None:
    assert parse(STREAM) == EVENTS


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_any_split_gives_the_same_events(cuts: list[int]) -> None:
    parser = EventParser()
    found: list[Event] = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(edges):
        found += parser.feed(STREAM[start:end])
    assert found + parser.close() == EVENTS


def test_byte_by_byte() -> None:
    parser = EventParser()
    found = [event for byte in STREAM for event in parser.feed(bytes([byte]))]
    assert found + parser.close() == EVENTS


@pytest.mark.parametrize("ending", ["", "\n", "\r", "\r\n"])
def test_an_event_whose_blank_line_never_came_is_kept(ending: str) -> None:
    assert parse(b"data: one\n\ndata: two" + ending.encode()) == [Event("", b"one"), Event("", b"two")]


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=10))
def test_noise_is_parsed_alike_in_any_split(data: bytes, cuts: list[int]) -> None:
    parser = EventParser()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [event for a, b in pairwise(edges) for event in parser.feed(data[a:b])]
    assert found + parser.close() == parse(data)
