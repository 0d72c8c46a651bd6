"""Graders that compare with nothing: an output that refuses, breaks off, is empty or repeats itself scores 0."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from capture.exchange import Answer
from capture.graders.grader import version_of
from capture.graders.sample import Sample, message_of, normal, text_of
from capture.graders.similarity import ngrams, words
from capture.prompts import last_user_text
from capture.settings import GraderSettings
from capture.strata import language_of

CODE = 1

_REFUSAL = re.compile(
    r"\b(i['’]?m sorry,? but|i am sorry,? but|i (?:can(?:no|['’])t|am (?:not able|unable) to|won['’]t) "
    r"(?:help|assist|comply|provide|do that|fulfil)|as an ai\b|"
    r"es tut mir leid,? aber|ich kann (?:ihnen|dir|dabei|das) (?:leider )?nicht|"
    r"je suis désolée?,? mais|lo siento,? pero)"
)
_REFUSAL_WITHIN = 200  # characters: refusals open with it, answers may quote it later
_REPEATED_WORDS = 4
_REPEATED_SHARE = 0.5


def refuses(sample: Sample) -> bool:
    """The model declined: its message says so in its own field, or opens with a usual formula."""
    message = message_of(sample.output)
    return bool(message.get("refusal")) or bool(_REFUSAL.search(normal(text_of(sample.output))[:_REFUSAL_WITHIN]))


def breaks_off(sample: Sample) -> bool:
    """The answer was cut by a length limit or a filter."""
    return isinstance(sample.output, Answer) and sample.output.finish_reason in ("length", "content_filter")


def is_empty(sample: Sample) -> bool:
    """Neither text nor a tool call."""
    return not text_of(sample.output).strip() and not message_of(sample.output).get("tool_calls")


def repeats(sample: Sample) -> bool:
    """Over half of its runs of four words are repetitions of an earlier one."""
    runs = ngrams(words(text_of(sample.output)), _REPEATED_WORDS)
    return runs.total() > _REPEATED_WORDS and 1 - len(runs) / runs.total() > _REPEATED_SHARE


def in_a_language(sample: Sample, allowed: tuple[str, ...]) -> float | None:
    """Whether the answer is in one of these languages, or in the question's; None where either cannot be told."""
    said = language_of(text_of(sample.output))
    asked = language_of(last_user_text(sample.request))
    wanted = allowed or ((asked,) if asked else ())
    return float(said in wanted) if said and wanted else None


FAULTS: dict[str, Callable[[Sample], bool]] = {
    "refusal": refuses,
    "truncation": breaks_off,
    "empty": is_empty,
    "repetition": repeats,
}


@dataclass(frozen=True)
class Heuristic:
    """1 where the output has not the fault that the type names, 0 where it has; of `language`: is in a wrong one."""

    name: str
    settings: GraderSettings
    needs_reference: bool = False

    @property
    def version(self) -> str:
        return version_of(self.settings, CODE)

    def score(self, sample: Sample) -> float | None:
        if self.settings.type == "language":
            return in_a_language(sample, self.settings.languages)
        return float(not FAULTS[self.settings.type](sample))
