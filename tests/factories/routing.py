"""Settings, snapshots and routers to route by, without a store."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from capture.keys import Key
from capture.settings import Settings, ViewSettings, load
from gateway.arms import Arms
from gateway.auth import Gate
from gateway.breaker import Breakers
from gateway.capacity import Capacity
from gateway.limits import Limiter
from gateway.plan import RequestHead
from gateway.routing import Router
from gateway.snapshot import LiveRollout, LiveStudent, Snapshot, from_file
from gateway.tally import Tally
from gateway.upstreams import server_endpoint
from gateway.usage import UsagePages
from students.heavy_keys import HeavyKeys
from students.view import StudentFacts
from tests.factories.clock import Clock

NOW = 1_780_000_000.0
PEPPER = b"p" * 32
VIEW = ViewSettings()

CONFIG = """
[gateway]
default_upstream = "openai"

[upstreams.openai]
base_url = "https://api.example.com/v1"
models = ["gpt-*"]

[upstreams.azure]
base_url = "https://res.example.net/openai"
kind = "azure"
api_version = "2024-10-21"
auth = "key"
api_key_env = "AZURE_KEY"
models = ["az-*"]

[upstreams.local]
base_url = "http://127.0.0.1:9001/v1"
auth = "key"
api_key_env = "LOCAL_KEY"

[tasks.triage]
match = { metadata = { app = "triage" } }
teacher = { upstream = "openai", model = "gpt-4.1" }

[tasks.extract]
match = { headers = { x-app = "extract" } }
teacher = { upstream = "local", model = "big" }
"""
SECRETS = {"azure": "azure-secret", "local": "local-secret"}


def settings_of(folder: Path, config: str = CONFIG, **environ: str) -> Settings:
    """Settings from a file's text, with the data folder under `folder`."""
    file = folder / "stillhouse.toml"
    file.write_text(config)
    return load(file, environ, data=folder / "data")


class Fixed:
    """A snapshot that nobody refreshes."""

    def __init__(self, current: Snapshot) -> None:
        self.current = current


class Time(Clock):
    """The clock of these snapshots."""

    def __init__(self, now: float = NOW) -> None:
        super().__init__(now)


def student_of(**overrides: Any) -> LiveStudent:
    facts = overrides.pop("facts", None) or StudentFacts(frozenset({"*"}), False, overrides.pop("view", VIEW))
    known: dict[str, Any] = {
        "id": "st_1",
        "name": "ft:small:triage:1",
        "task": "triage",
        "served_model": "served-small",
        "facts": facts,
        "endpoint": server_endpoint("ft:small:triage:1", "http://127.0.0.1:9600/v1"),
        "capacity_per_s": None,
        "registered": False,
    }
    return LiveStudent(**known | overrides)


def rollout_of(student: LiveStudent | None = None, **overrides: Any) -> LiveRollout:
    known: dict[str, Any] = {"id": "ro_1", "task": "triage", "state": "running", "share": 0.95, "deadline_s": None}
    return LiveRollout(student=student or student_of(), **known | overrides)


def with_rollouts(snapshot: Snapshot, *rollouts: LiveRollout, ticked_at: float = NOW) -> Snapshot:
    students = {rollout.student.name: rollout.student for rollout in rollouts}
    by_task = {rollout.task: [one for one in rollouts if one.task == rollout.task] for rollout in rollouts}
    return replace(snapshot, students=students, rollouts=by_task, ticked_at=ticked_at)


def router_of(
    snapshot: Snapshot,
    *,
    keys: dict[str, Key] | None = None,
    clock: Time | None = None,
    processes: int = 1,
    breakers: Breakers | None = None,
    tally: Tally | None = None,
) -> Router:
    """A router over one snapshot; with `keys` (by digest) they are required."""
    clock = clock or Time()
    if keys is not None:
        snapshot = replace(snapshot, keys=keys)
    gate = Gate("off" if keys is None else "required", PEPPER)
    breakers = breakers or Breakers({}, clock)
    arms = Arms(Capacity(processes, clock), HeavyKeys(), tally or Tally(), breakers)
    return Router(Fixed(snapshot), gate, Limiter(UsagePages(), clock), arms, breakers, clock)


def snapshot_of(settings: Settings) -> Snapshot:
    return from_file(settings, SECRETS)


def head_of(target: str = "/v1/chat/completions", method: str = "POST", **headers: str) -> RequestHead:
    """`x_app="a"` becomes the header `x-app: a`."""
    pairs = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return RequestHead(method, target, pairs)
