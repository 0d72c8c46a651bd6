"""Owns what an evaluation says: scores and differences with intervals, slices, confusion, latency, worst answers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from students.intervals import difference_interval, mean_interval, sign_test

SEED = 7
WORST = 20
SHOWN_CHARACTERS = 2000
LEAST_IN_SLICE = 3
UNLABELLED = "(none)"
OTHERS = "(other)"
MOST_LABELS = 30

Role = Literal["teacher", "base", "student", "greedy", "few_shot", "model"]
"""`greedy`: a student without chance in its sampling; `few_shot`: a base with examples in its prompt; `model`: another
model at an upstream."""

Standing = Literal["reaches", "misses", "open"]


class Figure(msgspec.Struct, frozen=True):
    """A mean over n rows and its 95 % interval. `p`: of a paired binary difference, the exact sign test's."""

    n: int
    mean: float
    low: float
    high: float
    p: float | None = None


class Worst(msgspec.Struct, frozen=True):
    """One row that this arm got worse than the teacher did."""

    exchange_id: str
    difference: float
    grader: str
    output: str
    teacher: str
    reference: str | None


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One arm on the holdout. `differences` are student − teacher, row by row; the teacher itself has none.

    `slices`: slice name → value → grader → difference, or → score for the teacher. `confusion`: reference label → label
    that the arm gave → rows.
    """

    student_id: str
    name: str
    role: Role
    rows: int
    errors: int
    scores: dict[str, Figure]
    differences: dict[str, Figure]
    slices: dict[str, dict[str, dict[str, Figure]]]
    confusion: dict[str, dict[str, int]]
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    cost_usd: float | None
    worst: list[Worst]
    versus: dict[str, dict[str, Figure]] = {}
    """Other arm's id → grader → this arm's score − that one's, over the rows that both were examined on."""


class HeadToHead(msgspec.Struct, frozen=True, kw_only=True):
    """One arm's answers beside the teacher's, judged in both orders. A win counts 1, a tie ½; `rate` is their mean.

    `contradictions` are ties in which the place in the question decided; `unclear` rows got no verdict and count
    nowhere.
    """

    student_id: str
    name: str
    referee: str
    wins: int
    ties: int
    losses: int
    contradictions: int
    unclear: int
    rate: Figure | None


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """What a student has to reach: on every gate at most `margin` below the teacher; and each arm's standing, by id."""

    gates: list[str]
    margin: float
    standings: dict[str, Standing]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation.

    `looks` counts how often this holdout was looked at, this time included; 0 for replayed traffic, which has no
    dataset. `agreement`: the teacher's second answers scored against its first, by grader.
    """

    dataset_id: str | None
    dataset_hash: str | None
    rows: int
    rows_with_truth: int
    graders: dict[str, str]  # grader → what it compares with: truth, teacher or nothing
    arms: list[Arm]
    looks: int
    notes: list[str]
    agreement: dict[str, Figure] = {}
    bar: Bar | None = None
    head_to_head: list[HeadToHead] = []


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the holdout as one arm answered it, with both sides' scores."""

    exchange_id: str
    conversation: str
    slices: dict[str, str]
    scores: dict[str, float]
    differences: dict[str, float]
    error: str | None = None
    duration_ms: float | None = None
    cost_usd: float | None = None
    output: str = ""
    teacher: str = ""
    reference: str | None = None
    label: str | None = None
    true_label: str | None = None


def summarise(student_id: str, name: str, role: Role, answered: Sequence[Answered]) -> Arm:
    """All figures of one arm; the same rows, the same figures (the bootstrap's seed is fixed)."""
    times = [row.duration_ms for row in answered if row.duration_ms is not None and row.error is None]
    costs = [row.cost_usd for row in answered]
    return Arm(
        student_id=student_id,
        name=name,
        role=role,
        rows=len(answered),
        errors=sum(row.error is not None for row in answered),
        scores=_scores(answered),
        differences=_differences(answered),
        slices=_slices(answered, role),
        confusion=confusion(answered),
        latency_p50_ms=float(np.quantile(times, 0.5)) if times else None,
        latency_p95_ms=float(np.quantile(times, 0.95)) if times else None,
        cost_usd=None if None in costs else float(sum(cost for cost in costs if cost is not None)),
        worst=_worst(answered),
    )


