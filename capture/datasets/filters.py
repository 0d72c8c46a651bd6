"""What a dataset is made of: filters over exchanges, and the reason why one does not pass. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from capture.exchange import Arm
from capture.reviews import Review, corrected


class Relabel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose answers take the place of the targets of dataset `of`: `samples` of them a row, the best one kept."""

    of: str
    upstream: str
    model: str
    samples: int = 1
    system: str | None = None  # in place of the request's own system prompt, while it is asked


class Filters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the train split takes; None: as the task's settings say. The holdout is bound by `until` alone.

    `reviews`: all but the rejected, or only what a person accepted or corrected. `truth`: any; `agree`: where a truth
    is known, the answer has it; `required`: a truth is known and the answer has it. An answer has the truth when every
    grader against truth scores 1, or at least what `minimum_score` asks of it. Times are Unix seconds.
    """

    minimum_score: dict[str, float] | None = None
    reviews: Literal["not_rejected", "approved"] = "not_rejected"
    truth: Literal["any", "agree", "required"] = "any"
    since: float | None = None
    until: float | None = None
    fingerprints: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    arms: tuple[Literal["teacher", "fallback"], ...] = ("teacher", "fallback")
    near_duplicate: float | None = None
    minimum_rows: int | None = None
    max_rows: int | None = None
    max_holdout: int | None = None
    per_key: int | None = None
    per_user: int | None = None
    per_session: int | None = None
    per_prompt_version: int | None = None
    per_label: int | None = None
    balance: float | None = None  # no label has more rows than this many times the rarest one
    seed: int = 0
    first: tuple[str, ...] = ()  # exchanges that go before all others where caps leave some out
    misses_of: str | None = None  # the student that failed on those
    relabel: Relabel | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An exchange that might become a row: the columns of it that decide."""

    id: str
    started_at: float
    key_id: str | None
    session: str | None
    user: str | None
    fingerprint: str | None
    arm: str
    upstream: str
    served_model: str
    status: int
    complete: bool
    finish_reason: str | None
    metadata: Mapping[str, str]
    conversation: str
    content_hash: str
    label: str | None
    input_tokens: int | None
    output_tokens: int | None
    tokens_estimated: bool
    probability: float


@dataclass(frozen=True, slots=True)
class Known:
    """What has been said of a candidate."""

    review: Review | None = None
    correction: str | dict[str, Any] | None = None
    truth: Any = None
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_corrected(self) -> bool:
        """A person's review is the last word; feedback's corrections count where none was rejected or accepted."""
        return self.corrected_message is not None

    @property
    def corrected_message(self) -> dict[str, Any] | None:
        """The corrected output as an assistant's message."""
        if self.review is not None:
            return self.review.message
        return None if self.correction is None else corrected(self.correction)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a task and its surroundings ask of a row."""

    label: str | None
    """JSON pointer of the label in an answer, as in the task's settings."""
    minimum_score: Mapping[str, float]
    truth_graders: frozenset[str]
    allowed_upstreams: frozenset[str]
    """Those whose terms allow training on their answers; one that is no longer configured is not among them."""


def answered(candidate: Candidate) -> str | None:
    """None for a whole answer of the teacher's, else why it is none."""
    if not candidate.complete or candidate.status != 200:
        return "unanswered"
    return "student_answer" if candidate.arm == Arm.STUDENT else None


def reason_against(candidate: Candidate, known: Known, filters: Filters, terms: Terms) -> str | None:
    """None for a candidate of the train split that passes, else the first reason why not."""
    return _of_the_exchange(candidate, known, filters, terms) or _of_its_quality(known, filters, terms)


def _of_the_exchange(candidate: Candidate, known: Known, filters: Filters, terms: Terms) -> str | None:
    if not candidate.complete or candidate.status != 200:
        return "unanswered"
    if candidate.upstream not in terms.allowed_upstreams:
        return "terms"
    if not (filters.since or 0) <= candidate.started_at <= (filters.until or float("inf")):
        return "time"
    if filters.fingerprints and candidate.fingerprint not in filters.fingerprints:
        return "prompt_version"
    if any(candidate.metadata.get(name) != value for name, value in filters.metadata.items()):
        return "metadata"
    if candidate.arm == Arm.STUDENT:
        return None if known.is_corrected else "student_answer"
    return None if candidate.arm in filters.arms else "arm"


def _of_its_quality(known: Known, filters: Filters, terms: Terms) -> str | None:
    if known.review is not None and known.review.verdict == "reject":
        return "rejected"
    if known.is_corrected:
        return None
    if filters.reviews == "approved" and known.review is None:
        return "not_reviewed"
    if known.review is not None and known.review.verdict == "accept":
        return None
    return _of_its_scores(known, filters, terms)


def _of_its_scores(known: Known, filters: Filters, terms: Terms) -> str | None:
    for grader, lowest in terms.minimum_score.items():
        if grader not in known.scores:
            return "not_scored"
        if known.scores[grader] < lowest:
            return f"low_score:{grader}"
    if filters.truth == "required" and known.truth is None:
        return "no_truth"
    if filters.truth != "any" and known.truth is not None and not _agrees(known, terms):
        return "against_truth"
    return None


def _agrees(known: Known, terms: Terms) -> bool:
    judged = terms.truth_graders & known.scores.keys()
    return bool(judged) and all(known.scores[name] >= terms.minimum_score.get(name, 1.0) for name in judged)
