"""`text_similarity`: how like the reference's the output's text is: whole, one part of its JSON, or by templates."""

from collections.abc import Callable
from dataclasses import dataclass

from capture.errors import ConfigError
from capture.graders.grader import version_of
from capture.graders.render import Template
from capture.graders.sample import MISSING, Json, Sample, json_of, part, text_of
from capture.graders.similarity import METRICS
from capture.settings import GraderSettings

CODE = 1


@dataclass(frozen=True)
class Compared:
    """Two texts of a sample: what is graded, and what it is compared with."""

    settings: GraderSettings
    input: Template | None
    reference: Template | None

    @property
    def needs_reference(self) -> bool:
        templates = (self.input, self.reference)
        return self.reference is None or any(one.needs_reference for one in templates if one)

    def measured(self, sample: Sample, measure: Callable[[str, str], float]) -> float | None:
        """`measure(output, reference)`, passed or not where there is a threshold; 0 where the output lacks the part.

        None where the reference lacks it, or is not there.
        """
        if self.needs_reference and sample.reference is None:
            return None
        reference = _filled(self.reference, sample) if self.reference else _part(sample.reference, self.settings)
        output = _filled(self.input, sample) if self.input else _part(sample.output, self.settings)
        if reference is MISSING:
            return None
        value = 0.0 if output is MISSING else float(measure(text_of(output), text_of(reference)))
        return value if self.settings.pass_threshold is None else float(value >= self.settings.pass_threshold)


def compared_of(name: str, settings: GraderSettings) -> Compared:
    """Raises ConfigError for templates that nothing can fill."""
    if not isinstance(settings.input, str | None):
        raise ConfigError(f"grader {name!r}: of type {settings.type}, its input is one text, not messages")
    try:
        made = [None if one is None else Template.of(one) for one in (settings.input, settings.reference)]
    except ValueError as error:
        raise ConfigError(f"grader {name!r}: {error}") from error
    return Compared(settings, made[0], made[1])


@dataclass(frozen=True)
class TextSimilarity:
    """The metric's value."""

    name: str
    settings: GraderSettings
    compared: Compared

    @property
    def version(self) -> str:
        return version_of(self.settings, CODE)

    @property
    def needs_reference(self) -> bool:
        return self.compared.needs_reference

    def score(self, sample: Sample) -> float | None:
        return self.compared.measured(sample, METRICS[self.settings.metric])


def make_text_similarity(name: str, settings: GraderSettings) -> TextSimilarity:
    return TextSimilarity(name, settings, compared_of(name, settings))


def _part(side: Json, settings: GraderSettings) -> Json:
    """A side whole, or the part that `field` names; MISSING where it is not."""
    return side if settings.field is None else part(json_of(side, fences=settings.fences), settings.field)


def _filled(template: Template, sample: Sample) -> Json:
    return MISSING if template.missing(sample) else template.fill(sample)
