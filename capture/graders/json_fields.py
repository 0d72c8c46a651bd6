"""`json_fields`: two JSON objects compared field by field, each with its weight."""

from dataclasses import dataclass

from capture.graders.grader import version_of
from capture.graders.sample import MISSING, Json, Sample, json_of, part, same
from capture.settings import GraderSettings

CODE = 1


@dataclass(frozen=True)
class JsonFields:
    """The weighted share of the reference's fields that the output has right.

    A field that the output lacks scores 0; one that the reference lacks is not judged, and when it lacks all of them
    (or is no JSON object) there is no score. An output that is no JSON object scores 0.
    """

    name: str
    settings: GraderSettings
    needs_reference: bool = True

    @property
    def version(self) -> str:
        return version_of(self.settings, CODE)

    def score(self, sample: Sample) -> float | None:
        if sample.reference is None:
            return None
        reference = json_of(sample.reference, fences=self.settings.fences)
        weights = self._weights(reference)
        total = sum(weights.values())
        if not total:
            return None
        output = json_of(sample.output, fences=self.settings.fences)
        right = (weight for field, weight in weights.items() if _agree(part(output, field), part(reference, field)))
        return min(1.0, sum(right) / total)

    def _weights(self, reference: Json) -> dict[str, float]:
        """The fields to judge, by weight: those named in the settings that the reference has, or all that it has."""
        if not isinstance(reference, dict):
            return {}
        if self.settings.fields:
            return {
                name: weight for name, weight in self.settings.fields.items() if part(reference, name) is not MISSING
            }
        return {"/" + name.replace("~", "~0").replace("/", "~1"): 1.0 for name in reference}


def _agree(output: Json, reference: Json) -> bool:
    return output is not MISSING and same(output, reference)
