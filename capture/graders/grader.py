"""What a grader is: a name, a version that changes with what it would say, and a score in [0, 1] or none."""

import hashlib
import json
from typing import Protocol

from capture.graders.sample import Sample
from capture.settings import GraderSettings


class Grader(Protocol):
    """A pure function from a sample to a score, which is None where the sample gives nothing to judge by."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def needs_reference(self) -> bool: ...

    def score(self, sample: Sample) -> float | None: ...


def version_of(settings: GraderSettings, code: int) -> str:
    """16 hexadecimal digits over the settings that were chosen and the version of the code that obeys them."""
    chosen = settings.model_dump(mode="json", exclude_defaults=True)
    canonical = json.dumps([code, chosen], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
