"""A captured request and answer as a training row holds them: Chat's shape, text only, without the bookkeeping."""

from collections.abc import Mapping
from typing import Any

from capture.assemble import RAW_KEY

Json = dict[str, Any]

BOOKKEEPING = frozenset(
    {
        "model", "store", "stream", "stream_options", "metadata", "user", "safety_identifier", "service_tier", "n",
        "prompt_cache_key", "prompt_cache_retention", "logprobs", "top_logprobs", "include", "truncation",
        "background", "obfuscation",
    }
)  # fmt: skip
"""What says nothing about the answer, or about answers that no student gives."""

_OF_RESPONSES = frozenset({"input", "instructions", "text", "tools"})
_STATE = ("previous_response_id", "conversation", "prompt")
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})


class UnusableError(Exception):
    """The exchange cannot be a row; `reason` is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def chat_request(request: Mapping[str, Any]) -> Json:
    """A request of either API in Chat's shape. Raises UnusableError where it is none, has media, or leans on state."""
    if RAW_KEY in request:
        raise UnusableError("not_json")
    kept = {name: value for name, value in request.items() if name not in BOOKKEEPING and value is not None}
    if "messages" not in request and "input" in request:
        kept = _from_responses(kept)
    messages = kept.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(turn, dict) for turn in messages):
        raise UnusableError("no_messages")
    if not all(_is_text(turn.get("content")) and not turn.get("audio") for turn in messages):
        raise UnusableError("not_text")
    return kept


def target_of(message: Mapping[str, Any]) -> Json:
    """An answer's message as a target: its text or its tool calls. Raises UnusableError for none, and for a refusal."""
    if message.get("refusal"):
        raise UnusableError("refusal")
    content = message.get("content")
    if not _is_text(content):
        raise UnusableError("not_text")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content)
    calls = message.get("tool_calls")
    if not calls and not (content or "").strip():
        raise UnusableError("empty")
    target: Json = {"role": "assistant", "content": content}
    return target | {"tool_calls": calls} if calls else target


def _is_text(content: Any) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") in _TEXT_PARTS for part in content)
    return content is None or isinstance(content, str)


def _from_responses(request: Json) -> Json:
    if any(request.get(name) for name in _STATE):
        raise UnusableError("stateful")
    kept = {name: value for name, value in request.items() if name not in _OF_RESPONSES}
    messages: list[Json] = []
    if isinstance(request.get("instructions"), str):
        messages.append({"role": "system", "content": request["instructions"]})
    given = request["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    messages += [_turn(item) for item in (items if isinstance(items, list) else [])]
    text = request.get("text")
    if isinstance(text, dict) and isinstance(text.get("format"), dict):
        kept["response_format"] = _response_format(text["format"])
    if isinstance(request.get("tools"), list):
        kept["tools"] = [_tool(tool) for tool in request["tools"]]
    return kept | {"messages": messages}


def _turn(item: Any) -> Json:
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if kind == "message":
        return {name: value for name, value in item.items() if name in ("role", "content")}
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    raise UnusableError("stateful" if kind in ("item_reference", "reasoning") else "not_text")


def _response_format(given: Json) -> Json:
    if given.get("type") != "json_schema":
        return given
    return {"type": "json_schema", "json_schema": {name: value for name, value in given.items() if name != "type"}}


def _tool(tool: Any) -> Json:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise UnusableError("hosted_tool")
    if "function" in tool:
        return tool
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
