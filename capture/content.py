"""Content encodings of captured bodies, undone within a bound: a few kilobytes may claim to be gigabytes."""

import zlib
from dataclasses import dataclass

LIMIT_BYTES = 256 * 1024 * 1024

_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


@dataclass(frozen=True, slots=True)
class Content:
    """A body without its encodings; `problem` says what was wrong where `data` is not all of it."""

    data: bytes
    problem: str | None = None


def decoded(data: bytes, encoding: str, limit_bytes: int = LIMIT_BYTES) -> Content:
    """Undoes `encoding`, a Content-Encoding header's value. What precedes damage, or the bound, is kept."""
    problem: str | None = None
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("", "identity"):
            continue
        if name not in _WINDOWS:
            return Content(data, f"content encoding {name!r} is not understood")
        content = _inflated(data, name, limit_bytes)
        data, problem = content.data, content.problem or problem
    return Content(data, problem)


def _inflated(data: bytes, name: str, limit_bytes: int) -> Content:
    window = _WINDOWS[name]
    if name == "deflate" and not _has_zlib_header(data):
        window = -zlib.MAX_WBITS  # some servers send it bare
    output = bytearray()
    while data:
        engine = zlib.decompressobj(window)
        try:
            output += engine.decompress(data, limit_bytes - len(output) + 1)
        except zlib.error as error:
            return Content(bytes(output), f"damaged {name} content: {error}")
        if len(output) > limit_bytes:
            return Content(bytes(output[:limit_bytes]), f"{name} content of more than {limit_bytes} bytes")
        if not engine.eof:
            return Content(bytes(output), f"{name} content ends early")
        data = engine.unused_data if name != "deflate" else b""  # gzip may have several members
    return Content(bytes(output))


def _has_zlib_header(data: bytes) -> bool:
    return len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
