import gzip
import zlib

import pytest

from gateway.head import MalformedBodyError, decode_leniently, decode_whole, decompress, read_head

LIMIT = 1000


def test_what_routing_looks_at_is_read_and_the_rest_stays_bytes() -> None:
    head = read_head(b'{"model":"m","stream":true,"store":null,"metadata":{"a":"b"},"messages":[1,{"x":2}],"new":{}}')
    assert (head.model_name, head.stream, head.store, head.tags) == ("m", True, None, {"a": "b"})
    assert bytes(head.messages) == b'[1,{"x":2}]'


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b'{"a":}', b'{"a":1}}', b"\xff\xfe", b"[" * 100_000]
)
def test_what_is_no_json_object_is_malformed(body: bytes) -> None:
    for read in (read_head, decode_whole, decode_leniently):
        with pytest.raises(MalformedBodyError):
            read(body)


def test_a_deep_body_is_malformed_not_a_crash() -> None:
    with pytest.raises(MalformedBodyError):
        read_head(b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_a_deep_body_that_only_lenient_readers_take_is_malformed_too() -> None:
    with pytest.raises(MalformedBodyError):
        read_head(b'{"temperature":NaN,"metadata":' + b'{"a":' * 600 + b"1" + b"}" * 601)


def test_odd_types_are_left_for_the_upstream_to_judge() -> None:
    head = read_head(b'{"model":3,"stream":"yes","metadata":["a"],"messages":"hello"}')
    assert (head.model_name, head.stream, head.tags) == ("", "yes", {})


def test_lone_surrogates_and_nan_are_left_for_the_upstream_to_judge() -> None:
    body = b'{"model":"m","temperature":NaN,"messages":[{"role":"user","content":"\\ud83d"}]}'
    assert read_head(body).model_name == "m"
    assert decode_leniently(body)["messages"][0]["content"] == "\ud83d"
    with pytest.raises(MalformedBodyError):
        decode_whole(body)


def test_what_is_noted_of_such_a_body_can_be_written() -> None:
    head = read_head(b'{"model":"m\\ud83d","user":"\\ud83d","metadata":{"\\ud83d":"\\ud83d"}}')
    assert (head.model, head.user, head.metadata) == ("m?", "?", {"?": "?"})


@pytest.mark.parametrize("encoding", [b"", b"identity"])
def test_plain_bodies_stay_the_same_object(encoding: bytes) -> None:
    body = b'{"a":1}'
    assert decompress(body, encoding, LIMIT) is body


def test_gzip_and_deflate_are_taken_off() -> None:
    assert decompress(gzip.compress(b"{}"), b"GZIP", LIMIT) == b"{}"
    assert decompress(zlib.compress(b"{}"), b"deflate", LIMIT) == b"{}"


def test_other_codings_bombs_and_torn_streams_are_not_read() -> None:
    assert decompress(b"{}", b"br", LIMIT) is None
    assert decompress(gzip.compress(b"a" * (LIMIT + 1)), b"gzip", LIMIT) is None
    assert decompress(gzip.compress(b"{}")[:-4], b"gzip", LIMIT) is None
    with pytest.raises(MalformedBodyError):
        decompress(b"not gzip", b"gzip", LIMIT)
