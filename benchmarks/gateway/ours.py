"""Stillhouse as the figures ask for it: capture, keys, a matched task, metrics; OpenTelemetry off; one process."""

import importlib.metadata
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gateway.launch import KEY, Ground, Launch
from benchmarks.gateway.messages import MODEL
from capture.db import open_store
from capture.keys import create
from capture.migrations import upgrade

NAME = "Stillhouse"
ROOT = Path(__file__).parents[2]
_CONFIG = """
[gateway]
keys = "required"
[upstreams.bench]
base_url = "http://127.0.0.1:{upstream}/v1"
auth = "key"
api_key_env = "BENCH_KEY"
[tasks.triage]
match = {{ model = "{model}" }}
teacher = {{ upstream = "bench", model = "{model}" }}
"""


def version() -> str:
    """The package's, with the commit where there is one."""
    number = importlib.metadata.version("stillhouse")
    ran = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return f"{number} ({ran.stdout.strip()})" if ran.returncode == 0 else number


def launch(ground: Ground, store_url: str = "") -> Launch:
    """A store with one key (in the data folder, where none is named), and one gateway process.

    No worker: its cost is not the gateway's.
    """
    config = ground.write("stillhouse.toml", _CONFIG.format(upstream=ground.upstream, model=MODEL))
    data = ground.folder / "data"
    token = _key(data, store_url or f"sqlite:///{data / 'stillhouse.db'}")
    here = ["--port", str(ground.port), "--metrics-port", str(ground.spare), "--workers", "1"]
    command = [sys.executable, "-m", "gateway", "--config", str(config), "--data", str(data), *here]
    environment = {"PYTHONPATH": str(ROOT), "BENCH_KEY": KEY}
    return Launch(command, environment, (f"authorization: Bearer {token}",))


def _key(data: Path, store_url: str) -> str:
    data.mkdir(parents=True, exist_ok=True)
    store = open_store(store_url)
    try:
        upgrade(store)
        token, _ = create(store, data, "bench", [], None, time.time)
    finally:
        store.close()
    return token
