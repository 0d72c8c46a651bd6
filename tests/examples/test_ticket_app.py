"""The demo's app: an outcome that is not taken counts as an error of that ticket, and ends nothing."""

import asyncio
import json
from http.server import BaseHTTPRequestHandler

import pytest

from examples.ticket_app import TicketApp
from examples.tickets import tickets
from tests.fakes.listening import Listening

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "large",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "{}"}}],
    }
).encode()
STREAM = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"large","choices":'
    b'[{"index":0,"delta":{"content":"{}"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


NOBODY = "http://127.0.0.1:9"
"""Where nothing listens."""


class OutcomesRefused(Listening):
    """A gateway that answers, and takes no outcome: it says 503, or closes the connection."""

    def __init__(self, *, closes: bool) -> None:
        self.closes = closes
        super().__init__()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        closes = self.closes

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path != "/feedback":
                    stream = json.loads(body).get("stream")
                    self._answer(
                        200, STREAM if stream else ANSWER, "text/event-stream" if stream else "application/json"
                    )
                elif not closes:
                    self._answer(503, b"{}", "application/json")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                for name, value in {
                    "content-type": kind,
                    "x-stillhouse-id": "1",
                    "x-stillhouse-arm": "teacher",
                }.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def errors_of(closes: bool) -> list[str | None]:
    with OutcomesRefused(closes=closes) as gateway:
        app = TicketApp(gateway.url.removesuffix("/v1"), "large", "key")
        asyncio.run(app.send(tickets(seed=1, count=4), at_once=2))
    assert [reply.arm for reply in app.replies] == ["teacher"] * 4
    return [reply.error for reply in app.replies]


def test_a_refused_outcome_is_an_error_of_its_ticket() -> None:
    errors = errors_of(closes=False)
    assert len(errors) == 4
    assert all("the outcome was not taken: HTTPStatusError" in str(error) for error in errors)


def test_an_outcome_that_gets_no_answer_is_one_too() -> None:
    assert all("the outcome was not taken: RemoteProtocolError" in str(error) for error in errors_of(closes=True))


def test_the_gateway_is_asked_directly_whatever_proxy_the_shell_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of this machine; both the SDK's requests and the outcomes reach it."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    monkeypatch.setenv("http_proxy", NOBODY)
    assert all("HTTPStatusError" in str(error) for error in errors_of(closes=False))
