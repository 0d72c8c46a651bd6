import json
from typing import Any

import pytest

from gateway.structured import (
    INVALID_JSON,
    INVALID_SCHEMA,
    INVALID_TOOL_CALL,
    INVALID_TOOL_CHOICE,
    Valid,
    is_structured,
    validator,
)

SCHEMA = {"type": "object", "properties": {"category": {"enum": ["a", "b"]}}, "required": ["category"]}
STRICT = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
TOOL = {"name": "look_up", "parameters": {"type": "object", "required": ["id"]}}


def needed(request: dict[str, Any]) -> Valid:
    found = validator(request)
    assert found is not None
    return found


def chat(content: str | None, **message: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content, **message}}]}).encode()


def streamed(text: str) -> bytes:
    """The text in pieces, as a chat stream."""
    deltas = [{"role": "assistant"}, *({"content": text[at : at + 3]} for at in range(0, len(text), 3))]
    return events(*deltas)


def events(*deltas: dict[str, Any]) -> bytes:
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [{**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    return b"".join(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks) + b"data: [DONE]\n\n"


def call(name: Any, arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}]}


@pytest.mark.parametrize("wanted", [{}, {"response_format": {"type": "text"}}, {"text": {"format": {"type": "text"}}}])
def test_text_may_be_anything(wanted: dict[str, Any]) -> None:
    assert validator(wanted) is None
    assert not is_structured(wanted)


@pytest.mark.parametrize(
    ("text", "reason"),
    [('{"category":"a"}', None), ('{"category":"c"}', INVALID_SCHEMA), ('{"cat', INVALID_JSON), ("", INVALID_JSON)],
)
def test_a_schema_holds_for_bodies_and_for_streams(text: str, reason: str | None) -> None:
    for request in ({"response_format": STRICT}, {"text": {"format": {"type": "json_schema", "schema": SCHEMA}}}):
        valid = needed(request)
        assert is_structured(request)
        assert valid(streamed(text), True) == reason
        assert valid(chat(text), False) == reason


def test_json_object_asks_for_an_object_alone() -> None:
    valid = needed({"response_format": {"type": "json_object"}})
    assert [valid(streamed(text), True) for text in ("{}", "[]", "nope")] == [None, INVALID_JSON, INVALID_JSON]


@pytest.mark.parametrize(
    "schema",
    [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:1/schema.json"}, {"$ref": "#/$defs/absent"}, 3],
)
def test_what_is_no_schema_or_is_elsewhere_lets_nothing_leave(schema: Any) -> None:
    valid = needed({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})
    assert valid(streamed("{}"), True) == INVALID_SCHEMA


def test_a_responses_body_is_read_too() -> None:
    valid = needed({"text": {"format": {"type": "json_object"}}})
    said = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "{}"}]}]}
    assert valid(json.dumps(said).encode(), False) is None
    assert valid(b'{"output":[]}', False) == INVALID_JSON


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices":[]}', b'{"choices":[{"message":null}]}', b'{"error":{}}'])
def test_what_is_no_answer_does_not_leave(body: bytes) -> None:
    assert needed({"response_format": {"type": "json_object"}})(body, False) == INVALID_JSON


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("look_up", '{"id":1}', None),
        ("look_up", "{}", INVALID_TOOL_CALL),
        ("look_up", "{", INVALID_TOOL_CALL),
        ("look_up", {"id": 1}, INVALID_TOOL_CALL),
        ("unknown", '{"id":1}', INVALID_TOOL_CALL),
    ],
)
def test_tool_calls_fit_their_tools(name: str, arguments: Any, reason: str | None) -> None:
    for tool in ({"type": "function", "function": TOOL}, {"type": "function", **TOOL}):
        assert needed({"tools": [tool]})(chat(None, **call(name, arguments)), False) == reason


