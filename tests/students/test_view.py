import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from capture.settings import ViewSettings
from students.view import StudentFacts, conversation, eligible, responses_body, student_view
from tests.factories.requests import EVERY_FIELD

VIEW = ViewSettings(max_tokens=100, context_tokens=500)
FACTS = StudentFacts(frozenset({"known"}), tools=False, view=VIEW)
WITH_TOOLS = StudentFacts(frozenset({"known"}), tools=True, view=VIEW)
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}


def responses(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "store": False, "input": "hello", **fields}


def test_every_field_of_todays_request_is_decided_on() -> None:
    known = set(CompletionCreateParamsBase.__annotations__) | {"stream"}
    assert known - set(EVERY_FIELD) == set()


def test_a_reasoning_models_request_becomes_what_a_plain_server_takes() -> None:
    given_request = copy.deepcopy(EVERY_FIELD)
    assert student_view(EVERY_FIELD, VIEW) == {
        "messages": [
            {"role": "system", "content": "Sort.\nIn JSON."},
            {"role": "user", "content": "Charged twice"},
        ],
        "max_tokens": 40,
        "temperature": 0.3,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n\n"],
        "stream": True,
    }
    assert given_request == EVERY_FIELD
    assert eligible(EVERY_FIELD, "known", FACTS) is None


def test_the_system_prompt_can_be_dropped() -> None:
    view = ViewSettings(system_prompt="drop")
    assert [message["role"] for message in student_view(EVERY_FIELD, view)["messages"]] == ["user"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 100),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 4000}, 100),
        ({"max_tokens": None, "max_completion_tokens": 9}, 9),
        ({"max_tokens": True}, 100),
        ({"max_tokens": -1}, 100),
    ],
)
def test_the_answers_length_is_capped(fields: dict[str, Any], expected: int) -> None:
    assert student_view(chat(**fields), VIEW)["max_tokens"] == expected


def test_tools_stay_for_a_student_proven_on_them_alone() -> None:
    request = chat(
        tools=[TOOL],
        messages=[
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "found", "tool_call_id": "c1"},
        ],
    )
    seen = student_view(request, VIEW, tools=True)
    assert seen["tools"] == [TOOL]
    assert seen["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert seen["messages"][2] == {"role": "tool", "content": "found", "tool_call_id": "c1"}
    assert "tools" not in student_view(request, VIEW)
    assert (eligible(request, "known", WITH_TOOLS), eligible(request, "known", FACTS)) == (None, "tools")


def test_a_stateless_responses_request_is_the_same_conversation() -> None:
    request = responses(
        instructions="Sort.",
        input=[
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "Charged"}, {"type": "input_text", "text": "x"}],
            },
            {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "found"},
        ],
        tools=[{"type": "function", "name": "look_up", "parameters": {"type": "object"}, "strict": True}],
        max_output_tokens=12,
        reasoning={"effort": "low"},
        text={"format": {"type": "text"}},
    )
    seen = student_view(request, VIEW, tools=True)
    assert seen["messages"] == [
        {"role": "system", "content": "Sort."},
        {"role": "user", "content": "Charged\nx"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "found", "tool_call_id": "c1"},
    ]
    assert seen["max_tokens"] == 12
    named = {"name": "look_up", "parameters": {"type": "object"}, "strict": True}
    assert seen["tools"] == [{"type": "function", "function": named}]
    assert responses_body(student_view(responses(temperature=0.1, stream=True), VIEW)) == {
        "input": [{"role": "user", "content": "hello"}],
        "max_output_tokens": 100,
        "temperature": 0.1,
        "stream": True,
    }


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (chat(), None),
        (chat(n=2), "n"),
        (chat(logprobs=True), "logprobs"),
        (chat(top_logprobs=3), "logprobs"),
        (chat(tools=[TOOL]), "tools"),
        (chat(tools="odd"), "tools"),
        (chat(tool_choice="any"), "tools"),
        (chat(tool_choice="required"), "tools"),
        (chat(functions=[{"name": "f"}]), "tools"),
        (chat(web_search_options={"search_context_size": "low"}), "tools"),
        (chat(messages=[{"role": "tool", "content": "x", "tool_call_id": "1"}]), "tools"),
        (chat(modalities=["text", "audio"]), "modality"),
        (chat(audio={"voice": "ash"}), "modality"),
        (chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]), "modality"),
        (chat(messages=[{"role": "user", "content": [{"type": "file", "file": {}}]}]), "modality"),
        (chat(messages=[{"role": "assistant", "content": None, "audio": {"id": "a"}}]), "modality"),
        (chat(messages=[{"role": "user", "content": 3}]), "modality"),
        (chat(messages=[{"role": "user", "content": "word " * 400}]), "context"),
        (chat(messages=[]), "shape"),
        (chat(messages="hello"), "shape"),
        (chat(messages=["hello"]), "shape"),
        (chat(messages=[{"role": "function", "content": "x"}]), "shape"),
        ({"model": "m"}, "shape"),
        (responses(), None),
        (responses(store=True), "responses_state"),
        ({"model": "m", "input": "hello"}, "responses_state"),
        (responses(previous_response_id="r"), "responses_state"),
        (responses(conversation="c"), "responses_state"),
        (responses(background=True), "responses_state"),
        (responses(prompt={"id": "p"}), "responses_state"),
        (responses(input=[{"type": "item_reference", "id": "i"}, {"role": "user", "content": "x"}]), "shape"),
        (responses(input=[{"role": "user", "content": [{"type": "input_image"}]}]), "modality"),
        (responses(include=["message.output_text.logprobs"]), "logprobs"),
        (responses(tools=[{"type": "web_search"}]), "tools"),
        (responses(input=""), "shape"),
    ],
)
def test_what_a_student_may_not_answer(request_: dict[str, Any], reason: str | None) -> None:
    assert eligible(request_, "known", FACTS) == reason


