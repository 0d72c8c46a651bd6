"""`python`: a score by code of the task's own, in a process of its own, where the settings allow that."""

from dataclasses import dataclass

from capture.graders.grader import version_of
from capture.graders.means import Means
from capture.graders.render import names_of
from capture.graders.sample import Sample
from capture.settings import GraderSettings

CODE = 1


@dataclass(frozen=True)
class PythonGrader:
    """What `grade(sample, item)` returns, brought into [0, 1]; no score where it fails, or where none may run."""

    name: str
    settings: GraderSettings
    means: Means

    @property
    def version(self) -> str:
        return version_of(self.settings, CODE)

    @property
    def needs_reference(self) -> bool:
        """Whether the code speaks of a reference at all."""
        return "reference" in (self.settings.source or "")

    def score(self, sample: Sample) -> float | None:
        if self.means.python is None or (self.needs_reference and sample.reference is None):
            return None
        value = self.means.python.grade(self.settings.source or "", *names_of(sample))
        return None if value is None else min(1.0, max(0.0, value))
