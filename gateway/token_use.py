"""How many tokens an answer took: its usage where that is in plain sight, else an estimate from its bytes."""

import json
import math

from capture.exchange import Exchange

BYTES_PER_TOKEN = 4
_USAGE_BYTES = 4096  # more than any usage object has
_PLAIN = ("", "identity")

_decoder = json.JSONDecoder()


def tokens_of(exchange: Exchange) -> int:
    """Tokens in and out of one exchange. Nothing where the provider refused it; a stream's events stand for its tokens.

    Usage is the last `"usage": {…}` of a plain answer: inside a text its quotes would be escaped.
    """
    plain = exchange.response_encoding in _PLAIN
    counted = _usage_in(exchange.response) if plain else None
    if counted is not None:
        return counted
    if exchange.status >= 400:
        return 0
    asked = math.ceil(len(exchange.request) / BYTES_PER_TOKEN)
    if plain and exchange.response_type.startswith("text/event-stream"):
        return asked + exchange.response.count(b"data:")
    return asked + math.ceil(len(exchange.response) / BYTES_PER_TOKEN)


def _usage_in(answer: bytes) -> int | None:
    at = answer.rfind(b'"usage"')
    while at >= 0:
        text = answer[at + 7 : at + 7 + _USAGE_BYTES].decode("latin-1").lstrip(" \t\r\n:")
        total = _total(text) if text.startswith("{") else None
        if total is not None:
            return total
        at = answer.rfind(b'"usage"', 0, at)
    return None


def _total(text: str) -> int | None:
    try:
        usage, _ = _decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    parts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")]
    numbers = [part for part in [usage.get("total_tokens"), *parts] if type(part) is int and part >= 0]
    if not numbers:
        return None
    total = usage.get("total_tokens")
    return total if type(total) is int and total >= 0 else sum(numbers)
