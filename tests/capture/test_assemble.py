"""Assembly: what a stream says is what the unary call would have said; whatever comes, nothing raises."""

import gzip
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.assemble import RAW_KEY, answer_from, assemble, request_json
from capture.exchange import Usage
from tests.factories.exchanges import completion, json_bytes, new_exchange, stream_of, streamed

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-4.1-2025-04-14"}


def chunk(delta: dict[str, Any], index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more}


def cut_up(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def test_a_unary_answer() -> None:
    body = completion("hello", id="chatcmpl-9")
    answer = assemble(new_exchange(answer=body))
    assert answer.message == {"role": "assistant", "content": "hello"}
    assert (answer.text, answer.finish_reason, answer.completion_id) == ("hello", "stop", "chatcmpl-9")
    assert answer.usage == Usage(20, 8)
    assert answer.model == "gpt-4.1-2025-04-14"
    assert answer.raw == body
    assert answer.error is None


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 1000), max_size=8),
    done=st.booleans(),
    line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    repeats_role=st.booleans(),
)
def test_a_stream_says_what_the_unary_call_says(
    texts: list[str], cuts: list[int], done: bool, line_end: bytes, repeats_role: bool
) -> None:
    chunks = [chunk({"role": "assistant", "content": ""}, index) for index in range(len(texts))]
    for index, text in enumerate(texts):
        role = {"role": "assistant"} if repeats_role else {}
        chunks += [chunk({**role, "content": piece}, index, obfuscation="zzz") for piece in cut_up(text, cuts)]
    chunks += [chunk({}, index, "stop") for index in range(len(texts))]
    chunks.append({**HEAD, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    answer = assemble(streamed(stream_of(chunks, done).replace(b"\n", line_end)))
    unary = {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    assert answer == assemble(new_exchange(answer=unary))


@given(cuts=st.lists(st.integers(0, 1000), max_size=8))
def test_tool_calls_are_joined_by_index(cuts: list[int]) -> None:
    arguments = ['{"city": "Köln", "days": 3}', '{"q": "a \\"b\\""}']
    chunks = [chunk({"role": "assistant", "content": None})]
    for index, name in enumerate(("weather", "search")):
        call = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        chunks.append(chunk({"tool_calls": [call]}))
    pieces = [(index, piece) for index in (0, 1) for piece in cut_up(arguments[index], cuts)]
    for index, piece in sorted(pieces, key=lambda pair: len(pair[1])) if not cuts else pieces:
        chunks.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    answer = assemble(streamed(stream_of([*chunks, chunk({}, finish="tool_calls")])))
    assert answer.message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": arguments[0]}},
            {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": arguments[1]}},
        ],
    }
    assert answer.finish_reason == "tool_calls"


def test_refusals_reasoning_logprobs_and_audio_are_joined() -> None:
    spoken = [{"id": "audio_1", "data": "AA", "transcript": "hel"}, {"data": "BB", "transcript": "lo", "expires_at": 9}]
    chunks = [
        chunk({"role": "assistant", "refusal": "I ", "reasoning_content": "let me ", "audio": spoken[0]}),
        chunk({"refusal": "cannot", "reasoning_content": "think", "audio": spoken[1]}),
    ]
    for number, part in enumerate(chunks):
        part["choices"][0]["logprobs"] = {"content": [{"token": str(number), "logprob": -0.5}], "refusal": None}
    answer = assemble(streamed(stream_of([*chunks, chunk({}, finish="stop")])))
    assert answer.message["refusal"] == "I cannot"
    assert answer.message["reasoning_content"] == "let me think"
    assert answer.message["audio"] == {"id": "audio_1", "data": "AABB", "transcript": "hello", "expires_at": 9}
    assert [item["token"] for item in answer.choices[0]["logprobs"]["content"]] == ["0", "1"]


def test_an_error_in_mid_stream_is_kept_with_what_came_before() -> None:
    error = {"message": "overloaded", "type": "server_error", "param": None, "code": None}
    answer = assemble(streamed(stream_of([chunk({"content": "half"}), {"error": error}], done=False)))
    assert answer.text == "half"
    assert answer.error == error
    assert answer.finish_reason is None


def test_a_stream_that_breaks_off_inside_an_event_keeps_the_rest() -> None:
    data = stream_of([chunk({"content": "one "}), chunk({"content": "two"})], done=False)
    answer = assemble(streamed(data[:-10]))
    assert answer.text == "one "
    assert answer.error is not None
    assert answer.error["code"] == "not_json"


def test_error_bodies_of_either_shape() -> None:
    answer = assemble(new_exchange(answer={"error": {"message": "no", "type": "invalid_request_error"}}, status=400))
    assert answer.error == {"message": "no", "type": "invalid_request_error"}
    answer = assemble(new_exchange(answer={"error": "plainly no"}, status=500))
    assert answer.error is not None
    assert answer.error["message"] == "plainly no"
    answer = assemble(new_exchange(response=b"<html>Bad gateway</html>", status=502))
    assert answer.raw == {RAW_KEY: "<html>Bad gateway</html>"}
    assert answer.error is not None


@pytest.mark.parametrize("kind", ["text/event-stream", "TEXT/EVENT-STREAM; charset=utf-8", ""])
def test_what_is_a_stream_is_told_by_its_type_or_else_by_its_beginning(kind: str) -> None:
    data = b": hello\n\n" + stream_of([chunk({"content": "hi"})])
    assert assemble(new_exchange(response=data, response_type=kind)).text == "hi"


def test_encoded_bodies_are_decoded_and_cut_ones_kept_as_far_as_they_go() -> None:
    data = stream_of([chunk({"content": f"word{number} "}) for number in range(200)])
    whole = assemble(streamed(gzip.compress(data), response_encoding="gzip"))
    assert whole.text.split()[-1] == "word199"
    cut = assemble(streamed(gzip.compress(data)[:-60], response_encoding="gzip"))
    assert cut.text
    assert whole.text.startswith(cut.text)
    assert cut.error is not None
    unknown = assemble(new_exchange(response_encoding="br"))
    assert unknown.error is None or unknown.error["type"] == "stillhouse_assembly"


def test_a_request_is_decoded_too() -> None:
    exchange = new_exchange(request={"model": "m"})
    assert request_json(exchange) == {"model": "m"}
    packed = msgspec.structs.replace(exchange, request=gzip.compress(exchange.request), request_encoding="gzip")
    assert request_json(packed) == {"model": "m"}
    assert request_json(msgspec.structs.replace(exchange, request=b"[1, 2]")) is None
    assert request_json(msgspec.structs.replace(exchange, request=b"{broken")) is None


def response(**overrides: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "gpt-4.1",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
            },
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"a":1}'},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 6, "input_tokens_details": {"cached_tokens": 2}},
        **overrides,
    }


