"""Owns what verdicts say to a person: a sentence each, with differences in points and shares in percent."""

from collections.abc import Collection, Iterable, Sequence

from students.assignment import FULL
from students.evidence import Reading
from students.policy import SHADOW, Guardrail, Policy
from students.presets import BUILT_IN, FEEDBACK, LIVE
from students.tally import DriftEvidence, Evidence, GateEvidence, GuardrailEvidence

MINUS = "\N{MINUS SIGN}"


def percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def points(difference: float) -> str:
    """A difference in percentage points, signed: +1.2, −6.3, 0.0."""
    text = f"{abs(difference) * 100:.1f}"
    if text == "0.0":
        return text
    return f"{MINUS if difference < 0 else '+'}{text}"


def stage_name(share: float) -> str:
    if share == SHADOW:
        return "shadow"
    return f"full traffic ({percent(share)})" if share >= FULL else percent(share)


def _size(difference: float) -> str:
    count = f"{abs(difference) * 100:.3g}"
    return f"{count} point" if count == "1" else f"{count} points"


def _measured(reading: Reading, alpha: float) -> str:
    bounds = [f"difference {points(reading.mean)}"]
    if reading.low > -1.0:
        bounds.append(f"at least {points(reading.low)}")
    if reading.high < 1.0:
        bounds.append(f"at most {points(reading.high)}")
    return f"({', '.join(bounds)}, {_counted(reading.count, 'pair')}, α {alpha:.2g})"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def gates(policy: Policy, found: Iterable[GateEvidence]) -> str:
    return "; ".join(_gate(policy, gate.grader, gate.reading) for gate in found if gate.reading)


def _gate(policy: Policy, grader: str, reading: Reading) -> str:
    claim = f"{grader} is at most {_size(policy.margin)} worse than the teacher"
    if not reading.proven:
        return f"it is not yet proven that {claim} {_measured(reading, policy.alpha)}"
    bounds = f"difference {points(reading.mean)}, at least {points(reading.low)}"
    return f"{claim} ({bounds}, {_counted(reading.count, 'pair')}, α {policy.alpha:.2g})"


def advanced(policy: Policy, stage: int, evidence: Evidence) -> str:
    sentence = f"Advanced to {stage_name(policy.shares[stage])}: {gates(policy, evidence.gates)}."
    if evidence.attempt > 1:
        risk = min(1.0, evidence.attempt * policy.alpha)
        sentence += (
            f" This is attempt {evidence.attempt} for this task: the chance that one of them passed wrongly"
            f" is up to {percent(risk)}."
        )
    return sentence


def harmed(policy: Policy, stage: int, guard: GuardrailEvidence) -> str:
    claim = f"{_place(guard)} is more than {_size(guard.smallest)} worse than the teacher"
    return f"Rolled back from {stage_name(policy.shares[stage])}: {claim} {_measured(guard.reading, guard.alpha)}."


def refuted(policy: Policy, stage: int, gate: GateEvidence) -> str:
    claim = f"{gate.grader} is more than {_size(policy.margin)} worse than the teacher"
    measured = _measured(gate.reading, policy.alpha) if gate.reading else ""
    return f"Rolled back from {stage_name(policy.shares[stage])}: {claim} {measured}."


def drifted(policy: Policy, stage: int, drift: DriftEvidence) -> str:
    claim = f"lately {drift.grader} has been more than {_size(drift.smallest)} worse than the teacher"
    measured = f"difference {points(drift.recent_mean)}, no false alarm in {drift.run_length:,g} pairs on average"
    return f"Rolled back from {stage_name(policy.shares[stage])}: {claim} ({measured})."


def held(policy: Policy, stage: int, why: str) -> str:
    return f"Held at {stage_name(policy.shares[stage])}: {why}."


def needs_person(policy: Policy, stage: int, why: str, evidence: Evidence) -> str:
    after = f"{_counted(evidence.pairs_at_stage, 'pair')} and {evidence.hours_at_stage:.3g} hours at this stage"
    return f"Paused at {stage_name(policy.shares[stage])}, a person has to decide: after {after}, {why}."


def complete(policy: Policy, stage: int, evidence: Evidence) -> str:
    where = stage_name(policy.shares[stage])
    return f"At {where}, the last stage; {_watch(policy.pairs_between_false_alarms)}. {gates(policy, evidence.gates)}."


