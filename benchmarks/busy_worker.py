"""How late a gateway's event loop is while the worker redacts and scores all that it captures, beside a worker at rest.

Run: python -m benchmarks.busy_worker [--seconds 30] [--rate 50]. The loop's lag is looked at ten times a second by the
gateway itself; what is printed are bounds of its histogram's buckets.
"""

import argparse
import re
import tempfile
import time
import urllib.request
from bisect import bisect_left
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.launch import Ground
from benchmarks.under_load import Asked, Clients, started
from tests.fakes.processes import free_port

GRADERS = """
[tasks.triage.graders]
same = { type = "string_check", input = "{{sample.output_text}}", reference = "parcel", operation = "like" }
near = { type = "text_similarity", metric = "rouge_l", reference = "the parcel has not arrived yet" }
"""
_BUCKET = re.compile(r'^stillhouse_lag_ms_bucket{le="([^"]+)"} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Seen:
    """One stretch of load: bounds in milliseconds below which the median and 99 % of the loop's lags were."""

    lag_p50_ms: float
    lag_p99_ms: float
    asked: Asked


def busy_worker(seconds: float, rate: float, graders: str) -> Seen:
    """A stretch with the graders given; without any, the worker only ships and redacts."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stillhouse-busy-")))
        ground = Ground(folder, folder, free_port(), free_port(), free_port())
        headers = started(ground, f"sqlite:///{folder / 'data' / 'stillhouse.db'}", stack, graders)
        with Clients(ground.port, headers, rate) as clients:
            time.sleep(2)
            before = _buckets(ground.spare)
            time.sleep(seconds)
            after = _buckets(ground.spare)
        counts = [(bound, count - before.get(bound, 0)) for bound, count in sorted(after.items())]
        return Seen(_bound(counts, 0.5), _bound(counts, 0.99), clients.asked)


def _buckets(port: int) -> dict[float, float]:
    """Cumulated counts by upper bound."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        return {float(bound): float(count) for bound, count in _BUCKET.findall(reply.read().decode())}


def _bound(counts: list[tuple[float, float]], part: float) -> float:
    return counts[bisect_left([count for _, count in counts], part * counts[-1][1])][0]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy_worker", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    options = parser.parse_args()
    for name, graders in (("no graders", ""), ("graders", GRADERS)):
        seen = busy_worker(options.seconds, options.rate, graders)
        unary = sorted(seen.asked.unary_ms)
        print(
            f"{name}: loop lag p50 ≤ {seen.lag_p50_ms:g} ms, p99 ≤ {seen.lag_p99_ms:g} ms; "
            f"{seen.asked.requests} requests, {len(seen.asked.failed)} failed; "
            f"unary answers p50 {unary[len(unary) // 2]:.1f} ms, p99 {unary[int(0.99 * (len(unary) - 1))]:.1f} ms",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
