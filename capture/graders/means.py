"""What graders work by that are no pure functions of a sample: a judge that is asked, a process that runs Python."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from capture.settings import GraderSettings


@dataclass(frozen=True)
class Question:
    """One question to a judge. `input_hash`: of what is judged, the same whenever the same is asked.

    `read` makes a score in [0, 1] of the judge's JSON, or None of nonsense.
    """

    grader: str
    version: str
    input_hash: str
    settings: GraderSettings
    messages: tuple[Mapping[str, str], ...]
    shape: Mapping[str, Any]
    read: Callable[[Any], float | None]


class Judges(Protocol):
    def verdict(self, question: Question) -> float | None:
        """A score in [0, 1], or None where the judge says nothing that can be understood.

        Raises JudgeAwayError while it cannot be asked: no key, no answer, a cap that is reached.
        """


class Python(Protocol):
    def grade(self, source: str, sample: Mapping[str, Any], item: Mapping[str, Any]) -> float | None:
        """What the source's `grade(sample, item)` says, None where it failed or was stopped. Thread-safe."""


@dataclass(frozen=True)
class Means:
    """None: graders that need it give no score."""

    judges: Judges | None = None
    python: Python | None = field(default=None)
