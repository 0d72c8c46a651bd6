"""The Responses API's typed events → the response object, and what of it a chat message would hold. Pure."""

from typing import Any

Json = dict[str, Any]

_TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def joined(events: list[Json]) -> tuple[Json, Json | None]:
    """The response and the error event, if any; from the terminal event's whole object, else from the pieces."""
    error: Json | None = None
    skeleton: Json = {}
    pieces = _Pieces()
    for event in events:
        kind = event.get("type")
        response = event.get("response")
        if kind == "error":
            error = {key: event.get(key) for key in ("message", "type", "param", "code")}
        elif event.get("error") and kind is None:
            error = event["error"] if isinstance(event["error"], dict) else {"message": str(event["error"])}
        elif isinstance(response, dict):
            skeleton = response
            if kind in _TERMINAL:
                return response, error
        else:
            pieces.add(str(kind), event)
    output = pieces.output()
    if not skeleton and not output:
        return {}, error
    return {"object": "response", **skeleton, "output": output or skeleton.get("output", [])}, error


class _Pieces:
    """Output items by their index, as far as they came."""

    def __init__(self) -> None:
        self._items: dict[int, Json] = {}
        self._text: dict[tuple[int, str, int], list[str]] = {}

    def add(self, kind: str, event: Json) -> None:
        index = event.get("output_index")
        if not isinstance(index, int):
            return
        if kind in ("response.output_item.added", "response.output_item.done"):
            item = event.get("item")
            if isinstance(item, dict):
                self._items[index] = item
                if kind.endswith("done"):
                    self._text = {key: parts for key, parts in self._text.items() if key[0] != index}
        elif kind.endswith(".delta") and isinstance(event.get("delta"), str):
            part = event.get("content_index", event.get("summary_index", 0))
            key = (index, kind.removeprefix("response.").removesuffix(".delta"), part if isinstance(part, int) else 0)
            self._text.setdefault(key, []).append(event["delta"])

    def output(self) -> list[Json]:
        for (index, kind, _), parts in sorted(self._text.items()):
            self._items[index] = _grown(self._items.get(index, {}), kind, "".join(parts))
        return [self._items[index] for index in sorted(self._items)]


def _grown(item: Json, kind: str, text: str) -> Json:
    if kind == "function_call_arguments":
        return {"type": "function_call", **item, "arguments": text}
    if kind == "reasoning_summary_text":
        return {
            "type": "reasoning",
            **item,
            "summary": [*_list(item, "summary"), {"type": "summary_text", "text": text}],
        }
    part = {"type": kind, "refusal" if kind == "refusal" else "text": text}
    return {"type": "message", "role": "assistant", **item, "content": [*_list(item, "content"), part]}


def _list(item: Json, key: str) -> list[Any]:
    found = item.get(key)
    return found if isinstance(found, list) else []


def message_of(response: Json) -> Json:
    """The assistant's message in Chat Completions shape; empty when the response has no output."""
    texts: list[str] = []
    refusals: list[str] = []
    calls: list[Json] = []
    for item in _list(response, "output"):
        if not isinstance(item, dict):
            continue
        if item.get("type") == "message":
            parts = [part for part in _list(item, "content") if isinstance(part, dict)]
            texts += [part["text"] for part in parts if isinstance(part.get("text"), str)]
            refusals += [part["refusal"] for part in parts if isinstance(part.get("refusal"), str)]
        elif item.get("type") == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments", "")}
            calls.append({"id": item.get("call_id"), "type": "function", "function": function})
    if not texts and not refusals and not calls:
        return {}
    message: Json = {"role": "assistant", "content": "".join(texts) if texts else None}
    if refusals:
        message["refusal"] = "".join(refusals)
    if calls:
        message["tool_calls"] = calls
    return message


def finish_reason_of(response: Json) -> str | None:
    """Chat's word for how the response ended."""
    status = response.get("status")
    if status == "completed":
        has_calls = any(
            isinstance(item, dict) and item.get("type") == "function_call" for item in _list(response, "output")
        )
        return "tool_calls" if has_calls else "stop"
    if status == "incomplete":
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return {"max_output_tokens": "length", "content_filter": "content_filter"}.get(str(reason))
    return None
