"""`text_similarity`: how like the reference's the output's text is, whole or one part of its JSON."""

from collections.abc import Callable
from dataclasses import dataclass

from capture.graders.grader import version_of
from capture.graders.sample import MISSING, Json, Sample, json_of, part, text_of
from capture.graders.similarity import METRICS
from capture.settings import GraderSettings

CODE = 1


@dataclass(frozen=True)
class TextSimilarity:
    """The metric's value. With `field`: 0 where the output lacks it, no score where the reference does."""

    name: str
    settings: GraderSettings
    needs_reference: bool = True

    @property
    def version(self) -> str:
        return version_of(self.settings, CODE)

    def score(self, sample: Sample) -> float | None:
        return measured(sample, self.settings, METRICS[self.settings.metric])


def measured(sample: Sample, settings: GraderSettings, measure: Callable[[str, str], float]) -> float | None:
    """`measure(output, reference)` as texts; 0 where the output lacks the field, None without a reference."""
    if sample.reference is None:
        return None
    reference, output = _compared(sample, settings)
    if reference is MISSING:
        return None
    if output is MISSING:
        return 0.0
    return float(measure(text_of(output), text_of(reference)))


def _compared(sample: Sample, settings: GraderSettings) -> tuple[Json, Json]:
    """What is to be compared: reference and output, whole or the part that `field` names; MISSING where it is not."""
    if settings.field is None:
        return sample.reference, sample.output
    reference, output = (json_of(side, fences=settings.fences) for side in (sample.reference, sample.output))
    return part(reference, settings.field), part(output, settings.field)
