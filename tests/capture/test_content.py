"""Content encodings: undone, bounded, and what precedes damage is kept."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.content import Content, decoded


def bare(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


@given(data=st.binary(max_size=500))
def test_every_known_encoding_is_undone(data: bytes) -> None:
    assert decoded(data, "") == Content(data)
    assert decoded(data, "identity") == Content(data)
    assert decoded(gzip.compress(data), "gzip").data == data
    assert decoded(gzip.compress(data), "X-GZIP").data == data
    assert decoded(zlib.compress(data), "deflate").data == data
    assert decoded(gzip.compress(zlib.compress(data)), "deflate, gzip").data == data


def test_bare_deflate_and_several_members_are_understood() -> None:
    text = b"some text, some text, some text"
    assert decoded(bare(text), "deflate") == Content(text)
    assert decoded(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip") == Content(b"one two")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_what_is_not_understood_is_said(encoding: str) -> None:
    content = decoded(b"bytes", encoding)
    assert content.data == b"bytes"
    assert "is not understood" in str(content.problem)


def test_a_bomb_stops_at_the_bound() -> None:
    content = decoded(gzip.compress(bytes(10_000_000)), "gzip", limit_bytes=1000)
    assert len(content.data) == 1000
    assert content.problem == "gzip content of more than 1000 bytes"
    nested = gzip.compress(gzip.compress(bytes(10_000_000)))
    assert len(decoded(nested, "gzip, gzip", limit_bytes=20_000).data) == 20_000


@given(data=st.binary(min_size=1, max_size=300), cut=st.integers(0, 400))
def test_a_cut_body_keeps_its_beginning(data: bytes, cut: int) -> None:
    packed = gzip.compress(data)
    content = decoded(packed[:cut], "gzip")
    assert data.startswith(content.data)
    assert (content.problem is None) == (cut >= len(packed) or cut == 0)


@given(data=st.binary(max_size=300), encoding=st.sampled_from(["gzip", "deflate", "deflate, gzip", "br", ",", " "]))
def test_noise_never_raises(data: bytes, encoding: str) -> None:
    decoded(data, encoding)
