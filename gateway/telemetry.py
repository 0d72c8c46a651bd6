"""OpenTelemetry: each captured exchange as a span and as measurements, made and sent by threads beside the event loop.

There is none of it, and no cost, unless an OTLP endpoint is configured. What leaves is in telemetry_attributes.py.
"""

import logging
import queue
import threading
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import msgspec
import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from capture.exchange import decode
from capture.settings import UpstreamSettings
from gateway.plan import Plan, Refusal, RequestHead
from gateway.relay.context import Router
from gateway.telemetry_attributes import Described, Server, described, server_of

WAITING_BYTES = 64 * 1024 * 1024  # of records; what comes beyond it is not told, and counted
EXPORT_TIMEOUT_S = 3.0  # also what a receiver that is away may cost at the end: below the supervisor's grace
METRICS_EVERY_S = 15.0
DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

_log = structlog.get_logger("stillhouse.gateway")


class Telemetry:
    """Give it finished records by `ended`; `close` sends what waits. `endpoint` is OTLP/HTTP's base URL."""

    def __init__(self, endpoint: str, upstreams: Mapping[str, UpstreamSettings], index: int = 0) -> None:
        self.dropped = 0
        self._servers = {name: server_of(name, upstream) for name, upstream in upstreams.items()}
        self._records: queue.SimpleQueue[tuple[bytes, dict[str, str]] | None] = queue.SimpleQueue()
        self._given_bytes = 0  # written by the event loop alone
        self._taken_bytes = 0  # written by the thread alone
        self._export = _Export(endpoint.rstrip("/"), index)
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def ended(self, carrier: dict[str, str], record: bytes) -> None:
        """A finished exchange, as the spool gets it; `carrier` holds its request's trace context."""
        if self._given_bytes - self._taken_bytes > WAITING_BYTES:
            self.dropped += 1
            return
        self._given_bytes += len(record)
        self._records.put((record, carrier))

    def traced(self, router: Router) -> Router:
        """The same router, whose captured plans tell how they ended."""
        return cast(Router, _TracedRouter(router, self))

    def close(self) -> None:
        self._records.put(None)
        self._thread.join()
        if self.dropped:
            _log.warning("telemetry_dropped", exchanges=self.dropped)
        self._export.close()

    def _run(self) -> None:
        while (given := self._records.get()) is not None:
            record, carrier = given
            self._taken_bytes += len(record)
            try:
                exchange = decode(record)
                server = self._servers.get(exchange.upstream) or Server(exchange.upstream, "", 0)
                self._export.tell(described(exchange, server), carrier)
            except Exception as error:  # noqa: BLE001 -- the loop's edge: logged, and on it goes
                _log.warning("telemetry_failed", error=type(error).__name__)


class _Export:
    """The SDK's providers, this process's own: nothing global is set."""

    def __init__(self, endpoint: str, index: int) -> None:
        number = version("stillhouse")
        about = {"service.name": "stillhouse", "service.version": number, "service.instance.id": str(index)}
        resource = Resource.create(about)
        logging.getLogger("opentelemetry").setLevel(logging.WARNING)
        self._tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
        spans = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=EXPORT_TIMEOUT_S)
        self._tracing.add_span_processor(BatchSpanProcessor(spans))
        metrics = OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", timeout=EXPORT_TIMEOUT_S)
        reader = PeriodicExportingMetricReader(metrics, METRICS_EVERY_S * 1000)
        self._metering = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._tracer = self._tracing.get_tracer("stillhouse.gateway", number)
        meter = self._metering.get_meter("stillhouse.gateway", number)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=DURATION_S,
        )
        self._first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="Time to receive the first chunk.",
            explicit_bucket_boundaries_advisory=FIRST_S,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self._contexts = TraceContextTextMapPropagator()

    def tell(self, told: Described, carrier: dict[str, str]) -> None:
        span = self._tracer.start_span(
            told.name,
            context=self._contexts.extract(carrier),
            kind=SpanKind.CLIENT,
            attributes=told.span,
            start_time=told.started_ns,
        )
        if told.error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(told.ended_ns)
        self._duration.record(told.duration_s, told.metric)
        if told.first_s is not None:
            self._first.record(told.first_s, told.metric)
        for kind, tokens in (("input", told.input_tokens), ("output", told.output_tokens)):
            if tokens is not None:
                self._tokens.record(tokens, {**told.metric, "gen_ai.token.type": kind})

    def close(self) -> None:
        metering = threading.Thread(target=self._metering.shutdown, name="telemetry's end", daemon=True)
        metering.start()
        self._tracing.shutdown()
        metering.join()


class _TracedRouter:
    """Stands before a router; all but `plan` is the router's own."""

    def __init__(self, router: Router, telemetry: Telemetry) -> None:
        self._router = router
        self._telemetry = telemetry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)

    def plan(self, head: RequestHead, body: bytes | None) -> Plan | Refusal:
        outcome = self._router.plan(head, body)
        if isinstance(outcome, Refusal) or not outcome.captured:
            return outcome
        return msgspec.structs.replace(outcome, ended=partial(self._telemetry.ended, _carrier(head)))


def _carrier(head: RequestHead) -> dict[str, str]:
    """W3C's trace context of a request; the headers themselves go on to the upstream as they came."""
    found = {name: head.header(name.encode()) for name in ("traceparent", "tracestate")}
    return {name: value.decode("latin-1") for name, value in found.items() if value is not None}
