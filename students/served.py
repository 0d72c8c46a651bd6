"""What serving is about: which student, how, and what became of its server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from students.processor import Dtype


@dataclass(frozen=True)
class ServedStudent:
    """A student that is to be served.

    `transformers serve` takes temperature and top_p of the *first* request for all that follow, so they are fixed here,
    by the warm-up; 0 is greedy. `prompts` are example conversations, in the student's view, that capacity is measured
    with: the nearer to the traffic, the better.
    """

    id: str
    folder: Path
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 64
    prompts: tuple[tuple[Mapping[str, Any], ...], ...] = ()


@dataclass(frozen=True)
class ServerState:
    """What became of a student's server. `url` ends in /v1; requests must name `served_model`."""

    student_id: str
    state: Literal["starting", "ready", "dead", "stopped"]
    url: str | None = None
    served_model: str | None = None
    pid: int | None = None
    capacity_per_s: float | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Serving:
    """How students are served; `logs` is the folder of their log files, `advertise` the host in their addresses."""

    logs: Path
    host: str = "127.0.0.1"
    advertise: str = ""
    first_port: int = 9600
    memory_mb: int = 4096
    device: str = "cpu"  # or cuda
    dtype: Dtype = "bfloat16"
    cache_tokens: int = 16_384  # prompts and answers under way, and what of prompts is remembered

    def __post_init__(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)


Report = Callable[[ServerState], None]


def device_of(devices: Path) -> str:
    """cuda where the machine shows an NVIDIA GPU, else cpu; told by its device files, without loading torch here."""
    return "cuda" if any(devices.glob("nvidia[0-9]*")) else "cpu"
