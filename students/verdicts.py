"""Owns the decision: a policy, a stage and the evidence so far make one verdict, with its reason and its sentence."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from students import sentences as say
from students.evidence import bar
from students.policy import Policy
from students.tally import Evidence, GateEvidence, GuardrailEvidence

Kind = Literal["advance", "hold", "roll_back"]


@dataclass(frozen=True)
class Verdict:
    kind: Kind
    reason: str
    """A machine's word for it, such as `undecided`."""
    sentence: str
    stage: int
    """The stage after this verdict."""
    share: float
    """The student's share after this verdict."""
    numbers: dict[str, Any]
    """The evidence behind it, JSON-ready."""


def decide(policy: Policy, stage: int, evidence: Evidence) -> Verdict:
    """What to do at `stage` (an index into `policy.shares`), by the evidence alone: the same input, the same verdict.

    Harm comes first, then what is missing, then what is undecided, then what only a person or more capacity can give.
    IndexError for a stage that the policy does not have.
    """
    for judge in (_harm, _missing, _complete, _undecided, _obstacle):
        found = judge(policy, stage, evidence)
        if found:
            kind, reason, sentence = found
            return _verdict(kind, reason, sentence, policy, stage, evidence)
    sentence = say.advanced(policy, stage + 1, evidence)
    return _verdict("advance", "proven", sentence, policy, stage + 1, evidence)


Finding = tuple[Kind, str, str] | None


def _harm(policy: Policy, stage: int, evidence: Evidence) -> Finding:
    for guard in evidence.guardrails:
        if guard.reading.proven:
            return "roll_back", "harm", say.harmed(policy, stage, guard)
    for gate in evidence.gates:
        if gate.reading and gate.reading.refuted:
            return "roll_back", "gate_refuted", say.refuted(policy, stage, gate)
    for drift in evidence.drifts:
        if drift.alarmed:
            return "roll_back", "drift", say.drifted(policy, stage, drift)
    return None


def _missing(policy: Policy, stage: int, evidence: Evidence) -> Finding:
    readings = {gate.grader: gate.reading for gate in evidence.gates}
    silent = [grader for grader in policy.gates if not (reading := readings.get(grader)) or not reading.count]
    if len(silent) == len(policy.gates):
        return _held(policy, stage, evidence, "no_evidence", say.nothing_scored(silent))
    if silent:
        return _held(policy, stage, evidence, "grader_missing", say.grader_missing(silent))
    return None


def _complete(policy: Policy, stage: int, evidence: Evidence) -> Finding:
    if stage < len(policy.shares) - 1:
        return None
    return "hold", "full", say.complete(policy, stage, evidence)


def _undecided(policy: Policy, stage: int, evidence: Evidence) -> Finding:
    wanting = say.wanting(policy, evidence)
    if wanting:
        return _held(policy, stage, evidence, "minimum_not_met", f"there are {wanting}")
    open_gates = [gate for gate in evidence.gates if gate.grader in policy.gates and not _proven(gate)]
    if open_gates:
        return _held(policy, stage, evidence, "undecided", say.gates(policy, open_gates))
    suspect = next((guard for guard in evidence.guardrails if _suspected(guard)), None)
    if suspect:
        return _held(policy, stage, evidence, "harm_suspected", say.suspected(suspect))
    return None


def _obstacle(policy: Policy, stage: int, evidence: Evidence) -> Finding:
    share = policy.shares[stage + 1]
    if evidence.fallback_rate is not None and evidence.fallback_rate > policy.most_fallbacks:
        return _held(policy, stage, evidence, "fallbacks", say.fallbacks(policy, evidence.fallback_rate))
    if evidence.capacity_share is not None and evidence.capacity_share < share:
        reason = "capacity" if evidence.capacity_share else "traffic_unknown"
        return _held(policy, stage, evidence, reason, say.capacity(share, evidence.capacity_share))
    if share in policy.wait_for_person_before and not evidence.person_agreed:
        return "hold", "waits_for_person", say.held(policy, stage, say.waits_for_person(policy, share, evidence))
    return None


def _held(policy: Policy, stage: int, evidence: Evidence, reason: str, why: str) -> Finding:
    """A hold; past the stage's bound a person has to say how it goes on."""
    if stage < len(policy.shares) - 1 and _past_bound(policy, evidence):
        return "hold", "needs_person", say.needs_person(policy, stage, why, evidence)
    return "hold", reason, say.held(policy, stage, why)


def _past_bound(policy: Policy, evidence: Evidence) -> bool:
    pairs, hours = policy.undecided_after_pairs, policy.undecided_after_hours
    too_many = pairs is not None and evidence.pairs_at_stage >= pairs
    return too_many or (hours is not None and evidence.hours_at_stage >= hours)


def _proven(gate: GateEvidence) -> bool:
    return gate.reading is not None and gate.reading.proven


def _suspected(guard: GuardrailEvidence) -> bool:
    """Half way to a proof of harm, on the scale of log wealth: too little to roll back, too much for another step."""
    return guard.reading.log_wealth >= bar(guard.alpha) / 2


def _verdict(kind: Kind, reason: str, sentence: str, policy: Policy, stage: int, evidence: Evidence) -> Verdict:
    share = 0.0 if kind == "roll_back" else policy.shares[stage]
    numbers = {"margin": policy.margin, "alpha": policy.alpha, "share": share, **asdict(evidence)}
    return Verdict(kind, reason, sentence, stage, share, numbers)
