"""The results as a table: medians over the rounds, and each figure's ratio to HAProxy's of the same round."""

from statistics import median

import msgspec

from benchmarks.gateway.measures import Measured

LIMIT = "HAProxy"
_LATENCIES = ("added_p50_ms", "added_p99_ms", "first_p50_ms", "first_p99_ms")
_OF_STREAMS = ("stream_us", "first_p50_ms", "first_p99_ms")
FAILED = "failed"


class Results(msgspec.Struct, frozen=True):
    """Everything that a run found; written as JSON beside the table."""

    machine: str
    date: str
    command: str
    versions: dict[str, str]
    does: dict[str, str]
    absent: dict[str, str]  # peer -> reason
    measured: list[Measured]

    @property
    def peers(self) -> list[str]:
        """Those measured, in their order."""
        return list(dict.fromkeys(one.peer for one in self.measured))

    def of(self, peer: str) -> list[Measured]:
        return [one for one in self.measured if one.peer == peer]


def figure(results: Results, peer: str, name: str) -> float:
    """The median over the rounds."""
    return float(median(getattr(one, name) for one in results.of(peer)))


def ratio(results: Results, peer: str, name: str) -> float | None:
    """The median of the ratios to HAProxy's figure of the same round; None without HAProxy."""
    limits = {one.round: getattr(one, name) for one in results.of(LIMIT)}
    found = [getattr(one, name) / limits[one.round] for one in results.of(peer) if limits.get(one.round)]
    return median(found) if found else None


def failed(results: Results, peer: str, name: str) -> bool:
    """Whether a figure of streams says nothing, since as many requests failed as there were streams in every round."""
    return name in _OF_STREAMS and all(one.errors >= one.streams for one in results.of(peer))


def markdown(results: Results) -> str:
    lines = [
        "# The gateway beside its peers",
        "",
        f"Measured {results.date} on {results.machine}, in one run: `{results.command}`. How:",
        "[README.md](README.md). Each figure is the median over the rounds; × the ratio to HAProxy's of that round.",
        "",
        "![CPU a request and a stream](gateway-cpu.svg)",
        "",
        "| peer | version | does | CPU a request, µs | × | CPU a 50-event stream, µs | × | requests/s |",
        "|---|---|---|---:|---:|---:|---:|---:|",
        *(_cpu_row(results, peer) for peer in results.peers),
        *(f"| {peer} | – | – | absent: {reason} | | | | |" for peer, reason in results.absent.items()),
        "",
        "Added latency, in ms, over the bare upstream at the same rate (at most 1,000 requests, 100 streams a second,",
        "and at most what takes the peer half a core); memory summed over its processes, in MB.",
        "",
        "| peer | at requests/s | p50 | p99 | first event p50 | p99 | memory at first | at the end | errors |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(_latency_row(results, peer) for peer in results.peers),
        "",
        "![Memory over time](gateway-memory.svg)",
        "",
        _instruments(results),
        "",
    ]
    return "\n".join(lines)


def _cpu_row(results: Results, peer: str) -> str:
    unary = f"{figure(results, peer, 'unary_us'):,.1f} | {_times(ratio(results, peer, 'unary_us'))}"
    stream = f"{figure(results, peer, 'stream_us'):,.0f} | {_times(ratio(results, peer, 'stream_us'))}"
    if failed(results, peer, "stream_us"):
        stream = f"{FAILED} | –"
    told = f"| {peer} | {results.versions[peer]} | {results.does[peer]} | {unary} | {stream} "
    return f"{told}| {figure(results, peer, 'requests_per_s'):,.0f} |"


def _latency_row(results: Results, peer: str) -> str:
    latencies = [FAILED if failed(results, peer, name) else f"{figure(results, peer, name):.2f}" for name in _LATENCIES]
    memory = [(one.memory[0][1], one.memory[-1][1]) for one in results.of(peer) if one.memory]
    first, last = (median(column) for column in zip(*memory, strict=True)) if memory else (0.0, 0.0)
    told = " | ".join(latencies)
    errors = sum(one.errors for one in results.of(peer))
    return f"| {peer} | {figure(results, peer, 'rate'):,.0f} | {told} | {first:,.0f} | {last:,.0f} | {errors} |"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _instruments(results: Results) -> str:
    if not results.measured:
        return "No peer was measured."
    load = min(one.load_us for one in results.measured)
    upstream = min(one.upstream_us for one in results.measured)
    return f"The instruments themselves, a request: load generator {load:.0f} µs, upstream {upstream:.0f} µs."
