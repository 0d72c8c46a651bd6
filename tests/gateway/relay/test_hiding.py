from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.events import LARGEST_EVENT
from gateway.relay.hiding import UsageHider

WORD = b'data: {"choices":[{"delta":{"content":"%b"}}]%b}\n\n'
TOTAL = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = b": hello\n\n" + WORD % (b"a", b', "usage":null') + WORD % (b"b", b',"usage":null') + TOTAL + DONE
SEEN = b": hello\n\n" + WORD % (b"a", b"") + WORD % (b"b", b"") + DONE


@given(cuts=st.lists(st.integers(0, len(STREAM) * 2), max_size=8), crlf=st.booleans())
def test_the_client_sees_neither_chunk_nor_member_in_any_split(cuts: list[int], crlf: bool) -> None:
    stream, seen = (one.replace(b"\n", b"\r\n") if crlf else one for one in (STREAM, SEEN))
    hider, out, at = UsageHider(), b"", 0
    for cut in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        out += hider.feed(stream[at:cut], False)
        at = cut
    assert out + hider.feed(b"", True) == seen


def test_each_whole_event_leaves_at_once() -> None:
    hider = UsageHider()
    event = WORD % (b"a", b"")
    assert hider.feed(event + event[:9], False) == event
    assert hider.feed(event[9:], False) == event
    assert hider.feed(b": ping\n", False) == b": ping\n"


def test_what_is_not_understood_passes_as_it_is() -> None:
    odd = b'data: {"usage": \n\ndata: "usage"\n\ndata: {"choices":[{"delta":{"content":"\\"usage\\":1"}}]}\n\n'
    assert UsageHider().feed(odd, True) == odd
    two_lines = b'data: {"usage":null,\ndata: "choices":[]}\n\n'
    assert UsageHider().feed(two_lines, True) == two_lines


def test_an_event_too_large_to_be_waited_for_passes_as_it_comes() -> None:
    hider = UsageHider()
    begun = b"data: " + b"x" * (LARGEST_EVENT - 6)
    assert hider.feed(begun, False) == b""
    assert hider.feed(b"y", False) == begun + b"y"
    assert hider.feed(b'z\n\ndata: {"choices":[],"usage":{"total_tokens":1}}\n\n', False) == b"z\n\n"
