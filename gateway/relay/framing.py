"""HTTP/1.1 framing as pure functions over bytes: heads in and out, how a body's end is told, what may be sent on."""

from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote

import httptools
import msgspec

from gateway.plan import Refusal

Headers = tuple[tuple[bytes, bytes], ...]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NOT_SENT_ON = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_NOT_SENT_BACK = HOP_BY_HOP | {b"content-length", b"x-stillhouse-id", b"x-stillhouse-arm", b"x-stillhouse-model"}
_LOOKED_AT = _NOT_SENT_BACK | {b"content-type", b"content-encoding"}
_INITIALS = frozenset(letter for name in _LOOKED_AT for letter in (name[:1] + name[:1].upper()))
_USUAL_CONNECTION = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"content-encoding"})
_STATUS_LINES = {s.value: b"HTTP/1.1 %d %s\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Ending(Enum):
    """How the receiver of a message learns where its body ends."""

    NONE = 0  # there is no body: HEAD, 204, 304
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3


class MalformedError(ValueError):
    """A head that must not be relayed; says which rule it breaks."""


@lru_cache(maxsize=1024)
def path_of(target: bytes) -> tuple[str, str]:
    """(decoded path for routing, path and query to send on) of a request target in origin or absolute form.

    Raises MalformedError for what an upstream might read differently from us: dot segments, fragments, authority form.
    """
    if not target.startswith(b"/"):
        target = _origin_form(target)
    raw = target.partition(b"?")[0]
    path = raw.decode("latin-1")
    if "%" in path:
        path = unquote(path)
    if b"#" in target:
        raise MalformedError("the request target has a fragment")
    if "/." in path and any(segment in (".", "..") for segment in path.split("/")):
        raise MalformedError("the path has dot segments")
    return path, target.decode("latin-1")


def _origin_form(target: bytes) -> bytes:
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise MalformedError("the request target is no path") from None
    if parsed.schema not in (b"http", b"https") or not parsed.path:
        raise MalformedError("the request target is no path")
    origin: bytes = parsed.path + (b"?" + parsed.query if parsed.query is not None else b"")
    return origin


class RequestFraming(msgspec.Struct):
    """What a request's head says of its body and connection."""

    length: int | None = None
    chunked: bool = False
    expects_continue: bool = False
    encoding: bytes = b""  # content-encoding
    hosts: int = 0
    named: frozenset[bytes] = frozenset()  # headers that Connection names


def request_framing(version: str, headers: list[tuple[bytes, bytes]]) -> RequestFraming:
    """Reads the framing headers (lower-case names), after llhttp refused what is broken by itself.

    Raises MalformedError for what llhttp lets through (found by trying): transfer codings beside chunked, chunked in
    HTTP/1.0, versions other than 1.0 and 1.1, none or several Host headers.
    """
    framing = RequestFraming()
    for name, value in headers:
        if name not in _FRAMING:
            continue
        if name == b"host":
            framing.hosts += 1
        elif name == b"content-length":
            framing.length = int(value)
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked" or version != "1.1":
                raise MalformedError("the only transfer coding taken is chunked, in HTTP/1.1")
            framing.chunked = True
        elif name == b"connection":
            if value not in _USUAL_CONNECTION:
                framing.named |= _tokens(value)
        elif name == b"content-encoding":
            framing.encoding = value
        elif name == b"expect":
            framing.expects_continue = version == "1.1" and value.lower() == b"100-continue"
    if version == "1.1":
        if framing.hosts != 1:
            raise MalformedError("a request needs exactly one Host header")
    elif version != "1.0" or framing.hosts > 1:
        raise MalformedError("only HTTP/1.1 and HTTP/1.0 are spoken here")
    return framing


def end_to_end(headers: list[tuple[bytes, bytes]], named: frozenset[bytes]) -> Headers:
    """The headers that concern the upstream: without hop-by-hop ones, those named by Connection, host and framing."""
    dropped = _NOT_SENT_ON | named if named else _NOT_SENT_ON
    return tuple([header for header in headers if header[0] not in dropped])


def request_head(method: str, target: str, host: bytes, headers: Headers, framing: bytes) -> bytes:
    """A request's head as bytes; `framing` is the ready line from `length_line` or CHUNKED_LINE, or empty.

    Raises MalformedError where a value would break out of its line (keys and names come from files and tasks).
    """
    return b"%b%b%b\r\n" % (_request_start(method, target, host), _lines(headers), framing)


@lru_cache(maxsize=256)
def _lines(headers: Headers) -> bytes:
    lines = b"\r\n".join([*map(b": ".join, headers), b""])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise MalformedError("a header to send holds a line break")
    return lines


@lru_cache(maxsize=1024)
def _request_start(method: str, target: str, host: bytes) -> bytes:
    start = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method.encode("latin-1"), target.encode("latin-1"), host)
    if start.count(b"\n") != 2 or start.count(b"\r") != 2 or start.count(b" ") != 3:
        raise MalformedError("the method, target or host to send holds a space or a line break")
    return start


