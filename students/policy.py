"""Owns what a rollout has to show before it moves, and which policies cannot be met."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

from capture.errors import RefusedError
from capture.settings import RolloutSettings
from students.assignment import FULL

SHADOW = 0.0


@dataclass(frozen=True)
class Guardrail:
    """A metric that may not get worse by more than `smallest`, over all traffic and in every slice of it."""

    metric: str
    smallest: float = 0.02
    target: float | None = None
    """Of latency and first_event in milliseconds, of cost in US dollars an answer; None: the metric has none."""


@dataclass(frozen=True)
class Policy:
    """Differences, margins and shares are fractions of 1; minimums count within each stage."""

    gates: tuple[str, ...]
    """Graders that must all be proven non-inferior, each at alpha (intersection-union: no split)."""
    shares: tuple[float, ...] = (SHADOW, 0.01, 0.05, 0.25, 0.5, FULL)
    margin: float = 0.03
    alpha: float = 0.05
    guardrails: tuple[Guardrail, ...] = ()
    minimum_pairs: int = 50
    minimum_sessions: int = 20
    minimum_hours: float = 0.0
    undecided_after_pairs: int | None = 5000
    undecided_after_hours: float | None = None
    """Past either bound a stage that is still undecided asks for a person."""
    wait_for_person_before: tuple[float, ...] = ()
    """Shares of stages that only a person may let the rollout enter."""
    most_fallbacks: float = 0.2
    """The largest part of the student's requests that the teacher may have had to answer before the next step."""
    pairs_between_false_alarms: float = 10_000
    """At least so many, on average, before the drift detector rolls back a student that is not worse than `margin`."""
    spend_cap_usd: float | None = None
    """For background calls, a day; without pairs nothing can be proven, so 0 is refused."""


def policy_of(settings: RolloutSettings, graders: Collection[str]) -> Policy:
    """The validated policy that a task's settings ask for.

    No gates named means the task's first grader. No guardrails named means the gates' own graders, so that every slice
    is watched, for harm beyond the margin: a student that was accepted as slightly worse is not rolled back for it.
    """
    gates = settings.gates or tuple(graders)[:1]
    guardrails = tuple(Guardrail(name, one.smallest, one.target) for name, one in settings.guardrails.items())
    policy = Policy(
        gates=gates,
        shares=(SHADOW, *settings.shares),
        margin=settings.margin,
        alpha=settings.alpha,
        guardrails=guardrails or tuple(Guardrail(grader, max(0.02, settings.margin)) for grader in gates),
        minimum_pairs=settings.minimum_pairs,
        minimum_sessions=settings.minimum_sessions,
        minimum_hours=settings.minimum_hours,
        undecided_after_pairs=settings.undecided_after_pairs,
        undecided_after_hours=settings.undecided_after_hours,
        most_fallbacks=settings.most_fallbacks,
        pairs_between_false_alarms=settings.pairs_between_false_alarms,
        wait_for_person_before=settings.wait_for_person_before,
        spend_cap_usd=settings.spend_cap_usd,
    )
    validate(policy, graders)
    return policy


def validate(policy: Policy, graders: Collection[str] | None = None) -> None:
    """Raise RefusedError with every reason why this policy cannot be met; `graders` are the task's own."""
    problems = [*_problems_of_numbers(policy), *_problems_of_stages(policy), *_problems_of_names(policy, graders)]
    if problems:
        raise RefusedError("this rollout policy cannot work: " + "; ".join(problems))


def _problems_of_numbers(policy: Policy) -> list[str]:
    smallest_too_large = [guard for guard in policy.guardrails if not 0 <= guard.smallest < 1]
    checks = [
        (0 < policy.margin < 1, f"margin must lie between 0 and 1, not {policy.margin:g}: equality cannot be proven"),
        (0 < policy.alpha < 1, f"alpha must lie between 0 and 1, not {policy.alpha:g}"),
        (policy.minimum_pairs >= 1, f"minimum_pairs must be at least 1, not {policy.minimum_pairs}"),
        (policy.minimum_sessions >= 1, f"minimum_sessions must be at least 1, not {policy.minimum_sessions}"),
        (policy.minimum_hours >= 0, f"minimum_hours must not be negative, not {policy.minimum_hours:g}"),
        (not smallest_too_large, f"smallest must lie in [0, 1) for {', '.join(g.metric for g in smallest_too_large)}"),
        (0 <= policy.most_fallbacks <= 1, f"most_fallbacks must lie in [0, 1], not {policy.most_fallbacks:g}"),
        (policy.pairs_between_false_alarms > 1, "pairs_between_false_alarms must be above 1"),
        (policy.spend_cap_usd is None or policy.spend_cap_usd > 0, "spend_cap_usd 0 allows no pairs: raise it"),
    ]
    return [problem for sound, problem in checks if not sound]


def _problems_of_stages(policy: Policy) -> list[str]:
    shares = policy.shares
    rising = all(before < after for before, after in pairwise(shares))
    bounds = (policy.undecided_after_pairs, policy.minimum_pairs), (policy.undecided_after_hours, policy.minimum_hours)
    strangers = [share for share in policy.wait_for_person_before if share not in shares]
    checks = [
        (bool(shares) and shares[0] == SHADOW, "the first stage must be shadow (share 0)"),
        (len(shares) > 1, "there must be a stage after shadow"),
        (rising, f"shares must rise from stage to stage, not {', '.join(f'{share:g}' for share in shares)}"),
        (all(0 <= share <= FULL for share in shares), f"shares must lie in [0, {FULL:g}]: the rest is the control"),
        (all(bound is None or bound > least for bound, least in bounds), "an undecided_after must exceed its minimum"),
        (not strangers, f"wait_for_person_before names shares that are no stage: {strangers}"),
    ]
    return [problem for sound, problem in checks if not sound]


def _problems_of_names(policy: Policy, graders: Collection[str] | None) -> list[str]:
    problems = [] if policy.gates else ["gates must name at least one grader"]
    if graders is not None:
        unknown = [name for name in policy.gates if name not in graders]
        problems += [
            f"gate {name!r} is no grader of this task (it has {', '.join(graders) or 'none'})" for name in unknown
        ]
    metrics = [guard.metric for guard in policy.guardrails]
    if len(set(policy.gates)) < len(policy.gates) or len(set(metrics)) < len(metrics):
        problems.append("a gate or a guardrail is named twice")
    return problems
