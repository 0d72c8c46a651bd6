"""What telemetry says of one exchange: OpenTelemetry's GenAI attributes, and never a word of the content."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from capture.assemble import assemble, request_json
from capture.exchange import Answer, Exchange
from capture.settings import UpstreamSettings

_MAX_TEXT = 256  # of names that come from outside
_API_TYPES = {"chat.completions": "chat_completions", "responses": "responses"}
_NUMBERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "n": "gen_ai.request.choice.count",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}

Value = str | int | float | bool | list[str]


@dataclass(frozen=True, slots=True)
class Server:
    """Who is behind an upstream's name: the provider, host and port."""

    provider: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Described:
    """One exchange as a span and as measurements. Times are Unix nanoseconds, durations seconds."""

    name: str
    started_ns: int
    ended_ns: int
    span: dict[str, Value]
    metric: dict[str, Value]  # the few attributes that metrics are kept by
    duration_s: float
    first_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    error: str | None


def server_of(name: str, upstream: UpstreamSettings) -> Server:
    """The provider is `openai` or `azure.ai.openai` where that is plain, else the upstream's own name."""
    parts = urlsplit(upstream.base_url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if upstream.kind == "azure":
        return Server("azure.ai.openai", host, port)
    return Server("openai" if host.endswith("openai.com") else name, host, port)


def described(exchange: Exchange, server: Server) -> Described:
    """Pure. Token counts are the provider's own; an exchange without them has none."""
    answer = assemble(exchange)
    error = _error_of(exchange)
    usage = answer.usage if answer.usage is not None and not answer.usage.estimated else None
    metric = _metric(exchange, server, answer, error)
    started_ns = int(exchange.started_at * 1e9)
    return Described(
        name=f"chat {_text(exchange.model)}".strip(),
        started_ns=started_ns,
        ended_ns=started_ns + int(exchange.duration_ms * 1e6),
        span={**metric, **_asked(exchange), **_answered(exchange, answer), **_ours(exchange)},
        metric=metric,
        duration_s=exchange.duration_ms / 1000,
        first_s=exchange.first_ms / 1000 if exchange.stream and exchange.first_ms is not None else None,
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        error=error,
    )


def _metric(exchange: Exchange, server: Server, answer: Answer, error: str | None) -> dict[str, Value]:
    found: dict[str, Value | None] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": server.provider,
        "gen_ai.request.model": _text(exchange.model) or None,
        "gen_ai.response.model": _text(answer.model) or None,
        "server.address": server.host,
        "server.port": server.port,
        "error.type": error,
        "stillhouse.task": exchange.task,
        "stillhouse.arm": str(exchange.arm),
    }
    return _known(found)


def _asked(exchange: Exchange) -> dict[str, Value]:
    """The request's numbers; texts, and what merely looks like a number, stay out."""
    request = request_json(exchange) or {}
    found: dict[str, Value | None] = {}
    for name, attribute in _NUMBERS.items():
        value = request.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[attribute] = value
    found["gen_ai.request.stream"] = exchange.stream or None
    found["openai.api.type"] = _API_TYPES.get(exchange.route)
    return _known(found)


def _answered(exchange: Exchange, answer: Answer) -> dict[str, Value]:
    usage = answer.usage if answer.usage is not None and not answer.usage.estimated else None
    reasons = [reason for choice in answer.choices if isinstance(reason := choice.get("finish_reason"), str)]
    first_s = exchange.first_ms / 1000 if exchange.stream and exchange.first_ms is not None else None
    found: dict[str, Value | None] = {
        "gen_ai.response.id": _text(answer.completion_id) or None,
        "gen_ai.response.finish_reasons": [_text(reason) for reason in reasons] or None,
        "gen_ai.response.time_to_first_chunk": first_s,
        "gen_ai.usage.input_tokens": usage.input_tokens if usage else None,
        "gen_ai.usage.output_tokens": usage.output_tokens if usage else None,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None if usage else None,
        "http.response.status_code": exchange.status or None,
    }
    return _known(found)


def _ours(exchange: Exchange) -> dict[str, Value]:
    found: dict[str, Value | None] = {
        "stillhouse.id": exchange.id,
        "stillhouse.assignment": str(exchange.assignment) if exchange.assignment else None,
        "stillhouse.student": exchange.student,
        "stillhouse.rollout": exchange.rollout,
        "stillhouse.reason": exchange.reason.partition(":")[0] if exchange.reason else None,
        "stillhouse.complete": exchange.complete,
    }
    return _known(found)


def _error_of(exchange: Exchange) -> str | None:
    """Why it went wrong, of few values: our cause, else the status."""
    if exchange.cause is not None:
        return exchange.cause
    return str(exchange.status) if exchange.status >= 400 else None


def _known(found: dict[str, Any]) -> dict[str, Value]:
    return {name: value for name, value in found.items() if value is not None}


def _text(value: str | None) -> str:
    return (value or "")[:_MAX_TEXT]