CHUNKED_LINE = b"transfer-encoding: chunked\r\n"
CLOSE_LINE = b"connection: close\r\n"


def length_line(length: int) -> bytes:
    return b"content-length: %d\r\n" % length


class ResponseHead(msgspec.Struct):
    """An upstream's head, ready to be sent back: `lines` are its end-to-end headers in their order and spelling.

    `said` is what follows the version in the status line (" 200 OK").
    """

    status: int
    said: bytes
    lines: bytes
    length: int | None = None
    chunked: bool = False
    content_type: bytes = b""
    content_encoding: bytes = b""


def head_block(raw: bytes, interim: int) -> bytes:
    """The final response's head, without its blank line, out of what came: `interim` 1xx heads stand before it.

    Raises MalformedError for versions that llhttp takes and we do not.
    """
    start = 0
    for _ in range(interim):
        start = raw.index(b"\r\n\r\n", start) + 4
    while raw.startswith(b"\r\n", start):
        start += 2
    if not raw.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "), start):
        raise MalformedError("the upstream speaks another HTTP")
    return raw[start : raw.index(b"\r\n\r\n", start)]


def response_head(status: int, block: bytes) -> ResponseHead:
    """Reads a head that llhttp has accepted (so that each header is one line).

    Raises MalformedError for transfer codings beside chunked: their bytes would reach the client mislabelled.
    """
    first, *lines = block.split(b"\r\n")
    head = ResponseHead(status, first[8:], b"")
    kept: list[bytes] = []
    named: frozenset[bytes] = frozenset()
    for line in lines:
        if line[0] not in _INITIALS:
            kept.append(line)
            continue
        key = line[: line.index(b":")].lower()
        if key not in _LOOKED_AT:
            kept.append(line)
        elif key == b"connection":
            named |= _tokens(line[11:])
        elif not _note(head, key, line[len(key) + 1 :].strip(b" \t")):
            kept.append(line)
    if len(named) > 1 or named - _USUAL_CONNECTION:
        kept = [line for line in kept if line.partition(b":")[0].lower() not in named]
    if kept:
        kept.append(b"")
        head.lines = b"\r\n".join(kept)
    return head


def _note(head: ResponseHead, key: bytes, value: bytes) -> bool:
    """Takes what the relay itself needs; whether the header stays behind."""
    if key == b"content-type":
        head.content_type = value
        return False
    if key == b"content-encoding":
        head.content_encoding = value.strip().lower()
        return False
    if key == b"content-length":
        head.length = int(value)
    elif key == b"transfer-encoding":
        if value.strip().lower() != b"chunked":
            raise MalformedError("the upstream uses a transfer coding beside chunked")
        head.chunked = True
    return True


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip().lower() for token in value.split(b","))


def has_no_body(method: str, status: int) -> bool:
    return status in (204, 304) or method == "HEAD"


def ending_of(method: str, head: ResponseHead, http11: bool) -> Ending:
    """How a client will learn the end of this response: as the upstream told it, but chunked where it just closes."""
    if has_no_body(method, head.status):
        return Ending.NONE
    if head.length is not None:
        return Ending.LENGTH
    return Ending.CHUNKED if http11 else Ending.CLOSE


def response_start(head: ResponseHead, ending: Ending, own_lines: bytes, keep_alive: bool) -> bytes:
    """The response's head as the client gets it; `own_lines` are the x-stillhouse-* headers."""
    if ending is Ending.CHUNKED:
        framing = CHUNKED_LINE
    elif head.length is not None and head.status != 204:
        framing = length_line(head.length)
    else:
        framing = b""
    if not keep_alive or ending is Ending.CLOSE:
        framing += CLOSE_LINE
    return b"HTTP/1.1%b\r\n%b%b%b\r\n" % (head.said, head.lines, own_lines, framing)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def refusal_response(refusal: Refusal, body: bytes, keep_alive: bool, own_lines: bytes = b"") -> bytes:
    """A whole response of our own."""
    lines = b"".join([b"%b: %b\r\n" % header for header in refusal.headers])
    status = _STATUS_LINES.get(refusal.status) or b"HTTP/1.1 %d \r\n" % refusal.status
    close = b"" if keep_alive else CLOSE_LINE
    return b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b%b%b\r\n%b" % (
        status,
        len(body),
        lines,
        own_lines,
        close,
        body,
    )
