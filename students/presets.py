"""Owns what a rollout is guarded by when its settings name nothing: sensible guardrails by kind of task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capture.errors import RefusedError
from capture.graders.registry import make_grader
from capture.settings import GraderSettings, GuardrailSettings, RolloutSettings, TaskSettings
from students.comparison import Judge

ERRORS = "errors"
"""By assignment: was the client answered without an error?"""
FALLBACKS = "fallbacks"
"""By assignment: did whoever was assigned answer?"""
LATENCY = "latency"
"""By assignment: was the whole answer there, without an error, within the target (milliseconds)?"""
FIRST_EVENT = "first_event"
"""The same of the first content (of what is no stream, the first byte)."""
COST = "cost"
"""By assignment: what an answer cost, as a part of the target (US dollars), cut at the whole of it."""
FEEDBACK = "feedback"
"""By assignment: scores that people gave without naming what they score. Named ones are metrics of their own."""
LIVE = (ERRORS, FALLBACKS, LATENCY, FIRST_EVENT, COST)

BUILT_IN = {
    "refusals": "refusal",
    "schema": "json_schema",
    "truncations": "truncation",
    "empty_answers": "empty",
    "repetitions": "repetition",
}
"""Metrics of pairs that need no grader of the task's own → the grader that they are scored by."""

BY_KIND = {
    "classification": ("refusals",),
    "extraction": ("schema", "refusals"),
    "text": ("refusals", "truncations", "repetitions"),
    "tools": ("schema", "refusals", "empty_answers"),
}

LEAST_SMALLEST = 0.02
MOST_FALLING_BACK = 0.5
LATE_MORE = 0.2
DEARER = 0.1
WORSE_FEEDBACK = 0.05
PACE_FACTOR, PACE_FLOOR_MS = 1.5, 2000.0
"""Late is what takes longer than so many times the teacher's p95, and than the floor: the design's deadline."""
COST_FACTOR = 2.0


@dataclass(frozen=True)
class Pace:
    """The teacher as it was before the rollout: p95 in milliseconds, mean cost in US dollars; None: not known."""

    first_ms: float | None = None
    duration_ms: float | None = None
    cost_usd: float | None = None


def guardrails_of(
    kind: str, settings: RolloutSettings, gates: Sequence[str], pace: Pace
) -> dict[str, GuardrailSettings]:
    """The settings' own guardrails, or what suits the kind of task; with every target written out.

    Gates are guarded for harm beyond the margin: a student that was accepted as slightly worse is not rolled back for
    it. Raises RefusedError for a guardrail that needs a target and has none, where none can be taken from the teacher.
    """
    if settings.guardrails:
        targets = {name: _with_target(name, one, settings, pace) for name, one in settings.guardrails.items()}
        for name, one in targets.items():
            if name in (LATENCY, FIRST_EVENT, COST) and one.target is None:
                raise RefusedError(f"guardrails.{name} needs a target: the teacher's own is not known yet")
        return targets
    usual = _usual(kind, settings, gates)
    targets = {name: _with_target(name, one, settings, pace) for name, one in usual.items()}
    return {name: one for name, one in targets.items() if name not in (FIRST_EVENT, COST) or one.target is not None}


def _usual(kind: str, settings: RolloutSettings, gates: Sequence[str]) -> dict[str, GuardrailSettings]:
    smallest = {gate: max(LEAST_SMALLEST, settings.margin) for gate in gates}
    smallest |= {ERRORS: LEAST_SMALLEST, **dict.fromkeys(BY_KIND[kind], LEAST_SMALLEST)}
    smallest |= {FALLBACKS: MOST_FALLING_BACK, FIRST_EVENT: LATE_MORE, COST: DEARER, FEEDBACK: WORSE_FEEDBACK}
    return {name: GuardrailSettings(smallest=size) for name, size in smallest.items()}


def _with_target(name: str, one: GuardrailSettings, settings: RolloutSettings, pace: Pace) -> GuardrailSettings:
    if one.target is not None:
        return one
    targets = {
        LATENCY: _late(pace.duration_ms),
        FIRST_EVENT: settings.deadline_s * 1000 if settings.deadline_s else _late(pace.first_ms),
        COST: pace.cost_usd * COST_FACTOR if pace.cost_usd else None,
    }
    return one.model_copy(update={"target": targets.get(name)})


def _late(p95_ms: float | None) -> float | None:
    return None if p95_ms is None else max(PACE_FLOOR_MS, PACE_FACTOR * p95_ms)


def built_in_judges(task: TaskSettings, names: Sequence[str]) -> list[Judge]:
    """Judges for the named metrics that are built in, but for those that a grader of the task has the name of."""
    wanted = [name for name in dict.fromkeys(names) if name in BUILT_IN and name not in task.graders]
    made: Mapping[str, GraderSettings] = {
        name: GraderSettings.model_validate({"type": BUILT_IN[name]}) for name in wanted
    }
    return [Judge(make_grader(name, settings), settings.against) for name, settings in made.items()]