def nothing_scored(graders: list[str]) -> str:
    return f"no pair has been scored yet by {_listed(graders)}"


def grader_missing(graders: list[str]) -> str:
    return f"{_listed(graders)} {'has' if len(graders) == 1 else 'have'} scored no pair, and every gate must be proven"


def suspected(guard: GuardrailEvidence) -> str:
    claim = f"{_place(guard)} may be more than {_size(guard.smallest)} worse than the teacher"
    return f"{claim} {_measured(guard.reading, guard.alpha)}"


def fallbacks(policy: Policy, rate: float) -> str:
    most = percent(policy.most_fallbacks)
    return f"the teacher had to answer {percent(rate)} of the student's requests, and at most {most} may be"


def capacity(share: float, capacity_share: float) -> str:
    if not capacity_share:
        return "how much traffic there is cannot be said yet, so neither that the student can carry more of it"
    return f"the student was measured to carry {percent(capacity_share)} of the traffic, not {percent(share)}"


def waits_for_person(policy: Policy, share: float, evidence: Evidence) -> str:
    return f"a person has to let it enter {stage_name(share)}; {gates(policy, evidence.gates)}"


def wanting(policy: Policy, evidence: Evidence) -> str:
    """Which minimums of the stage are not met, as "23 of 60 pairs and 4 of 20 sessions"; empty when all are."""
    counts = [
        (evidence.pairs_at_stage, policy.minimum_pairs, "pairs"),
        (evidence.sessions_at_stage, policy.minimum_sessions, "sessions"),
        (round(evidence.hours_at_stage, 2), policy.minimum_hours, "hours"),
    ]
    return _listed([f"{have:,g} of {least:,g} {noun}" for have, least, noun in counts if have < least])


def policy_words(policy: Policy, graders: Collection[str] = ()) -> list[str]:
    """A policy as a person may read it before a rollout starts, one sentence each.

    `graders`: the task's, where they are known; what is named and is none of them is said to be.
    """
    claims = _listed([f"{gate} is at most {_size(policy.margin)} worse than the teacher" for gate in policy.gates])
    least = [f"{policy.minimum_pairs:,} pairs", f"{policy.minimum_sessions:,} sessions"]
    least += [f"{policy.minimum_hours:g} hours"] if policy.minimum_hours else []
    bounds = [f"{policy.undecided_after_pairs:,} pairs"] if policy.undecided_after_pairs is not None else []
    bounds += [f"{policy.undecided_after_hours:g} hours"] if policy.undecided_after_hours is not None else []
    rails = [f"{_guarded(guard)} by more than {_size(guard.smallest)}" for guard in policy.guardrails]
    said = [
        f"Goes {' → '.join(stage_name(share) for share in policy.shares)}.",
        f"Each step needs the proof (α {policy.alpha:.2g}) that {claims}, and {_listed(least)} at the stage it leaves.",
        f"It is held while more than {percent(policy.most_fallbacks)} of the student's requests fall back.",
    ]
    worse = "Rolled back as soon as worse than the teacher everywhere, or in a slice of its pairs"
    said += [f"{worse}: {_listed(rails)}."] if rails else []
    known = {*graders, *BUILT_IN, *LIVE, FEEDBACK}
    posted = _listed([guard.metric for guard in policy.guardrails if graders and guard.metric not in known])
    said += [f"The task has no grader {posted}: scores posted to /feedback by that name count."] if posted else []
    said += [f"A person is asked where a stage is undecided after {' or '.join(bounds)}."] if bounds else []
    waits = _listed([percent(share) for share in policy.wait_for_person_before])
    said += [f"A person has to resume it before it enters {waits}."] if waits else []
    said += [f"{_watch(policy.pairs_between_false_alarms)[0].upper()}{_watch(policy.pairs_between_false_alarms)[1:]}."]
    return said


def _watch(run_length: float) -> str:
    return f"a drift detector watches, with no false alarm in {run_length:,g} pairs on average"


def _guarded(guard: Guardrail) -> str:
    if guard.target is None:
        return guard.metric
    target = f"{guard.target:.3g} US dollars an answer" if guard.metric == "cost" else f"{guard.target:,.0f} ms"
    return f"{guard.metric} ({target})"


def _place(guard: GuardrailEvidence) -> str:
    return f"{guard.metric} in {guard.slice}" if guard.slice else guard.metric


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