@pytest.mark.parametrize("name", [["look_up"], {"look_up": 1}, None, 3])
def test_what_is_no_name_is_neither_a_tool_nor_a_call(name: Any) -> None:
    valid = needed({"tools": [{"type": "function", "function": one} for one in ({"name": name}, TOOL)]})
    assert valid(chat(None, **call("look_up", '{"id":1}')), False) is None
    assert valid(chat(None, **call(name, '{"id":1}')), False) == INVALID_TOOL_CALL


def test_a_tool_without_parameters_takes_an_object() -> None:
    valid = needed({"tools": [{"type": "function", "function": {"name": "now"}}]})
    assert valid(chat(None, **call("now", "{}")), False) is None
    assert valid(chat(None, **call("now", "[]")), False) == INVALID_TOOL_CALL
    assert valid(chat("just text"), False) is None


def test_a_pattern_that_backtracks_for_ever_ends() -> None:
    schema = {"type": "string", "pattern": "^(a|a)*(?=b)c$"}
    valid = needed({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}})
    assert valid(chat(json.dumps("a" * 40)), False) == INVALID_SCHEMA


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [("look_up", '{"id":7}', None), ("look_up", '{"x":1}', INVALID_TOOL_CALL), ("other", "{}", INVALID_TOOL_CALL)],
)
def test_tool_calls_of_a_stream_are_put_together_first(name: str, arguments: str, reason: str | None) -> None:
    request = {"tools": [{"type": "function", "function": TOOL}], "stream": True}
    assert is_structured(request)
    first = {"index": 0, "id": "c", "type": "function", "function": {"name": name, "arguments": arguments[:4]}}
    rest = {"index": 0, "function": {"arguments": arguments[4:]}}
    stream = events({"role": "assistant", "tool_calls": [first]}, {"tool_calls": [rest]})
    assert needed(request)(stream, True) == reason
    assert needed(request)(b"data: nonsense\n\n", True) == INVALID_JSON
    assert needed(request)(streamed("no tool is needed"), True) is None


REQUIRED, NONE = {"tool_choice": "required"}, {"tool_choice": "none"}
NAMED = {"tool_choice": {"type": "function", "function": {"name": "look_up"}}}
ONE = {"parallel_tool_calls": False}
LOOK_UP, OTHER = call("look_up", '{"id":1}')["tool_calls"], call("other", "{}")["tool_calls"]


@pytest.mark.parametrize(
    ("asked", "content", "calls", "reason"),
    [
        (REQUIRED, "no call", [], INVALID_TOOL_CHOICE),
        (REQUIRED, None, LOOK_UP, None),
        (NONE, None, LOOK_UP, INVALID_TOOL_CHOICE),
        (NONE, "no call", [], None),
        (NAMED, None, OTHER, INVALID_TOOL_CHOICE),
        (NAMED, None, LOOK_UP + OTHER, INVALID_TOOL_CHOICE),
        (NAMED, None, LOOK_UP, None),
        (NAMED, "no call", [], INVALID_TOOL_CHOICE),
        (ONE, None, LOOK_UP + OTHER, INVALID_TOOL_CHOICE),
        (ONE, None, OTHER, None),
        (ONE, "no call", [], None),
        ({}, None, LOOK_UP + OTHER, None),
        (REQUIRED, None, call("look_up", "{}")["tool_calls"], INVALID_TOOL_CALL),
        (NAMED, None, call(["look_up"], "{}")["tool_calls"], INVALID_TOOL_CHOICE),  # type: ignore[arg-type]
    ],
)
def test_an_answer_calls_what_it_may_and_must(
    asked: dict[str, Any], content: str | None, calls: list[dict[str, Any]], reason: str | None
) -> None:
    tools = [{"type": "function", "function": TOOL}, {"type": "function", "function": {"name": "other"}}]
    request = {"tools": tools, **asked}
    assert is_structured(request)  # a stream of it is held until it was seen whole
    valid = needed(request)
    assert valid(chat(content, tool_calls=calls), False) == reason
    numbered = [{**one, "index": at} for at, one in enumerate(calls)]
    if all(isinstance(one["function"]["name"], str) for one in calls):
        assert valid(events({"role": "assistant", "content": content, "tool_calls": numbered}), True) == reason
