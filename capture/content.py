"""Content encodings of captured bodies, undone within a bound: a few kilobytes may claim to be gigabytes."""

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT_BYTES = 256 * 1024 * 1024

_STEP_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """A body without its encodings; `problem` says what was wrong where `data` is not all of it."""

    data: bytes
    problem: str | None = None


class _Engine(Protocol):
    """Undoes one member of an encoding; the standard library's shape."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Brotli:
    """Brotli in that shape; it has one member, and what follows it is damage."""

    unused_data = b""

    def __init__(self) -> None:
        self._engine = brotli.Decompressor()

    @property
    def eof(self) -> bool:
        return bool(self._engine.is_finished())

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """A step more than `max_length`, at most."""
        output = bytearray(self._engine.process(data, output_buffer_limit=_STEP_BYTES))
        while len(output) < max_length and not self.eof:
            more = self._engine.process(b"", output_buffer_limit=_STEP_BYTES)
            if not more:
                break
            output += more
        return bytes(output)


_DAMAGE = (zlib.error, zstd.ZstdError, brotli.error)
_ENGINES: dict[str, Callable[[bytes], _Engine]] = {
    "gzip": lambda _: zlib.decompressobj(zlib.MAX_WBITS | 16),
    "x-gzip": lambda _: zlib.decompressobj(zlib.MAX_WBITS | 16),
    "deflate": lambda data: zlib.decompressobj(zlib.MAX_WBITS if _has_zlib_header(data) else -zlib.MAX_WBITS),
    "br": lambda _: _Brotli(),
    "zstd": lambda _: zstd.ZstdDecompressor(),
}


def decoded(data: bytes, encoding: str, limit_bytes: int = LIMIT_BYTES) -> Content:
    """Undoes `encoding`, a Content-Encoding header's value. What precedes damage, or the bound, is kept."""
    problem: str | None = None
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("", "identity"):
            continue
        if name not in _ENGINES:
            return Content(data, f"content encoding {name!r} is not understood")
        content = _undone(data, name, limit_bytes)
        data, problem = content.data, content.problem or problem
    return Content(data, problem)


def _undone(data: bytes, name: str, limit_bytes: int) -> Content:
    output = bytearray()
    while data:
        engine = _ENGINES[name](data)
        try:
            output += engine.decompress(data, limit_bytes - len(output) + 1)
        except _DAMAGE as error:
            return Content(bytes(output), f"damaged {name} content: {error}")
        if len(output) > limit_bytes:
            return Content(bytes(output[:limit_bytes]), f"{name} content of more than {limit_bytes} bytes")
        if not engine.eof:
            return Content(bytes(output), f"{name} content ends early")
        data = engine.unused_data if name != "deflate" else b""  # gzip and zstd may have several members
    return Content(bytes(output))


def _has_zlib_header(data: bytes) -> bool:
    """Without it, deflate was sent bare, as some servers do."""
    return len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
