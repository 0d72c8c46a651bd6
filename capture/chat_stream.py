"""The chunks of a streamed chat completion → the object that the unary call would have returned. Pure."""

from typing import Any

Json = dict[str, Any]

_SET_ONCE = frozenset({"id", "role", "type", "object", "name"})  # some servers repeat these in every chunk
_HIDDEN = ("obfuscation", "choices", "object")


def joined(chunks: list[Json]) -> tuple[Json, Json | None]:
    """The completion, and the error event that broke it off, if any."""
    head: Json = {}
    choices: dict[int, Json] = {}
    error: Json | None = None
    for chunk in chunks:
        if chunk.get("error"):
            error = _error(chunk["error"])
            continue
        for key, value in chunk.items():
            if key not in _HIDDEN and (value is not None or key not in head):
                head[key] = value
        found = chunk.get("choices")
        for choice in found if isinstance(found, list) else ():
            if isinstance(choice, dict):
                _add_choice(choices, choice)
    if not choices and not head:
        return {}, error
    finished = [_finished(choices[index]) for index in sorted(choices)]
    return {**head, "object": "chat.completion", "choices": finished}, error


def _error(value: Any) -> Json:
    return value if isinstance(value, dict) else {"message": str(value), "type": None, "param": None, "code": None}


def _add_choice(choices: dict[int, Json], choice: Json) -> None:
    index = choice.get("index")
    index = index if isinstance(index, int) else 0
    known = choices.setdefault(index, {"index": index, "message": {"role": "assistant"}})
    for key, value in choice.items():
        if key == "delta":
            if isinstance(value, dict):
                _merge(known["message"], value)
        elif key == "message":  # a whole message inside a stream
            known["message"] = value if isinstance(value, dict) else known["message"]
        elif key != "index" and value is not None:
            known[key] = _merged(known.get(key), value) if isinstance(value, dict) else value


class _Text:
    """A string that grows by many small pieces."""

    __slots__ = ("parts",)

    def __init__(self, first: str) -> None:
        self.parts = [first]


def _merge(known: Json, delta: Json) -> None:
    for key, value in delta.items():
        if value is None:
            known.setdefault(key, None)
        elif isinstance(value, str):
            _merge_text(known, key, value)
        else:
            known[key] = _merged(known.get(key), value)


def _merge_text(known: Json, key: str, value: str) -> None:
    before = known.get(key)
    if key in _SET_ONCE:
        if not before:
            known[key] = value
    elif isinstance(before, _Text):
        before.parts.append(value)
    else:
        known[key] = _Text((before if isinstance(before, str) else "") + value)


def _merged(before: Any, value: Any) -> Any:
    if isinstance(value, dict):
        target = before if isinstance(before, dict) else {}
        _merge(target, value)
        return target
    if isinstance(value, list):
        target_list = before if isinstance(before, list) else []
        _merge_list(target_list, value)
        return target_list
    return value


def _merge_list(known: list[Any], items: list[Any]) -> None:
    """Items with an `index` (tool calls) are merged with the one of that index; others are appended (logprobs)."""
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        same = _with_index(known, index) if isinstance(index, int) else None
        if same is not None:
            _merge(same, item)
        elif isinstance(item, dict):
            fresh: Json = {}
            _merge(fresh, item)
            known.append(fresh)
        else:
            known.append(item)


def _with_index(known: list[Any], index: int) -> Json | None:
    for item in known:
        if isinstance(item, dict) and item.get("index") == index:
            return item
    return None


def _finished(choice: Json) -> Json:
    whole: Json = _plain(choice)
    whole.setdefault("finish_reason", None)
    message = whole["message"]
    message.setdefault("content", None)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            call.pop("index", None)
    return whole


def _plain(value: Any) -> Any:
    if isinstance(value, _Text):
        return "".join(value.parts)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
