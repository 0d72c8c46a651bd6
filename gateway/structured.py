"""Whether a student's structured answer may leave: its JSON fits the request's schema, its tool calls theirs.

And whether it calls what the request lets it, and as often.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

from capture.assemble import assemble
from capture.exchange import Exchange
from students.tool_choice import tool_choice_of

Valid = Callable[[bytes, bool], str | None]

INVALID_JSON = "invalid_json"
INVALID_SCHEMA = "invalid_schema"
INVALID_TOOL_CALL = "invalid_tool_call"
INVALID_TOOL_CHOICE = "invalid_tool_choice"


def validator(request: Mapping[str, Any], route: str = "chat.completions") -> Valid | None:
    """The check of a request's answers, or None where any text may leave.

    It gets a whole unary body or a whole event stream (of Chat Completions or Responses, as `route` says), and returns
    the reason why it must not leave. A schema that is no schema lets nothing leave: the teacher's provider says what is
    wrong with it.
    """
    wanted = _format_of(request)
    tools = request.get("tools")
    if wanted is None and not tools:
        return None
    check_text, choice = _text_check(wanted), tool_choice_of(request)
    parameters = dict(_functions(tools))

    def valid(body: bytes, is_stream: bool) -> str | None:
        try:
            calls, text = _said(_whole(body, route) if is_stream else _decoded(body))
        except (ValueError, LookupError, TypeError, AttributeError):
            return INVALID_JSON
        if choice is None or not choice.allows([name for name, _ in calls]):
            return INVALID_TOOL_CHOICE
        return _calls_check(calls, parameters) if calls else check_text(text.encode("utf-8", "surrogatepass"))

    return valid


def is_structured(request: Mapping[str, Any]) -> bool:
    """JSON was asked for, or tools may be called: a stream of it is held until it was seen whole."""
    return _format_of(request) is not None or bool(request.get("tools"))


def _whole(stream: bytes, route: str) -> Any:
    """What the events of a stream add up to, as a unary answer; None where they are none of the route's."""
    seen = Exchange(
        id="",
        started_at=0.0,
        route=route,
        upstream="",
        status=200,
        duration_ms=0.0,
        request=b"",
        response=stream,
        response_type="text/event-stream",
    )
    answer = assemble(seen)
    return None if answer.error is not None else answer.raw


def _decoded(body: bytes) -> Any:
    """A unary answer; None where it is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _format_of(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    text = request.get("text")
    wanted = request.get("response_format") or (text.get("format") if isinstance(text, dict) else None)
    if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
        return None
    return wanted


def _text_check(wanted: Mapping[str, Any] | None) -> Callable[[bytes], str | None]:
    if wanted is None:
        return lambda _text: None
    if wanted.get("type") == "json_object":
        return _is_object
    schema = wanted.get("json_schema", wanted)
    schema = schema.get("schema") if isinstance(schema, dict) else None
    if schema is None:
        return _is_object
    compiled = _compiled(msgspec.json.encode(schema, order="deterministic"))
    return lambda text: INVALID_SCHEMA if compiled is None else _fits(text, compiled)


@lru_cache(maxsize=512)
def _compiled(schema: bytes) -> Any:
    """A compiled schema, or None for what is no schema or points outside itself (nothing is ever fetched)."""
    try:
        return jsonschema_rs.validator_for(json.loads(schema), retriever=_never)
    except (ValueError, jsonschema_rs.ReferencingError):
        return None


def _never(uri: str) -> Any:
    raise ValueError(f"{uri}: schemas are not fetched")


def _fits(text: bytes, compiled: Any) -> str | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return INVALID_JSON
    try:
        return None if compiled.is_valid(value) else INVALID_SCHEMA
    except ValueError:  # a pattern that backtracks for too long
        return INVALID_SCHEMA


def _is_object(text: bytes) -> str | None:
    try:
        return None if isinstance(json.loads(text), dict) else INVALID_JSON
    except (ValueError, RecursionError):
        return INVALID_JSON


def _calls_check(calls: list[tuple[Any, Any]], parameters: Mapping[str, Any]) -> str | None:
    fit = all(_call_fits(name, arguments, parameters) for name, arguments in calls)
    return None if fit else INVALID_TOOL_CALL


def _said(answer: Any) -> tuple[list[tuple[Any, Any]], str]:
    """The tool calls (name, arguments) and the text of a unary answer of either kind."""
    if "choices" in answer:
        message = answer["choices"][0]["message"]
        calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or ()]
        return calls, message.get("content") or ""
    items = answer["output"]
    calls = [(item["name"], item["arguments"]) for item in items if item["type"] == "function_call"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    return calls, "".join(part.get("text", "") for part in parts)


def _functions(tools: Any) -> list[tuple[str, Any]]:
    """Names and parameters of the tools that have a name."""
    listed = [tool.get("function", tool) for tool in tools or () if isinstance(tool, dict)]
    named = [tool for tool in listed if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
    return [(tool["name"], tool.get("parameters")) for tool in named]


def _call_fits(name: Any, arguments: Any, parameters: Mapping[str, Any]) -> bool:
    if not isinstance(name, str) or name not in parameters or not isinstance(arguments, str):
        return False
    schema = parameters[name]
    if schema is None:
        return _is_object(arguments.encode("utf-8", "surrogatepass")) is None
    compiled = _compiled(msgspec.json.encode(schema, order="deterministic"))
    return compiled is not None and _fits(arguments.encode("utf-8", "surrogatepass"), compiled) is None