def _scores(answered: Sequence[Answered]) -> dict[str, Figure]:
    return {grader: _figure(answered, grader, "scores") for grader in _names(row.scores for row in answered)}


def _differences(answered: Sequence[Answered]) -> dict[str, Figure]:
    return {grader: _figure(answered, grader, "differences") for grader in _names(row.differences for row in answered)}


def _figure(answered: Sequence[Answered], grader: str, kind: Literal["scores", "differences"]) -> Figure:
    rows = [(getattr(row, kind)[grader], row.conversation) for row in answered if grader in getattr(row, kind)]
    values, clusters = [value for value, _ in rows], [cluster for _, cluster in rows]
    return mean_figure(values, clusters) if kind == "scores" else difference_figure(values, clusters)


def mean_figure(values: Sequence[float], clusters: Sequence[str]) -> Figure:
    """Of scores in [0, 1], at least one."""
    low, high = mean_interval(values, clusters, SEED)
    return Figure(len(values), float(np.mean(values)), low, high)


def difference_figure(values: Sequence[float], clusters: Sequence[str]) -> Figure:
    """Of paired differences in [-1, 1], at least one."""
    low, high = difference_interval(values, clusters, SEED)
    return Figure(len(values), float(np.mean(values)), low, high, sign_test(values))


def versus(own: Sequence[Answered], other: Sequence[Answered]) -> dict[str, Figure]:
    """Grader → own score − the other's, over the rows and graders that both have."""
    theirs = {row.exchange_id: row for row in other}
    differences: dict[str, list[tuple[float, str]]] = {}
    for row in own:
        beside = theirs.get(row.exchange_id)
        for grader, score in row.scores.items():
            if beside is not None and grader in beside.scores:
                differences.setdefault(grader, []).append((score - beside.scores[grader], row.conversation))
    return {
        grader: difference_figure([value for value, _ in found], [cluster for _, cluster in found])
        for grader, found in differences.items()
    }


def _slices(answered: Sequence[Answered], role: Role) -> dict[str, dict[str, dict[str, Figure]]]:
    """Slices with very few rows are left out: their intervals say nothing."""
    members: dict[tuple[str, str], list[Answered]] = {}
    for row in answered:
        for place in row.slices.items():
            members.setdefault(place, []).append(row)
    figures = _scores if role == "teacher" else _differences
    found: dict[str, dict[str, dict[str, Figure]]] = {}
    for (name, value), rows in sorted(members.items()):
        if len(rows) >= LEAST_IN_SLICE:
            found.setdefault(name, {})[value] = figures(rows)
    return found


def confusion(answered: Iterable[Answered]) -> dict[str, dict[str, int]]:
    """Reference label → given label → rows; labels beyond the most frequent ones are put together."""
    labelled = [row for row in answered if row.true_label is not None]
    frequent = Counter(str(row.true_label) for row in labelled).most_common(MOST_LABELS)
    kept = {label for label, _ in frequent}
    table: dict[str, dict[str, int]] = {}
    for row in labelled:
        given = UNLABELLED if row.label is None else row.label if row.label in kept else OTHERS
        true = str(row.true_label) if row.true_label in kept else OTHERS
        line = table.setdefault(true, {})
        line[given] = line.get(given, 0) + 1
    return table


def _worst(answered: Sequence[Answered]) -> list[Worst]:
    losses = [
        (difference, grader, row)
        for row in answered
        for grader, difference in row.differences.items()
        if difference < 0
    ]
    losses.sort(key=lambda loss: (loss[0], loss[2].exchange_id))
    return [
        Worst(
            exchange_id=row.exchange_id,
            difference=difference,
            grader=grader,
            output=(row.error or row.output)[:SHOWN_CHARACTERS],
            teacher=row.teacher[:SHOWN_CHARACTERS],
            reference=None if row.reference is None else row.reference[:SHOWN_CHARACTERS],
        )
        for difference, grader, row in losses[:WORST]
    ]


def _names(scores: Iterable[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for one in scores for name in one))
