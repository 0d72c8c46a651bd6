"""The gateway's metrics: what each process counts, as samples, and their sum as Prometheus text."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from capture.spool import SpoolDepth
from gateway.breaker import Breakers, CircuitState
from gateway.lag import LagMeter
from gateway.relay.counters import BUCKETS_MS, Counters, Histogram
from gateway.tally import Tally

Kind = Literal["counter", "gauge", "worst"]


class Family(msgspec.Struct, frozen=True):
    """A metric's name without `stillhouse_`, what it says, and its labels. `worst`: the largest of all processes."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Kind = "counter"


FAMILIES = (
    Family("requests", "Relayed requests that ended.", ("route", "status", "arm")),
    Family("errors", "What went wrong or was refused, by cause.", ("cause",)),
    Family("assignments", "Eligible requests by what they were assigned to.", ("task", "assignment")),
    Family("not_student", "Requests of a task with a rollout that no student got, by reason.", ("task", "reason")),
    Family("upstream_retries", "Requests sent once more after a stale connection."),
    Family("capture", "Exchanges by what became of their capture in this process.", ("task", "outcome")),
    Family("exchanges", "Exchanges of this install by what became of them.", ("task", "outcome"), "gauge"),
    Family("circuit_opened", "How often an upstream (or a student) was left alone for failing.", ("upstream",)),
    Family("circuit_state", "0 closed, 1 half open, 2 open; the worst of all processes.", ("upstream",), "worst"),
    Family("in_flight", "Relayed requests under way.", kind="gauge"),
    Family("connections", "Open client connections.", kind="gauge"),
    Family("held_bytes", "Bytes of bodies held at once.", kind="gauge"),
    Family("spool_bytes", "Bytes that wait in the spool.", kind="gauge"),
    Family("spool_segments", "Segments that wait in the spool.", kind="gauge"),
    Family("tasks", "Tasks of the event loops.", kind="gauge"),
    Family("event_loop_lag_ms", "Worst lag of an event loop in the last ten seconds.", kind="worst"),
    Family("snapshot_age_seconds", "Age of the oldest routing snapshot.", kind="worst"),
    Family("store_away", "1 while the store does not answer.", kind="worst"),
)

_STATES = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}

HISTOGRAMS = {
    "first_byte_ms": "From the whole request to the answer's first byte.",
    "first_event_ms": "Of captured streams, from the whole request to the first event.",
    "added_ms": "From the whole request to its being sent on, where a connection was there already.",
    "upstream_ms": "From the request's being sent on, connecting included, to the answer's end.",
    "lag_ms": "How late the event loops were, ten times a second.",
}


class Sample(msgspec.Struct, frozen=True, array_like=True):
    name: str
    labels: tuple[str, ...]
    value: float


class Numbers(msgspec.Struct, frozen=True):
    """What one process counted."""

    samples: tuple[Sample, ...] = ()
    histograms: dict[str, tuple[list[int], float]] = {}  # counts by bucket, sum


def counted(counters: Counters, tally: Tally, capture: Iterable[tuple[tuple[str, str], int]]) -> list[Sample]:
    """The counters of a process as samples; `capture` is its page's ((task, name), value)."""
    return [
        *(
            Sample("requests", (route, f"{status}xx", arm), value)
            for (route, status, arm), value in counters.requests.items()
        ),
        *(Sample("errors", (str(cause),), value) for cause, value in counters.errors.items()),
        *(Sample("assignments", labels, value) for labels, value in tally.assignments.items()),
        *(Sample("not_student", labels, value) for labels, value in tally.reasons.items()),
        *(Sample("capture", labels, value) for labels, value in capture),
        Sample("upstream_retries", (), counters.retries),
    ]


def measured(counters: Counters, depth: SpoolDepth, snapshot_age_s: float, away: bool) -> list[Sample]:
    """What a process measures now."""
    values = {
        "in_flight": counters.in_flight,
        "connections": counters.connections,
        "held_bytes": counters.held_bytes,
        "spool_bytes": depth.bytes,
        "spool_segments": depth.segments,
        "snapshot_age_seconds": snapshot_age_s,
        "store_away": float(away),
    }
    return [Sample(name, (), value) for name, value in values.items()]


def looped(lag: LagMeter) -> list[Sample]:
    """What a process's event loop tells of itself."""
    return [Sample("event_loop_lag_ms", (), lag.worst_ms), Sample("tasks", (), lag.tasks)]


def circuits(breakers: Breakers) -> list[Sample]:
    """The breakers of a process."""
    found: list[Sample] = []
    for circuit in breakers.circuits():
        found.append(Sample("circuit_opened", (circuit.name,), circuit.opened))
        found.append(Sample("circuit_state", (circuit.name,), _STATES[circuit.state]))
    return found


def histograms(counters: Counters, lag: LagMeter) -> dict[str, tuple[list[int], float]]:
    named = {
        "first_byte_ms": counters.first_ms,
        "first_event_ms": counters.first_event_ms,
        "added_ms": counters.added_ms,
        "upstream_ms": counters.upstream_ms,
        "lag_ms": lag.all_ms,
    }
    return {name: _plain(histogram) for name, histogram in named.items()}


def without_gauges(numbers: Numbers) -> Numbers:
    """What stays of a process that has ended: its counters."""
    counters = {family.name for family in FAMILIES if family.kind == "counter"}
    return Numbers(tuple(one for one in numbers.samples if one.name in counters), numbers.histograms)


def exposition(processes: Sequence[Numbers]) -> bytes:
    """The sum of all processes in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Sum(processes))
    return generate_latest(registry)


class _Sum(Collector):
    def __init__(self, processes: Sequence[Numbers]) -> None:
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            yield self._family(family)
        for name, text in HISTOGRAMS.items():
            yield self._histogram(name, text)

    def _family(self, family: Family) -> Metric:
        name = f"stillhouse_{family.name}"
        made: Any = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = made(name, family.help, labels=family.labels)
        found: dict[tuple[str, ...], list[float]] = {}
        for process in self._processes:
            for sample in process.samples:
                if sample.name == family.name:
                    found.setdefault(sample.labels, []).append(sample.value)
        join = max if family.kind == "worst" else sum
        for labels, values in sorted(found.items()):
            metric.add_metric(list(labels), join(values))
        return metric  # type: ignore[no-any-return]

    def _histogram(self, name: str, text: str) -> Metric:
        parts = [process.histograms[name] for process in self._processes if name in process.histograms]
        counts = [sum(column) for column in zip(*(counts for counts, _ in parts), strict=True)]
        running, buckets = 0, []
        for bound, count in zip((*map(str, BUCKETS_MS), "+Inf"), counts, strict=False):
            running += count
            buckets.append((bound, running))
        total = sum(total for _, total in parts)
        return HistogramMetricFamily(f"stillhouse_{name}", text, buckets=buckets or [("+Inf", 0)], sum_value=total)


def _plain(histogram: Histogram) -> tuple[list[int], float]:
    return list(histogram.counts), histogram.total_ms
