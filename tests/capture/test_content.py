"""Content encodings: undone, bounded, and what precedes damage is kept."""

import gzip
import random
import zlib
from collections.abc import Callable

import brotli
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from capture.content import Content, decoded


def bare(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "X-GZIP": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


@given(data=st.binary(max_size=500))
def test_every_known_encoding_is_undone(data: bytes) -> None:
    assert decoded(data, "") == Content(data)
    assert decoded(data, "identity") == Content(data)
    for encoding, packed in PACKED.items():
        assert decoded(packed(data), encoding) == Content(data)
    assert decoded(brotli.compress(zstd.compress(data)), "zstd, br").data == data
    assert decoded(gzip.compress(zlib.compress(data)), "deflate, gzip").data == data


def test_bare_deflate_and_several_members_are_understood() -> None:
    text = b"some text, some text, some text"
    assert decoded(bare(text), "deflate") == Content(text)
    for encoding in ("gzip", "zstd"):
        assert decoded(PACKED[encoding](b"one ") + PACKED[encoding](b"two"), encoding) == Content(b"one two")


@pytest.mark.parametrize("encoding", ["compress", "dcb", "gzip, dcz"])
def test_what_is_not_understood_is_said(encoding: str) -> None:
    content = decoded(b"bytes", encoding)
    assert content.data == b"bytes"
    assert "is not understood" in str(content.problem)


@pytest.mark.parametrize("encoding", PACKED)
def test_a_bomb_stops_at_the_bound(encoding: str) -> None:
    content = decoded(PACKED[encoding](bytes(10_000_000)), encoding, limit_bytes=1000)
    assert content.data == bytes(1000)
    assert content.problem == f"{encoding.lower()} content of more than 1000 bytes"
    nested = gzip.compress(PACKED[encoding](bytes(10_000_000)))
    assert len(decoded(nested, f"{encoding}, gzip", limit_bytes=20_000).data) == 20_000


@pytest.mark.parametrize("encoding", PACKED)
def test_more_than_a_step_passes_whole(encoding: str) -> None:
    data = random.Random(1).randbytes(5_000_000)
    assert decoded(PACKED[encoding](data), encoding) == Content(data)


@given(data=st.binary(min_size=1, max_size=300), cut=st.integers(0, 400), encoding=st.sampled_from(sorted(PACKED)))
def test_a_cut_body_keeps_its_beginning(data: bytes, cut: int, encoding: str) -> None:
    packed = PACKED[encoding](data)
    content = decoded(packed[:cut], encoding)
    assert data.startswith(content.data)
    assert (content.problem is None) == (cut >= len(packed) or cut == 0)


def test_a_cut_stream_keeps_the_events_that_were_flushed() -> None:
    """Servers flush each event of a compressed stream; a client that leaves cuts it anywhere."""
    event = b'data: {"n": 1}\n\n'
    zipped, brotlied, zstdied = zlib.compressobj(wbits=zlib.MAX_WBITS | 16), brotli.Compressor(), zstd.ZstdCompressor()
    flushed = {
        "gzip": zipped.compress(event) + zipped.flush(zlib.Z_SYNC_FLUSH),
        "br": brotlied.process(event) + brotlied.flush(),
        "zstd": zstdied.compress(event, zstd.ZstdCompressor.FLUSH_BLOCK),
    }
    for encoding, data in flushed.items():
        assert decoded(data, encoding) == Content(event, f"{encoding} content ends early")


@given(data=st.binary(max_size=300), encodings=st.lists(st.sampled_from([*PACKED, "", " ", "x"]), max_size=3))
def test_noise_never_raises(data: bytes, encodings: list[str]) -> None:
    decoded(data, ",".join(encodings))
