"""Warms a student's server up and measures what it can answer, before traffic is sent to it."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import Any

import httpx2

BURSTS = (8, 16)  # requests at once
LONG_S = 5.0  # a burst that took this long is not followed by a larger one
TIMEOUT_S = 120.0
_SAMPLE: tuple[Mapping[str, Any], ...] = (
    {"role": "system", "content": "Sort the message. Answer in JSON with category, priority and a short summary."},
    {
        "role": "user",
        "content": "Hello, the parcel with my order should have been here on Monday, and I have heard nothing since. "
        "Could you find out where it is, and tell me when it will arrive? I need it for the weekend. Thank you!",
    },
)


class ProbeFailedError(Exception):
    """The server took a request and did not answer it well; its one line says how."""


def warm_up(
    url: str, model: str, sampling: Mapping[str, float], prompts: Sequence[Sequence[Mapping[str, Any]]]
) -> None:
    """One request, alone. `sampling` matters: see serving.ServedStudent. Raises ProbeFailedError."""
    with _client() as client:
        _ask(client, url, {"model": model, "messages": _prompts(prompts)[0], "max_tokens": 8, **sampling})


def capacity(url: str, model: str, max_tokens: int, prompts: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    """Answers a second, of the best of a few bursts. Takes about ten seconds at most. Raises ProbeFailedError."""
    best = 0.0
    with _client() as client:
        for size in BURSTS:
            bodies = [
                {"model": model, "messages": messages, "max_tokens": max_tokens}
                for messages in islice(cycle(_prompts(prompts)), size)
            ]
            started = time.monotonic()
            with ThreadPoolExecutor(size) as pool:
                list(pool.map(lambda body: _ask(client, url, body), bodies))
            took_s = time.monotonic() - started
            best = max(best, size / took_s)
            if took_s > LONG_S:
                break
    return best


def healthy(url: str, timeout_s: float) -> bool:
    """Whether GET /health says 200. `url` ends in /v1; the route is the server's own, beside it."""
    try:
        with _client() as client:
            return client.get(url.removesuffix("/v1") + "/health", timeout=timeout_s).status_code == 200
    except httpx2.HTTPError:
        return False


def _ask(client: httpx2.Client, url: str, body: Mapping[str, Any]) -> None:
    try:
        response = client.post(f"{url}/chat/completions", json=dict(body), timeout=TIMEOUT_S)
    except httpx2.HTTPError as error:
        raise ProbeFailedError(f"a probe was not answered: {type(error).__name__}") from error
    if response.status_code != 200 or not response.json().get("choices"):
        raise ProbeFailedError(f"a probe was answered with status {response.status_code}: {response.text[:200]}")


def _prompts(given: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Mapping[str, Any]]]:
    return [list(messages) for messages in given or (_SAMPLE,)]


def _client() -> httpx2.Client:
    limits = httpx2.Limits(max_connections=max(BURSTS))
    return httpx2.Client(trust_env=False, limits=limits)
