"""A model behind Chat Completions on a real socket: answers by a function of the request, and remembers what came."""

import json
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.fakes.listening import Listening

Answering = Callable[[dict[str, Any]], Any]
"""A request's body → the answer's text, or (status, body) for something else."""


class ChatServer(Listening):
    """Use as a context manager. `headers` go with every answer; port 0 is a free one."""

    def __init__(self, answering: Answering, headers: dict[str, str] | None = None, port: int = 0) -> None:
        self.answering, self.headers = answering, headers or {}
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        super().__init__(port)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                fake.requests.append({**request, "path": self.path})
                fake.authorizations.append(self.headers.get("authorization"))
                answer = fake.answering(request)
                status, body = answer if isinstance(answer, tuple) else (200, completion(answer, request))
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                for name, value in fake.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(BrokenPipeError, ConnectionResetError):  # the client may have left
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def completion(text: str, request: dict[str, Any]) -> dict[str, Any]:
    """A unary answer as OpenAI's."""
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 0,
        "model": request.get("model", ""),
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
