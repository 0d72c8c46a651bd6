"""`string_check`: OpenAI's `eq`, `ne`, `like` (contains) and `ilike` (contains in any case), on texts as they are."""

from collections.abc import Callable
from dataclasses import dataclass

from capture.graders.grader import version_of
from capture.graders.sample import Sample
from capture.graders.text_similarity import Compared, compared_of
from capture.settings import GraderSettings

CODE = 1

OPERATIONS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda output, reference: output == reference,
    "ne": lambda output, reference: output != reference,
    "like": lambda output, reference: reference in output,
    "ilike": lambda output, reference: reference.casefold() in output.casefold(),
}


@dataclass(frozen=True)
class StringCheck:
    """1 where the operation holds, else 0. `field`: 0 where the output lacks it, no score where the reference does."""

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
        return self.compared.measured(sample, OPERATIONS[self.settings.operation])


def make_string_check(name: str, settings: GraderSettings) -> StringCheck:
    return StringCheck(name, settings, compared_of(name, settings))
