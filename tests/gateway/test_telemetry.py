"""OpenTelemetry against a real OTLP/HTTP receiver: what is told of an exchange, what never is, and that it is off."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from capture.settings import UpstreamSettings, load
from gateway.telemetry import WAITING_BYTES, Telemetry
from gateway.telemetry_attributes import Server, described, server_of
from tests.factories.exchanges import completion, new_exchange
from tests.factories.routing import settings_of
from tests.fakes.chatting import chatting
from tests.fakes.gateway import GatewayServer
from tests.fakes.upstream import ScriptedUpstream

MARK = "marked-secret"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Receiver:
    """An OTLP/HTTP collector on a real socket; keeps what came, decoded and raw."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.resources: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, path: str, body: bytes) -> None:
        self.raw.append(body)
        if path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(group.resource))
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for found in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics |= {metric.name: metric for scope in found.scope_metrics for metric in scope.metrics}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.take(self.path, self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def attributes(of: Any) -> dict[str, Any]:
    """A span's, point's or resource's attributes as plain values."""
    return {one.key: _plain(one.value) for one in of.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    return getattr(value, kind)


@contextmanager
def told(tmp_path: Path, receiver: Receiver, **gateway: str) -> Iterator[tuple[GatewayServer, ScriptedUpstream]]:
    """A gateway that tells `receiver`; all is sent once the block has ended."""
    lines = "\n".join(f'{name} = "{value}"' for name, value in gateway.items())
    with ScriptedUpstream(chatting(f"the answer holds {MARK}")) as upstream:
        config = (
            f'[gateway]\notlp_endpoint = "{receiver.url}"\n{lines}\n'
            f'[upstreams.a]\nbase_url = "http://127.0.0.1:{upstream.port}/v1"\n'
            '[tasks.triage]\nmatch = { model = "gpt-4.1" }\nteacher = { upstream = "a", model = "gpt-4.1" }\n'
        )
        with GatewayServer(settings_of(tmp_path, config)) as server:
            yield server, upstream


def ask(server: GatewayServer, *, stream: bool = False, model: str = "gpt-4.1", **headers: str) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": MARK}], "stream": stream, "temperature": 0.5}
    body |= {"user": MARK, "metadata": {"session": MARK}, "stop": [MARK], "top_p": MARK}
    sent = {"authorization": f"Bearer sk-{MARK}", "x-stillhouse-session": MARK, **headers}
    return httpx2.post(f"{server.url}/chat/completions", json=body, headers=sent)


def test_a_captured_exchange_is_a_span_under_its_clients_trace(tmp_path: Path) -> None:
    with Receiver() as receiver:
        with told(tmp_path, receiver) as (server, upstream):
            reply = ask(server, traceparent=f"00-{TRACE}-{PARENT}-01")
            assert upstream.requests[0].header(b"traceparent") == f"00-{TRACE}-{PARENT}-01".encode()
        (span,) = receiver.spans
        assert span.name == "chat gpt-4.1"
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        found = attributes(span)
        assert found == found | {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "a",
            "gen_ai.request.model": "gpt-4.1",
            "gen_ai.response.model": "gpt-4.1",
            "gen_ai.response.id": "chatcmpl-fake",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.request.temperature": 0.5,
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 5,
            "http.response.status_code": 200,
            "server.address": "127.0.0.1",
            "server.port": upstream.port,
            "stillhouse.task": "triage",
            "stillhouse.arm": "teacher",
            "stillhouse.id": reply.headers["x-stillhouse-id"],
        }
        assert span.end_time_unix_nano > span.start_time_unix_nano
        assert receiver.resources[0]["service.name"] == "stillhouse"


def test_metrics_by_the_conventions(tmp_path: Path) -> None:
    with Receiver() as receiver:
        with told(tmp_path, receiver) as (server, _):
            ask(server)
            ask(server, stream=True)
        assert sum(map(_count, receiver.metrics["gen_ai.client.operation.duration"].histogram.data_points)) == 2
        (first,) = receiver.metrics["gen_ai.client.operation.time_to_first_chunk"].histogram.data_points
        assert (_count(first), attributes(first)["stillhouse.task"]) == (1, "triage")
        tokens = receiver.metrics["gen_ai.client.token.usage"].histogram.data_points
        assert {attributes(point)["gen_ai.token.type"]: point.sum for point in tokens} == {"input": 10, "output": 5}


def _count(point: Any) -> int:
    return int(point.count)


def test_what_was_said_and_who_said_it_is_never_told(tmp_path: Path) -> None:
    with Receiver() as receiver:
        with told(tmp_path, receiver) as (server, _):
            assert MARK in ask(server).text
            ask(server, stream=True)
            ask(server, **{"x-stillhouse-capture": "off"})
        assert len(receiver.spans) == 2  # who is not to be captured is not told of either
        assert not [body for body in receiver.raw if MARK.encode() in body]


def test_an_upstream_away_is_an_error_by_its_cause(tmp_path: Path) -> None:
    with Receiver() as receiver:
        with told(tmp_path, receiver) as (server, upstream):
            upstream.__exit__()
            assert ask(server).status_code == 502
        (span,) = receiver.spans
        assert span.status.code == 2
        assert attributes(span)["error.type"] == "upstream_unreachable"
        assert span.status.message == ""


def test_a_receiver_that_is_away_costs_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Receiver() as gone:
        pass
    with told(tmp_path, gone) as (server, _):
        assert ask(server).status_code == 200
    assert MARK not in caplog.text


def test_what_is_too_much_is_dropped_and_counted() -> None:
    with Receiver() as receiver:
        telemetry = Telemetry(receiver.url, {})
        telemetry._given_bytes = WAITING_BYTES + 1
        telemetry.ended({}, b"record")
        telemetry.close()
        assert (telemetry.dropped, receiver.spans) == (1, [])


def test_off_unless_an_endpoint_is_configured(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert settings.gateway.otlp_endpoint == ""
    seen = "import sys, gateway.__main__; print([name for name in sys.modules if 'telemetry.exporter' in name])"
    ran = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_usual_variable_configures_it_and_the_file_goes_before_it(tmp_path: Path) -> None:
    usual = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    assert load(None, usual).gateway.otlp_endpoint == "http://127.0.0.1:4318"
    file = tmp_path / "stillhouse.toml"
    file.write_text('[gateway]\notlp_endpoint = "http://collector:4318"\n')
    assert load(file, usual).gateway.otlp_endpoint == "http://collector:4318"


@pytest.mark.parametrize(
    ("url", "kind", "server"),
    [
        ("https://api.openai.com/v1", "openai", Server("openai", "api.openai.com", 443)),
        ("https://res.example.net/openai", "azure", Server("azure.ai.openai", "res.example.net", 443)),
        ("http://10.0.0.1:8000/v1", "openai", Server("vllm", "10.0.0.1", 8000)),
    ],
)
def test_the_provider_of_an_upstream(url: str, kind: Any, server: Server) -> None:
    assert server_of("vllm", UpstreamSettings(base_url=url, kind=kind, api_version="1")) == server


def test_what_is_no_json_and_has_no_usage_is_told_all_the_same() -> None:
    page = new_exchange(response=b"<html>", request_encoding="br", status=502)
    found = described(page, Server("a", "h", 80))
    assert (found.error, found.input_tokens) == ("502", None)
    without = described(new_exchange(answer=completion("hi", usage=None)), Server("a", "h", 80))
    assert (without.error, without.output_tokens) == (None, None)
