"""OpenAI's error shape, for every error that is ours."""

import msgspec

from gateway.plan import Refusal


def body(refusal: Refusal) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}` as UTF-8 JSON."""
    return msgspec.json.encode(
        {"error": {"message": refusal.message, "type": refusal.type, "param": refusal.param, "code": refusal.code}}
    )
