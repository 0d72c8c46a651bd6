"""The `openai` SDK, opened on an upstream of the settings, and what an answer's headers tell of its rate limits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2
import openai

from capture.settings import UpstreamSettings

AZURE_VERSION = "2024-10-21"
"""Of Azure's API, where the settings name none."""


@contextmanager
def open_client(upstream: UpstreamSettings, key: str, *, retries: int, timeout_s: float) -> Iterator[openai.OpenAI]:
    """A client with this key. No redirects, no proxies and no organisation from the environment."""
    with httpx2.Client(trust_env=False, follow_redirects=False) as http:
        common: dict[str, Any] = {"api_key": key, "http_client": http, "max_retries": retries, "timeout": timeout_s}
        client = (
            openai.AzureOpenAI(base_url=upstream.base_url, api_version=upstream.api_version or AZURE_VERSION, **common)
            if upstream.kind == "azure"
            else openai.OpenAI(base_url=upstream.base_url, **common)
        )
        client.organization = client.project = None
        yield client


def remaining(headers: Mapping[str, str]) -> float | None:
    """The smallest part left of any rate limit that is told (`x-ratelimit-{limit,remaining}-KIND`); None: none is."""
    parts = []
    for kind in ("requests", "tokens"):
        try:
            limit = float(headers[f"x-ratelimit-limit-{kind}"])
            parts.append(float(headers[f"x-ratelimit-remaining-{kind}"]) / limit)
        except (KeyError, ValueError, ZeroDivisionError):
            continue
    return min(parts, default=None)
