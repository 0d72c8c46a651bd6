"""Exchange: what is encoded comes back; older and newer records stay readable."""

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.exchange import Answer, Arm, Assignment, Exchange, decode, encode
from tests.factories.exchanges import new_exchange

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    request=st.binary(max_size=100),
    response=st.binary(max_size=100),
    task=st.none() | TEXT,
    arm=st.sampled_from(Arm),
    assignment=st.none() | st.sampled_from(Assignment),
    complete=st.booleans(),
    first_ms=st.none() | st.floats(0, 1e6),
)
def test_what_is_encoded_comes_back(
    request: bytes,
    response: bytes,
    task: str | None,
    arm: Arm,
    assignment: Assignment | None,
    complete: bool,
    first_ms: float | None,
) -> None:
    exchange = new_exchange(
        response=response, task=task, arm=arm, assignment=assignment, complete=complete, first_ms=first_ms
    )
    exchange = msgspec.structs.replace(exchange, request=request)
    assert decode(encode(exchange)) == exchange


def test_fields_of_another_version_do_no_harm() -> None:
    fields = msgspec.to_builtins(new_exchange(), builtin_types=(bytes,))
    newer = msgspec.msgpack.encode({**fields, "a_field_to_come": 1})
    assert decode(newer).task == "triage"
    older = msgspec.msgpack.encode({key: value for key, value in fields.items() if key != "response_encoding"})
    assert decode(older).response_encoding == ""


@pytest.mark.parametrize("record", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"id": 7}), b"\x93\x01\x02\x03"])
def test_what_is_no_exchange_is_refused(record: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(record)


@dataclass(frozen=True)
class _Case:
    content: object
    text: str


@pytest.mark.parametrize(
    "case",
    [
        _Case("hello", "hello"),
        _Case(None, ""),
        _Case([{"type": "text", "text": "a"}, {"type": "image_url"}, "odd", {"type": "text", "text": "b"}], "ab"),
    ],
)
def test_an_answer_s_text(case: _Case) -> None:
    assert Answer(message={"role": "assistant", "content": case.content}).text == case.text
    assert Answer(message={}).text == ""


def test_an_exchange_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        new_exchange().task = "other"  # type: ignore[misc]
    assert isinstance(new_exchange(), Exchange)
