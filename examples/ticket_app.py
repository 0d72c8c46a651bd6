"""The demo's app, as a customer of Stillhouse would write it: the unmodified `openai` SDK with another `base_url`.

It sends tickets, half of them streamed, with a session each, and tells their outcomes later, as a business does.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError

from examples.tickets import RESPONSE_FORMAT, Ticket, messages

APP = "ticket-triage"


@dataclass(frozen=True)
class Reply:
    """What the app got for one ticket. `arm` is who answered, by the header.

    `error` is what the SDK raised, or why the outcome was not taken.
    """

    ticket: Ticket
    exchange_id: str | None
    arm: str | None
    output: str
    latency_ms: float
    finished_at: float
    error: str | None = None


@dataclass
class TicketApp:
    """`gateway` is the gateway's address without /v1. Replies are kept in `replies`, in the order they came.

    `messages` writes the chat messages of a ticket; it and `response_format` are the app's prompt.
    """

    gateway: str
    model: str
    api_key: str
    messages: Callable[[Ticket], list[dict[str, str]]] = messages
    response_format: dict[str, Any] = field(default_factory=lambda: RESPONSE_FORMAT)
    on_reply: Callable[[Reply], None] = lambda _reply: None
    replies: list[Reply] = field(default_factory=list)

    async def send(self, tickets: Iterable[Ticket], *, at_once: int, per_s: float | None = None) -> None:
        """Sends every ticket, `at_once` in flight, at most `per_s` a second; posts each outcome after its answer."""
        queue, pace = iter(tickets), _Pace(per_s)
        direct = DefaultAsyncHttpxClient(trust_env=False)  # the gateway is on this machine: no proxy leads there
        async with (
            AsyncOpenAI(
                base_url=f"{self.gateway}/v1", api_key=self.api_key, max_retries=0, http_client=direct
            ) as client,
            httpx2.AsyncClient(base_url=self.gateway, timeout=30, trust_env=False) as outcomes,
        ):
            await asyncio.gather(*(self._work(queue, pace, client, outcomes) for _ in range(at_once)))

    async def _work(
        self, queue: Iterator[Ticket], pace: "_Pace", client: AsyncOpenAI, outcomes: httpx2.AsyncClient
    ) -> None:
        for ticket in queue:
            await pace.wait()
            reply = await self._ask(client, ticket)
            if reply.exchange_id is not None:
                reply = await self._tell(outcomes, reply)
            self.replies.append(reply)
            self.on_reply(reply)

    async def _ask(self, client: AsyncOpenAI, ticket: Ticket) -> Reply:
        stream = int(ticket.id[-6:]) % 2 == 0
        started = time.monotonic()
        try:
            exchange_id, arm, output = await (_streamed if stream else _whole)(client, self._request(ticket))
            error = None
        except OpenAIError as problem:
            exchange_id, arm, output, error = None, None, "", f"{type(problem).__name__}: {problem}"
        return Reply(ticket, exchange_id, arm, output, (time.monotonic() - started) * 1000, time.time(), error)

    def _request(self, ticket: Ticket) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": self.messages(ticket),
            "response_format": self.response_format,
            "temperature": 0.2,
            "metadata": {"app": APP, "ticket": ticket.id},
            "extra_headers": {"x-stillhouse-session": ticket.session},
        }

    async def _tell(self, outcomes: httpx2.AsyncClient, reply: Reply) -> Reply:
        """The true category and priority, as the people who closed the ticket found them."""
        truth = {"category": reply.ticket.truth.category, "priority": reply.ticket.truth.priority}
        body = {"id": reply.exchange_id, "kind": "truth", "value": truth}
        key = f"outcome-{reply.exchange_id}"
        try:
            (await outcomes.post("/feedback", json={**body, "idempotency_key": key})).raise_for_status()
        except httpx2.HTTPError as problem:
            return replace(reply, error=f"the outcome was not taken: {type(problem).__name__}: {problem}")
        return reply


async def _whole(client: AsyncOpenAI, request: dict[str, Any]) -> tuple[str | None, str | None, str]:
    raw = await client.chat.completions.with_raw_response.create(**request)
    completion = raw.parse()
    return (
        raw.headers.get("x-stillhouse-id"),
        raw.headers.get("x-stillhouse-arm"),
        completion.choices[0].message.content or "",
    )


async def _streamed(client: AsyncOpenAI, request: dict[str, Any]) -> tuple[str | None, str | None, str]:
    raw = await client.chat.completions.with_raw_response.create(**request, stream=True)
    parts = [chunk.choices[0].delta.content or "" async for chunk in raw.parse() if chunk.choices]
    return raw.headers.get("x-stillhouse-id"), raw.headers.get("x-stillhouse-arm"), "".join(parts)


class _Pace:
    """Lets at most `per_s` starts through a second, evenly; None lets all through."""

    def __init__(self, per_s: float | None) -> None:
        self._gap_s = 1 / per_s if per_s else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        now = time.monotonic()
        self._next = max(self._next, now) + self._gap_s
        await asyncio.sleep(self._next - self._gap_s - now)