def test_how_tools_are_chosen_must_be_known() -> None:
    for choice, reason in (("auto", None), ("required", None), ("none", None), ("any", "tools")):
        assert eligible(chat(tools=[TOOL], tool_choice=choice), "known", WITH_TOOLS) == reason


def test_tools_that_are_no_functions_stay_with_the_teacher() -> None:
    assert eligible(responses(tools=[{"type": "web_search"}]), "known", WITH_TOOLS) == "tools"


ASKED = {"role": "user", "content": "look"}
CALLED = {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"}
FOUND = {"type": "function_call_output", "call_id": "c1", "output": "found"}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "name": "look_up", "parameters": {"type": "object"}}]},
        {"input": [ASKED, CALLED]},
        {"input": [ASKED, CALLED, FOUND]},
        {"input": [FOUND]},
    ],
)
def test_tools_of_the_responses_api_stay_with_the_teacher(fields: dict[str, Any]) -> None:
    assert eligible(responses(**fields), "known", WITH_TOOLS) == "tools"
    assert eligible(responses(**fields), "known", FACTS) == "tools"


def test_a_responses_request_without_tools_may_be_answered_by_a_student_proven_on_them() -> None:
    assert eligible(responses(tools=[], tool_choice="auto"), "known", WITH_TOOLS) is None


def test_an_unseen_prompt_is_named_only_when_nothing_else_stands_in_the_way() -> None:
    assert eligible(chat(), "other", FACTS) == "unknown_prompt_version"
    assert eligible(chat(), None, FACTS) == "unknown_prompt_version"
    assert eligible(chat(n=2), "other", FACTS) == "n"


def test_every_field_of_a_responses_request_is_harmless_or_a_reason() -> None:
    plain = dict.fromkeys(ResponseCreateParamsBase.__annotations__) | responses()
    assert eligible(plain, "known", FACTS) is None
    assert set(student_view(plain, VIEW)) == {"messages", "max_tokens"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "type", "content", "text", "tool_calls", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*EVERY_FIELD, "input", "instructions", "include", "text"]), json_values))
def test_no_request_breaks_it(request_: dict[str, Any]) -> None:
    reason = eligible(request_, "known", WITH_TOOLS)
    seen = student_view(request_, VIEW, tools=True)
    allowed = {"messages", "max_tokens", "temperature", "top_p", "seed", "stop", "stream", "tools"}
    assert set(seen) <= allowed
    assert all(isinstance(message["content"], str) for message in seen["messages"])
    if reason is None:
        assert conversation(request_)
