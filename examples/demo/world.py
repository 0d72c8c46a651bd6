"""What the demo plays: whose traffic, which teacher, which student, and the sizes that fit it into its time."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from examples import tickets
from examples.demo.folder import FIRST_LINE
from examples.tickets import Ticket


@dataclass(frozen=True)
class Ports:
    """On loopback."""

    gateway: int = 8080
    metrics: int = 9464
    console: int = 8501
    teacher: int = 9001
    students: int = 9600


@dataclass(frozen=True)
class Teacher:
    """The large model. `command` starts the stand-in; None: a real one at `base_url`, its key in `key_env`."""

    model: str
    base_url: str
    command: tuple[str, ...] | None = None
    key_env: str = "DEMO_TEACHER_KEY"


@dataclass(frozen=True)
class World:
    """Counts are tickets or pairs; shares and scores fractions of 1."""

    stream: Callable[[int, int, int], Iterator[Ticket]]  # (seed, count, start)
    messages: Callable[[Ticket], list[dict[str, str]]]
    response_format: dict[str, Any]
    teacher: Callable[[Ports], Teacher]
    training: str  # the keys of [tasks.triage.training]
    rollout: str  # the keys of [tasks.triage.rollout]
    collected: int = 720
    holdout: float = 0.1
    seed: int = 1
    at_once: int = 12
    per_s: float = 5.0  # while the rollout is on, unless the student cannot carry as much
    load: float = 0.75  # of the student's measured capacity, at most: student, teacher and app share the machine
    beats_base_by: float = 0.3
    spoilt_strength: float = 0.2  # what is left of the adapter in the second act


def stand_in(ports: Ports) -> Teacher:
    command = (sys.executable, "-m", "examples.teacher", "--port", str(ports.teacher))
    return Teacher("stand-in-large", f"http://127.0.0.1:{ports.teacher}/v1", command)


TICKETS = World(
    stream=tickets.tickets,
    messages=tickets.messages,
    response_format=tickets.RESPONSE_FORMAT,
    teacher=stand_in,
    training='base = "smollm2-135m-instruct"\nepochs = 1.4\nlayers = 24\nbatch_size = 4\nlearning_rate = 2e-3',
    rollout="shares = [0.1, 0.5, 0.95]\nmargin = 0.15\nalpha = 0.05\nminimum_pairs = 30\nminimum_sessions = 20\n"
    "watch_share = 1.0\ndeadline_s = 20",
)


def config(world: World, ports: Ports) -> str:
    """The demo's stillhouse.toml."""
    teacher = world.teacher(ports)
    return f"""\
{FIRST_LINE}
[gateway]
port = {ports.gateway}
metrics_port = {ports.metrics}
default_upstream = "teacher"

[console]
port = {ports.console}

[students]
first_port = {ports.students}

[upstreams.teacher]
base_url = "{teacher.base_url}"
auth = "forward"
worker_key_env = "{teacher.key_env}"
training_allowed = true

[tasks.triage]
kind = "extraction"
match = {{ model = "{teacher.model}", metadata = {{ app = "ticket-triage" }} }}
teacher = {{ upstream = "teacher", model = "{teacher.model}" }}
label = "/category"

[tasks.triage.graders.category]
type = "json_fields"
against = "truth"
fields = {{ category = 1.0 }}

[tasks.triage.graders.priority]
type = "json_fields"
against = "truth"
fields = {{ priority = 1.0 }}

[tasks.triage.graders.summary]
type = "text_similarity"
against = "teacher"
field = "/summary"

[tasks.triage.dataset]
holdout = {world.holdout}
minimum_score = {{ category = 1.0, priority = 1.0 }}

[tasks.triage.view]
max_tokens = 64

[tasks.triage.evaluation]
base_rows = 16

[tasks.triage.training]
{world.training}

[tasks.triage.rollout]
gates = ["category"]
{world.rollout}

# US dollars per million tokens. The student runs on this machine: no provider charges for it.
[prices."ft:*:triage:*"]
input = 0.0
output = 0.0
{_MADE_UP_PRICE.format(model=teacher.model) if teacher.command else ""}"""


_MADE_UP_PRICE = """
# Made up, as the stand-in is, so that the ledger has something to count.
[prices."{model}"]
input = 2.0
output = 8.0
"""
