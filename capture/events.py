"""Server-sent events, sans-I/O: bytes in any split go in, whole events come out.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its `event:` name (empty when it has none) and its data lines, joined by newlines."""

    name: str
    data: bytes


class EventParser:
    """Feed it bytes as they come; `close` gives the last event when its blank line never came."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self._begun = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes."""
        data = self._rest + chunk
        if not self._begun and data:
            if len(data) < 3 and b"\xef\xbb\xbf".startswith(data):
                self._rest = data
                return []
            data = data.removeprefix(b"\xef\xbb\xbf")
            self._begun = True
        held = b""
        if data.endswith(b"\r"):  # the next byte may be its line feed
            data, held = data[:-1], b"\r"
        lines = data.split(b"\n") if b"\r" not in data else _LINE_END.split(data)
        self._rest = lines.pop() + held
        events: list[Event] = []
        for line in lines:
            self._line(line, events)
        return events

    def close(self) -> list[Event]:
        """What was still open when the stream ended: kept, since the bytes did arrive."""
        events: list[Event] = []
        if self._rest:
            self._line(self._rest.rstrip(b"\r"), events)
        self._rest = b""
        self._line(b"", events)
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append(Event(self._name, b"\n".join(self._data)))
                self._data = []
            self._name = ""
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")


def parse(data: bytes) -> list[Event]:
    """All events of a whole stream."""
    parser = EventParser()
    return parser.feed(data) + parser.close()
