"""`multi`: several graders' scores brought together by a formula."""

from collections.abc import Mapping
from dataclasses import dataclass

from capture.errors import ConfigError
from capture.graders.formula import Formula
from capture.graders.grader import Grader, version_of
from capture.graders.sample import Sample
from capture.settings import GraderSettings

CODE = 1


@dataclass(frozen=True)
class Multi:
    """The formula's value, brought into [0, 1]; no score where a part has none or the formula has no value."""

    name: str
    settings: GraderSettings
    parts: Mapping[str, Grader]
    formula: Formula

    @property
    def version(self) -> str:
        return version_of(self.settings, CODE)

    @property
    def needs_reference(self) -> bool:
        return any(part.needs_reference for part in self.parts.values())

    def score(self, sample: Sample) -> float | None:
        scores: dict[str, float] = {}
        for name in sorted(self.formula.names, key=lambda name: self.settings.graders[name].is_judge):
            value = self.parts[name].score(sample)
            if value is None:
                return None
            scores[name] = value
        found = self.formula.value(scores)
        return None if found is None else min(1.0, max(0.0, found))


def make_multi(name: str, settings: GraderSettings, parts: Mapping[str, Grader]) -> Multi:
    """Raises ConfigError for a formula that is none, or that names no part."""
    try:
        formula = Formula(settings.calculate_output or "")
    except ValueError as error:
        raise ConfigError(f"grader {name!r}: calculate_output: {error}") from error
    if unknown := sorted(formula.names - parts.keys()):
        raise ConfigError(f"grader {name!r}: calculate_output names {unknown[0]!r}; its graders are {', '.join(parts)}")
    if not formula.names:
        raise ConfigError(f"grader {name!r}: calculate_output names none of its graders")
    return Multi(name, settings, parts, formula)
