import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.json_edit import JsonEditError, edit, members

names = st.sampled_from(["model", "metadata", "store", "a", 'mo"del', "\u00e9", "\\", "x\n"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
layouts = st.sampled_from([(None, (",", ":")), (None, (" , ", " : ")), (2, (",", ": ")), ("\t", (",", ": "))])


def dump(value: dict[str, Any], layout: Any, ascii_only: bool) -> bytes:
    indent, separators = layout
    return json.dumps(value, indent=indent, separators=separators, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )


@given(st.dictionaries(names, values, max_size=6), layouts, st.booleans(), names, values)
def test_replacing_equals_replacing_in_the_decoded_object(
    value: dict[str, Any], layout: Any, ascii_only: bool, name: str, new: Any
) -> None:
    body = dump(value, layout, ascii_only)
    edited = json.loads(edit(body, {name: json.dumps(new).encode()}))
    assert edited == {key: (new if key == name else old) for key, old in value.items()}
    assert list(edited) == list(value)


@given(st.dictionaries(names, values, max_size=6), layouts, st.booleans(), st.sets(names))
def test_removing_equals_removing_from_the_decoded_object(
    value: dict[str, Any], layout: Any, ascii_only: bool, gone: set[str]
) -> None:
    edited = json.loads(edit(dump(value, layout, ascii_only), dict.fromkeys(gone)))
    assert edited == {key: old for key, old in value.items() if key not in gone}


@given(st.dictionaries(names, values, max_size=6), layouts, st.booleans())
def test_nothing_named_nothing_changed(value: dict[str, Any], layout: Any, ascii_only: bool) -> None:
    body = dump(value, layout, ascii_only)
    assert edit(body, {"not there": None, "nor here": b"1"}) == body


@given(st.dictionaries(names, values, max_size=6), layouts, st.booleans())
def test_members_tile_the_object(value: dict[str, Any], layout: Any, ascii_only: bool) -> None:
    body = dump(value, layout, ascii_only)
    assert [(m.name, json.loads(body[m.value_start : m.end])) for m in members(body)] == list(value.items())


def test_other_bytes_stay_as_they_were() -> None:
    body = b'{ "model" :"triage",\r\n "n": 1.50e+01 , "metadata":{"a":"}\\""},"s":"\\u00e9"}'
    assert edit(body, {"model": b'"gpt"', "metadata": None}) == b'{ "model" :"gpt",\r\n "n": 1.50e+01,"s":"\\u00e9"}'


def test_duplicates_and_escaped_names_are_found() -> None:
    body = b'{"mod\\u0065l":"a","model":"b"}'
    assert edit(body, {"model": b'"c"'}) == b'{"mod\\u0065l":"c","model":"c"}'
    assert edit(body, {"model": None}) == b"{}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"a"}',
        b'{"a":}',
        b'{"a":[}',
        b'{"a":1 "b":2}',
        b'{"a":1} x',
        b'{"a":"\n"}',
        b'{"\\u12":1}',
        b"{1:2}",
    ],
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(JsonEditError):
        edit(body, {"a": b"2"})
