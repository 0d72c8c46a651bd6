"""Owns what an evaluation is asked for beside its students: which others are examined, on which rows, and how."""

import hashlib
from typing import Any

import msgspec

from capture.datasets import Filters


class Contender(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model at an upstream of the file, with a system prompt of its own; None: the request's is left as it is."""

    upstream: str
    model: str
    system: str | None = None

    @property
    def key(self) -> str:
        """Under what its answers are kept."""
        prompt = "" if self.system is None else f":{hashlib.sha256(self.system.encode()).hexdigest()[:16]}"
        return f"model:{self.upstream}/{self.model}{prompt}"

    @property
    def name(self) -> str:
        return f"{self.upstream}/{self.model}" + ("" if self.system is None else ", own system prompt")


class Referee(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model that judges answers head to head."""

    upstream: str
    model: str


class Replay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Captured traffic as exam rows: what passes the filters, at most `rows` of it, drawn evenly."""

    filters: Filters = Filters()
    rows: int = 200


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One evaluation's wishes.

    `with_base`: the untuned bases of the students; `bases`: bases by name, with or without a student. `few_shot`: so
    many training rows in a base's prompt (a rival to beat). `twice`: the teacher is asked again even where no grader
    needs it. `temporal`: only rows newer than every student's training rows. `leave_out`: rows that overlap with
    training rows are left out and counted, instead of refusing the holdout. `base_rows`: at most so many rows for
    bases. `few_shot` and `base_rows` None: the task's settings.
    """

    with_base: bool = True
    bases: tuple[str, ...] = ()
    few_shot: int | None = None
    base_rows: int | None = None
    greedy: bool = False
    twice: bool = False
    models: tuple[Contender, ...] = ()
    referee: Referee | None = None
    replay: Replay | None = None
    temporal: bool = False
    leave_out: bool = False


def asked_of(evaluation: Any) -> Asked:
    """What a row of evaluations asks for."""
    return msgspec.convert(evaluation.asked, Asked)


def kept_under(evaluation: Any) -> str:
    """The `dataset_id` that its answers are kept under: replayed traffic has no dataset."""
    return str(evaluation.dataset_id or f"replay:{evaluation.task}")
