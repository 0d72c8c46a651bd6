from typing import Any

import pytest

from capture.exchange import Exchange
from capture.keys import Key, KeyLimits
from gateway.limits import Admitted, Limiter
from gateway.plan import Refusal
from gateway.token_use import tokens_of
from gateway.usage import UsagePages
from tests.factories.routing import NOW, Time

UNARY = b'{"choices":[{"message":{"content":"the \\"usage\\": {9}"}}],"usage": {"prompt_tokens":10,"total_tokens":42}}'
DATA = b"data: {}\n\n"


def exchange(response: bytes, **more: Any) -> Exchange:
    known: dict[str, Any] = {"id": "i", "started_at": 0.0, "route": "chat.completions", "upstream": "u", "status": 200}
    return Exchange(**known | {"duration_ms": 1.0, "request": b"x" * 40, "response": response} | more)


@pytest.mark.parametrize(
    ("response", "more", "tokens"),
    [
        (UNARY, {}, 42),
        (b'{"usage":{"input_tokens":3,"output_tokens":4}}', {}, 7),
        (b'data: {"usage":null}\n\ndata: {"usage":{"total_tokens":5}}\n\n', {"response_type": "text/event-stream"}, 5),
        (b'{"usage":{"total_tokens":5}}\ndata: {"usage":null}', {}, 5),
        (DATA * 6, {"response_type": "text/event-stream; charset=utf-8"}, 10 + 6),
        (b"y" * 20, {}, 10 + 5),
        (UNARY, {"response_encoding": "gzip"}, 10 + (len(UNARY) + 3) // 4),
        (b'{"usage":{"total_tokens":"many"}}', {}, 10 + 9),
        (b'{"usage":[1]}' + b"z" * 7, {}, 10 + 5),
        (b'{"error":{}}', {"status": 400}, 0),
    ],
)
def test_usage_where_it_is_in_plain_sight_else_an_estimate(response: bytes, more: Any, tokens: int) -> None:
    assert tokens_of(exchange(response, **more)) == tokens


def limited() -> tuple[Limiter, Key, Time]:
    clock = Time(NOW - NOW % 60)
    return Limiter(UsagePages(), clock), Key("k", "n", "p", (), KeyLimits(tokens_per_minute=100), 0, None, None), clock


def admitted(limiter: Limiter, key: Key) -> Admitted:
    taken = limiter.admit(key, 40, {})
    assert isinstance(taken, Admitted), taken
    return taken


def test_what_an_answer_took_counts_for_the_next_request() -> None:
    limiter, key, _ = limited()
    admitted(limiter, key).settle(exchange(b'{"usage":{"total_tokens":95}}'))
    refusal = limiter.admit(key, 40, {})
    assert isinstance(refusal, Refusal)
    assert dict(refusal.headers)[b"x-ratelimit-remaining-tokens"] == b"5"


def test_what_was_estimated_too_high_comes_back_but_never_below_nothing() -> None:
    limiter, key, clock = limited()
    for _ in range(30):
        admitted(limiter, key).settle(exchange(b'{"error":{}}', status=500))
    late = admitted(limiter, key)
    clock.now += 120
    late.settle(exchange(b'{"error":{}}', status=500))
    for _ in range(10):
        admitted(limiter, key)
    assert isinstance(limiter.admit(key, 40, {}), Refusal)
