"""Owns the tests of one rollout: feeds them pair by pair, keeps their order of appearance, and reads them off."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from students.drift import Drift
from students.evidence import Harm, MeanTest, NonInferiority, Reading, guardrail_alpha
from students.policy import Guardrail, Policy
from students.unpaired import TwoSample

EVERYWHERE = ""
MOST_SLICES = 200
"""Per metric. A key with ever new values is no slice, and alpha is spent on each one that appears."""


@dataclass(frozen=True)
class GateEvidence:
    """One gate's test; no reading when its grader is missing or has never scored a pair."""

    grader: str
    reading: Reading | None


@dataclass(frozen=True)
class GuardrailEvidence:
    """One harm test: of a metric over all traffic (slice "") or in one slice, as "language=de"."""

    metric: str
    slice: str
    smallest: float
    alpha: float
    """Its own share of alpha, by its order of appearance."""
    reading: Reading
    unpaired: bool = False
    """Compared by assignment, value against value, since this stage began."""


@dataclass(frozen=True)
class DriftEvidence:
    """What a gate's detector remembers of the last pairs, and whether it has raised the alarm."""

    grader: str
    smallest: float
    run_length: float
    recent_mean: float
    alarmed: bool


@dataclass(frozen=True)
class Evidence:
    """All that a decision looks at. Gates and paired guardrails carry over from stage to stage; the counts do not."""

    gates: tuple[GateEvidence, ...]
    guardrails: tuple[GuardrailEvidence, ...] = ()
    drifts: tuple[DriftEvidence, ...] = ()
    pairs_at_stage: int = 0
    sessions_at_stage: int = 0
    hours_at_stage: float = 0.0
    fallback_rate: float | None = None
    """The part of the student's requests at this stage that the teacher had to answer; None: there were none."""
    capacity_share: float | None = None
    """The largest share that the student was measured to carry; None: not measured, and no limit; 0: not known."""
    person_agreed: bool = False
    """A person has let the rollout enter the next stage."""
    untested: int = 0
    """Pairs in slices beyond MOST_SLICES a metric: these are not tested."""
    attempt: int = 1
    """The how-manieth student in a row this is for the task: trying often makes a false proof likelier."""


