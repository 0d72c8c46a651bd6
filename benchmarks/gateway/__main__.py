"""`python -m benchmarks.gateway`: builds the peers, measures each in every round, writes a table and two plots."""

import argparse
import datetime
import os
import platform
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.gateway import picture, report
from benchmarks.gateway.environments import AbsentError
from benchmarks.gateway.launch import Ground
from benchmarks.gateway.measures import Bench, Measured
from benchmarks.gateway.ours import NAME, ROOT
from benchmarks.gateway.peers import PEERS, Peer
from benchmarks.gateway.processes import NotReadyError, Running
from benchmarks.gateway.report import Results
from tests.fakes.processes import free_port


def main() -> int:
    options = _parser().parse_args()
    if options.draw:
        _write(msgspec.json.decode(options.draw.read_bytes(), type=Results), options.out)
        return 0
    wanted = [peer for peer in PEERS if not options.peers or peer.name.lower() in options.peers.lower().split(",")]
    versions, absent = _install(wanted, options.cache.resolve())
    measured: list[Measured] = []
    for number in range(1, options.rounds + 1):
        for peer in wanted:
            if peer.name in absent:
                continue
            try:
                measured.append(_measure(peer, number, options))
            except (NotReadyError, AbsentError) as error:
                absent[peer.name] = str(error)
                _say(f"{peer.name}: absent: {error}")
    kept = [one for one in measured if one.peer not in absent]
    does = {peer.name: peer.does for peer in wanted}
    command = shlex.join(["python", "-m", "benchmarks.gateway", *sys.argv[1:]])
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    _write(Results(_machine(), today, command, versions, does, absent, kept), options.out)
    return 0 if kept else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of each load; a peer has five a round")
    parser.add_argument("--peers", default="", help="names, separated by commas; all of them without")
    parser.add_argument("--cache", type=Path, default=ROOT / "data" / "peers", help="the peers' environments")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="write table and plots of an earlier run anew")
    return parser


def _install(peers: list[Peer], cache: Path) -> tuple[dict[str, str], dict[str, str]]:
    """(versions, reasons why some are absent)."""
    versions: dict[str, str] = {}
    absent: dict[str, str] = {}
    cache.mkdir(parents=True, exist_ok=True)
    for peer in peers:
        try:
            versions[peer.name] = peer.install(cache)
            _say(f"{peer.name}: {versions[peer.name]}")
        except AbsentError as error:
            absent[peer.name] = str(error)
            _say(f"{peer.name}: absent: {error}")
    return versions, absent


def _measure(peer: Peer, number: int, options: argparse.Namespace) -> Measured:
    folder = Path(tempfile.mkdtemp(prefix="stillhouse-bench-"))
    upstream_port = free_port()
    ground = Ground(options.cache.resolve(), folder, free_port(), free_port(), upstream_port)
    serving = [sys.executable, "-m", "benchmarks.gateway.upstream", str(upstream_port)]
    upstream_folder = folder / "upstream"
    upstream_folder.mkdir()
    try:
        with Running(serving, {"PYTHONPATH": str(ROOT)}, upstream_folder) as upstream:
            upstream.wait_ready(upstream_port, ())
            launch = peer.launch(ground)
            with Running(launch.command, launch.environment, folder) as running:
                running.wait_ready(ground.port, launch.headers)
                bench = Bench(running, upstream, ground.port, upstream_port, launch.headers, options.seconds)
                found = bench.measure(peer.name, number)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _say(
        f"round {number} {peer.name}: {found.unary_us:.1f} µs a request, {found.stream_us:.0f} µs a stream, "
        f"added {found.added_p50_ms:.2f} ms p50, {found.added_p99_ms:.2f} ms p99, {found.errors} errors"
    )
    return found


def _write(results: Results, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "gateway.json").write_bytes(msgspec.json.encode(results) + b"\n")
    (out / "gateway.md").write_text(report.markdown(results), encoding="utf-8")
    (out / "gateway-cpu.svg").write_text(picture.cpu_bars(results, NAME), encoding="utf-8")
    (out / "gateway-memory.svg").write_text(picture.memory_lines(results, NAME), encoding="utf-8")
    _say(f"written: {out}/gateway.md, gateway.json, gateway-cpu.svg, gateway-memory.svg")


def _machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores ({cpu}), Linux {platform.release()}, Python {platform.python_version()}"


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
