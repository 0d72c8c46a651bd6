"""The one view: what a student sees of a request, in training, evaluation, shadow and serving; and when it may see it.

Requests of both kinds come in (Chat Completions, and stateless ones of the Responses API); what goes out is always the
small part of Chat Completions that any plain server accepts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capture.settings import ViewSettings
from students.tool_choice import tool_choice_of

TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})
BYTES_PER_TOKEN = 3  # cautious: English has about 4, German about 3.5

_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_SAMPLING = ("temperature", "top_p", "seed", "stop", "stream")


@dataclass(frozen=True, slots=True)
class StudentFacts:
    """What a student has been proven on: prompt versions, tools (of Chat) or not, and the view it was trained with."""

    fingerprints: frozenset[str]
    tools: bool
    view: ViewSettings


def student_view(request: Mapping[str, Any], view: ViewSettings, *, tools: bool = False) -> dict[str, Any]:
    """The body that the student gets, without `model`: `messages`, `max_tokens` and what was set of the sampling.

    `developer` becomes `system`, parts of text become one text, `max_completion_tokens` (or `max_output_tokens`)
    becomes `max_tokens`, capped by the view; `tools` and tool calls stay only for a student proven on them. All else
    (reasoning, unknown parameters, `response_format`, `stream_options`) is left out: plain servers answer 422 to what
    they do not know. `request` is not changed. For an ineligible request the result is without meaning, but no error.
    """
    made = [_message(message, tools) for message in conversation(request)]
    if view.system_prompt == "drop":
        made = [message for message in made if message["role"] != "system"]
    seen: dict[str, Any] = {"messages": made, "max_tokens": _max_tokens(request, view)}
    seen.update((name, request[name]) for name in _SAMPLING if request.get(name) is not None)
    if tools and request.get("tools"):
        seen["tools"] = [_chat_tool(tool) for tool in _mappings(request["tools"])]
    return seen


def responses_body(seen: Mapping[str, Any]) -> dict[str, Any]:
    """A student's view as the body of a stateless Responses request, for a server that speaks it; without `model`.

    It holds no tools and no calls: `eligible` lets no request of this kind through that has any.
    """
    kept = {name: seen[name] for name in ("temperature", "top_p", "stream") if name in seen}
    return {"input": seen["messages"], "max_output_tokens": seen["max_tokens"], **kept}


def conversation(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The messages of a Chat request, or those that a Responses request's `instructions` and `input` amount to."""
    if "messages" in request or "input" not in request:
        return _mappings(request.get("messages"))
    instructions, given = request.get("instructions"), request["input"]
    lead: list[Mapping[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str):
        return [*lead, {"role": "user", "content": given}]
    return [*lead, *(_from_item(item) for item in _mappings(given))]


def eligible(request: Mapping[str, Any], fingerprint: str | None, facts: StudentFacts) -> str | None:
    """None when the student may answer; else why not, as a word that is counted.

    `unknown_prompt_version` is looked at last: a request with that reason is ineligible for it alone.
    """
    for reason, holds in _OBSTACLES:
        if holds(request, facts):
            return reason
    return None if fingerprint in facts.fingerprints else "unknown_prompt_version"


def _bad_shape(request: Mapping[str, Any], _facts: StudentFacts) -> bool:
    given = request.get("messages", request.get("input"))
    if isinstance(given, str):
        return not given or "messages" in request
    if not isinstance(given, list) or not given:
        return True
    return any(not isinstance(entry, dict) for entry in given) or any(
        str(message.get("role")) not in _ROLES for message in conversation(request)
    )


def _has_state(request: Mapping[str, Any], _facts: StudentFacts) -> bool:
    if "messages" in request:
        return False
    if any(request.get(name) for name in ("previous_response_id", "conversation", "background", "prompt")):
        return True
    return request.get("store") is not False or any(
        item.get("type") in ("item_reference", "reasoning") for item in _mappings(request.get("input"))
    )


def _has_other_than_text(request: Mapping[str, Any], _facts: StudentFacts) -> bool:
    if request.get("audio") or request.get("modalities") not in (None, [], ["text"]):
        return True
    return any(not _is_text(message.get("content")) or message.get("audio") for message in conversation(request))


def _has_many_choices(request: Mapping[str, Any], _facts: StudentFacts) -> bool:
    return request.get("n") not in (None, 1)


def _has_logprobs(request: Mapping[str, Any], _facts: StudentFacts) -> bool:
    included = request.get("include")
    wanted = isinstance(included, list) and "message.output_text.logprobs" in included
    return bool(request.get("logprobs") or request.get("top_logprobs") or wanted)


def _has_unproven_tools(request: Mapping[str, Any], facts: StudentFacts) -> bool:
    if request.get("functions") or request.get("web_search_options"):
        return True
    tools = request.get("tools") or []
    if not isinstance(tools, list) or any(not _is_function(tool) for tool in tools):
        return True
    choice = tool_choice_of(request)
    if choice is None or (choice.least and not tools):
        return True
    proven = facts.tools and "messages" in request  # a Responses body for a student has no place for them
    return not proven and bool(tools or any(_speaks_of_tools(message) for message in conversation(request)))


def _is_too_long(request: Mapping[str, Any], facts: StudentFacts) -> bool:
    seen = student_view(request, facts.view, tools=facts.tools)
    size = sum(len(message["content"] or "") for message in seen["messages"])
    tools = len(str(seen["tools"])) if "tools" in seen else 0
    return (size + tools) / BYTES_PER_TOKEN + int(seen["max_tokens"]) > facts.view.context_tokens


_OBSTACLES = (
    ("shape", _bad_shape),
    ("responses_state", _has_state),
    ("modality", _has_other_than_text),
    ("n", _has_many_choices),
    ("logprobs", _has_logprobs),
    ("tools", _has_unproven_tools),
    ("context", _is_too_long),
)


def _message(message: Mapping[str, Any], tools: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "role": _ROLES.get(str(message.get("role")), "user"),
        "content": _text(message.get("content")),
    }
    if tools:
        made.update((name, message[name]) for name in ("tool_calls", "tool_call_id") if message.get(name))
    return made


def _from_item(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """One item of a Responses request's `input` as a message of Chat Completions."""
    kind = item.get("type", "message")
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "content": item.get("output"), "tool_call_id": item.get("call_id")}
    return item if kind == "message" else {"role": None, "content": None}


def _chat_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A function tool in Chat's nesting; the Responses API has its members side by side."""
    if "function" in tool:
        return tool
    named = {name: tool[name] for name in ("name", "description", "parameters", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": named}


def _max_tokens(request: Mapping[str, Any], view: ViewSettings) -> int:
    asked = (request.get(name) for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"))
    return min([view.max_tokens, *(limit for limit in asked if type(limit) is int and limit > 0)])


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or part.get("refusal") or "") for part in _mappings(content))
    return content if isinstance(content, str) else ""


def _is_text(content: Any) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") in TEXT_PARTS for part in content)
    return content is None or isinstance(content, str)


def _is_function(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "function"


def _speaks_of_tools(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "tool" or bool(message.get("tool_calls") or message.get("function_call"))


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