class Tally:
    """The tests of one rollout. `floor` is the smallest probability that a pair of it may be sampled with.

    Slices beyond MOST_SLICES a metric are not tested; `untested` counts their pairs.
    """

    def __init__(self, policy: Policy, floor: float = 1.0) -> None:
        self.policy, self.floor = policy, floor
        self._targets = {guard.metric: guard.target for guard in policy.guardrails}
        self.pairs_at_stage = 0
        self.appeared = 0
        """How many harm tests have appeared so far; unpaired ones appear anew at each stage."""
        self.untested = 0
        self._gates: dict[str, NonInferiority] = {}
        self._drifts: dict[str, Drift] = {}
        self._paired: dict[tuple[str, str], Harm] = {}
        self._unpaired: dict[tuple[str, str], TwoSample] = {}

    def add_pair(self, differences: Mapping[str, float], slices: Mapping[str, str], probability: float = 1.0) -> None:
        """Count one pair: differences in [-1, 1] by grader, and the slices it lies in, as {"language": "de"}."""
        self.pairs_at_stage += 1
        for grader in self.policy.gates:
            if grader in differences:
                self._open(grader)
                self._gates[grader].update(differences[grader], probability)
                self._drifts[grader].update(differences[grader], probability)
        for guard in self.policy.guardrails:
            if guard.metric in differences:
                for place in (EVERYWHERE, *sorted(f"{name}={value}" for name, value in slices.items())):
                    self._add_difference(guard, place, differences[guard.metric], probability)

    def _open(self, grader: str) -> None:
        if grader not in self._gates:
            policy = self.policy
            self._gates[grader] = NonInferiority(policy.margin, policy.alpha, self.floor)
            self._drifts[grader] = Drift(policy.margin, policy.pairs_between_false_alarms, self.floor)

    def _add_difference(self, guard: Guardrail, place: str, difference: float, probability: float) -> None:
        key = guard.metric, place
        if key not in self._paired:
            if sum(metric == guard.metric for metric, _ in self._paired) > MOST_SLICES:
                self.untested += 1
                return
            self._paired[key] = self._next_harm(guard, self.floor)
        self._paired[key].update(difference, probability)

    def add_value(self, metric: str, student: bool, value: float) -> None:
        """Count one unpaired value in [0, 1] (1 is good) of a request that was assigned to the student, or else not.

        All have to be sampled alike: see students/unpaired.py. A metric without a guardrail is not tested.
        """
        guard = next((guard for guard in self.policy.guardrails if guard.metric == metric), None)
        if guard is None:
            return
        key = metric, EVERYWHERE
        if key not in self._unpaired:
            self._unpaired[key] = TwoSample(self._next_harm(guard, floor=1.0))
        self._unpaired[key].update(student, value)

    def target(self, metric: str) -> float | None:
        """The target of a guardrail; None where it has none, or the policy has no such guardrail."""
        return self._targets.get(metric)

    def _next_harm(self, guard: Guardrail, floor: float) -> Harm:
        self.appeared += 1
        return Harm(guard.smallest, guardrail_alpha(self.policy.alpha, self.appeared), floor)

    def enter_stage(self) -> None:
        """Begin a stage: pairs carry over; what is compared by assignment starts anew, since the shares change."""
        self.pairs_at_stage = 0
        self._unpaired = {}

    def evidence(self) -> Evidence:
        """What the tests say; sessions, hours, fallbacks and the rest are the caller's (`dataclasses.replace`)."""
        gates = tuple(
            GateEvidence(grader, self._gates[grader].reading() if grader in self._gates else None)
            for grader in self.policy.gates
        )
        paired = [_guardrail(key, test, unpaired=False) for key, test in self._paired.items()]
        unpaired = [_guardrail(key, compared.test, unpaired=True) for key, compared in self._unpaired.items()]
        drifts = tuple(
            DriftEvidence(grader, drift.smallest, drift.run_length, drift.recent_mean, drift.alarmed)
            for grader, drift in self._drifts.items()
        )
        return Evidence(gates, (*paired, *unpaired), drifts, pairs_at_stage=self.pairs_at_stage, untested=self.untested)

    def to_state(self) -> dict[str, Any]:
        """JSON-ready; `from_state` goes on identically."""
        return {
            "floor": self.floor,
            "pairs_at_stage": self.pairs_at_stage,
            "appeared": self.appeared,
            "untested": self.untested,
            "gates": {grader: test.to_state() for grader, test in self._gates.items()},
            "drifts": {grader: drift.to_state() for grader, drift in self._drifts.items()},
            "paired": [[*key, test.to_state()] for key, test in self._paired.items()],
            "unpaired": [[*key, compared.to_state()] for key, compared in self._unpaired.items()],
        }

    @classmethod
    def from_state(cls, policy: Policy, state: Mapping[str, Any]) -> Self:
        """Go on from a state written under the same policy."""
        tally = cls(policy, state["floor"])
        tally.pairs_at_stage, tally.appeared = state["pairs_at_stage"], state["appeared"]
        tally.untested = state["untested"]
        tally._gates = {grader: NonInferiority.from_state(test) for grader, test in state["gates"].items()}
        tally._drifts = {grader: Drift.from_state(drift) for grader, drift in state["drifts"].items()}
        tally._paired = {(metric, place): Harm.from_state(test) for metric, place, test in state["paired"]}
        tally._unpaired = {
            (metric, place): TwoSample.from_state(kept, Harm) for metric, place, kept in state["unpaired"]
        }
        return tally


def _guardrail(key: tuple[str, str], test: MeanTest, unpaired: bool) -> GuardrailEvidence:
    return GuardrailEvidence(*key, -test.threshold, test.alpha, test.reading(), unpaired)


def floor_of(state: Mapping[str, Any]) -> float:
    """The smallest probability of a pair that was promised when the rollout with this `evidence` began."""
    return float(state["tally"]["floor"] if "tally" in state else state.get("floor", 1.0))
