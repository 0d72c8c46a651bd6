"""A head that came before: one that comes again byte for byte, but for its body's length, is not read anew.

A client's next request on a connection nearly always has the same head. llhttp has judged it then, and would judge it
so again: all its bytes are compared, and the length may be nothing but digits.
"""

import re

import msgspec

from gateway.plan import RequestHead
from gateway.relay.framing import RequestFraming

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)
_LARGEST = 8 * 1024  # bytes: each connection keeps one
_DIGITS = 12


class KnownHead(msgspec.Struct, frozen=True):
    """What was made of a captured request's head, and the bytes around its length."""

    head: RequestHead
    encoding: bytes
    before: bytes
    after: bytes

    def begins(self, data: bytes) -> tuple[int, int] | None:
        """(the body's length, where it begins) of a request that begins with this head."""
        if not data.startswith(self.before):
            return None
        start = len(self.before)
        end = data.find(b"\r", start, start + _DIGITS)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self.after, end):
            return None
        return int(digits), end + len(self.after)

    def framing(self, length: int) -> RequestFraming:
        return RequestFraming(length=length, encoding=self.encoding, hosts=1)


def known_head(data: bytes, head: RequestHead, asked: RequestFraming) -> KnownHead | None:
    """The head that `data` begins with, as llhttp has just read it; None where it is not worth or fit to be kept."""
    end = data.find(b"\r\n\r\n", 0, _LARGEST) + 4
    found = _LENGTH.search(data, 0, end)
    if end < 4 or found is None or asked.length is None or asked.expects_continue:
        return None
    return KnownHead(head, asked.encoding, data[: found.start(1)], data[found.end(1) : end])