def test_a_response_becomes_a_chat_message() -> None:
    answer = assemble(new_exchange(answer=response(), route="responses"))
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    assert answer.message == {"role": "assistant", "content": "Hello", "tool_calls": [call]}
    assert answer.finish_reason == "tool_calls"
    assert answer.usage == Usage(5, 6, cached_tokens=2)
    assert answer.raw == response()
    incomplete = response(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert answer_from(incomplete).finish_reason == "length"


def events(*, finished: bool) -> list[dict[str, Any]]:
    message, call = response()["output"][1:]
    found: list[dict[str, Any]] = [
        {"type": "response.created", "response": response(status="in_progress", output=[], usage=None)},
        {"type": "response.output_item.added", "output_index": 0, "item": {**message, "content": []}},
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "content_index": 0,
            "delta": "Hel",
            "obfuscation": "x",
        },
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "lo"},
        {"type": "response.output_item.added", "output_index": 1, "item": {**call, "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"a":'},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "1}"},
        {"type": "response.output_item.done", "output_index": 1, "item": call},
    ]
    return [*found, {"type": "response.completed", "response": response()}] if finished else found


def event_stream(payloads: list[dict[str, Any]]) -> bytes:
    return b"".join(
        b"event: " + str(payload["type"]).encode() + b"\ndata: " + json_bytes(payload) + b"\n\n" for payload in payloads
    )


def test_a_responses_stream_ends_with_the_whole_object() -> None:
    answer = assemble(streamed(event_stream(events(finished=True)), route="responses"))
    assert answer == assemble(new_exchange(answer=response(), route="responses"))


def test_a_responses_stream_that_broke_off_is_put_together_from_its_pieces() -> None:
    answer = assemble(streamed(event_stream(events(finished=False)), route="responses"))
    assert answer.text == "Hello"
    assert answer.message["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"a":1}'}
    assert answer.completion_id == "resp_1"
    assert answer.finish_reason is None


def test_errors_of_the_responses_stream() -> None:
    answer = assemble(streamed(event_stream([{"type": "error", "message": "no", "code": "bad"}]), route="responses"))
    assert answer.error == {"message": "no", "type": "error", "param": None, "code": "bad"}
    failed = response(status="failed", output=[], error={"code": "server_error", "message": "no"})
    answer = assemble(streamed(event_stream([{"type": "response.failed", "response": failed}]), route="responses"))
    assert answer.error == {"code": "server_error", "message": "no"}


KEYS = (
    "choices delta index message tool_calls function content error usage output item type response output_index id role"
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from([*KEYS.split(), "logprobs", "refusal", "prompt_tokens"]), children, max_size=4
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(
    payloads=st.lists(JSON, max_size=5), route=st.sampled_from(["chat.completions", "responses"]), unary=st.booleans()
)
def test_no_shape_of_json_raises(payloads: list[Any], route: str, unary: bool) -> None:
    if unary:
        assemble(new_exchange(response=json_bytes(payloads[0] if payloads else None), route=route))
    else:
        typed = [
            {"type": "response.output_item.done", "output_index": 0, "item": payload, "delta": payload}
            for payload in payloads
        ]
        assemble(streamed(stream_of([*payloads, *typed]), route=route))


@given(data=st.binary(max_size=200), kind=st.sampled_from(["", "application/json", "text/event-stream", "x"]))
def test_no_bytes_raise(data: bytes, kind: str) -> None:
    for encoding in ("", "gzip", "deflate"):
        assemble(new_exchange(response=data, response_type=kind, response_encoding=encoding))


@pytest.mark.parametrize("depth", [50, 99, 500, 5000, 100_000])
def test_deep_nesting_is_kept_as_text_beyond_what_can_be_walked(depth: int) -> None:
    deep = b'{"choices":' + b"[" * depth + b"]" * depth + b"}"
    answer = assemble(new_exchange(response=deep))
    assert (answer.error is None) == (depth < 100)
    nested = b"data: " + b'{"choices":[{"delta":{"x":' + b"[" * depth + b"]" * depth + b"}}]}\n\n"
    assemble(streamed(nested))


def test_a_long_stream_is_joined_in_linear_time() -> None:
    chunks = [chunk({"content": "x" * 50}) for _ in range(40_000)]
    assert len(assemble(streamed(stream_of(chunks))).text) == 2_000_000
