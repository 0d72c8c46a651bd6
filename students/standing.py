"""Owns what the controller remembers of one rollout between two ticks: its tests, and this stage's counts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from students.observing import UNKNOWN, Mark, Measure
from students.policy import Policy
from students.presets import COST, ERRORS, FALLBACKS, FIRST_EVENT, LATENCY
from students.rate import TrafficRate, carried, rate_of
from students.slices import UNPROVEN
from students.tally import Evidence, Tally, floor_of
from students.unpaired import is_drawn

MOST_PROMPTS = 20
"""New prompt versions that are proven at a time; a further one takes the place of the one with the fewest pairs."""
MOST_SPOKEN = 2_000
"""Sessions whose scores are remembered, so that none is heard twice."""
LONGEST_TICK_S = 60.0
"""What one tick may add to a stage's hours: neither a controller that was silent nor a clock that jumped adds more."""


@dataclass(frozen=True)
class Pair:
    """One scored pair, as far as the tests look at it."""

    session: str
    differences: Mapping[str, float]
    slices: Mapping[str, str]
    probability: float = 1.0
    """With which its exchange was kept; the part of them that is paired is common to all, and cancels."""


@dataclass(frozen=True)
class Score:
    """What somebody said of a live answer: in [0, 1], of a request that was assigned to the student, or else not."""

    student: bool
    value: float
    probability: float = 1.0
    """With which the exchange was kept; `luck`: see students/unpaired.py."""
    luck: float = 0.0
    speaker: str = ""
    """The session and day that it is of: it is heard once. Empty: heard each time."""


@dataclass
class Standing:
    """Mutable; made from the rollout's stored state at each tick and written back in the tick's own transaction."""

    tally: Tally
    stage: int = 0
    attempt: int = 1
    sessions: list[str] = field(default_factory=list)
    """Hashes of the sessions seen at this stage, up to the policy's minimum: beyond it nothing asks how many."""
    assigned: float = 0.0
    fallbacks: float = 0.0
    """Of the student's requests at this stage, those that were not kept counted in."""
    prompts: dict[str, Tally] = field(default_factory=dict)
    """By fingerprint: the gates over pairs of a prompt version that the student was not proven on yet."""
    rate: TrafficRate = field(default_factory=TrafficRate)
    """Of eligible requests, those that were not kept counted in."""
    seen_at: float = 0.0
    seconds: float = 0.0
    """How long the controller has watched this stage, as its ticks show: the clock's jumps do not count."""
    agreed: int | None = None
    """The stage at which a person let the rollout enter the next one."""
    said_until: list[Any] | None = None
    """Time (Unix seconds) and id until which people's scores were looked for."""
    spoken: list[str] = field(default_factory=list)
    """Hashes of the last metrics and sessions that scores were heard of at this stage."""

    def enter(self, stage: int) -> None:
        """Begin a stage: pairs carry over, counts and what is compared by assignment start anew."""
        self.stage = stage
        self.sessions, self.spoken, self.assigned, self.fallbacks, self.seconds = [], [], 0.0, 0.0, 0.0
        self.tally.enter_stage()

    def add_pair(self, pair: Pair) -> None:
        """Count a pair, weighted by its probability, floored by what was promised at the start: see evidence.py."""
        if UNPROVEN in pair.slices:
            self._add_unproven(pair)
            return
        self.tally.add_pair(pair.differences, pair.slices, self._probability(pair))
        digest = _hashed(pair.session)
        if len(self.sessions) < self.tally.policy.minimum_sessions and digest not in self.sessions:
            self.sessions.append(digest)

    def _add_unproven(self, pair: Pair) -> None:
        """A new prompt version is proven by itself: it says nothing of the traffic that the rollout is about."""
        fingerprint = pair.slices.get("prompt", "")
        if fingerprint not in self.prompts:
            if len(self.prompts) >= MOST_PROMPTS:
                del self.prompts[min(self.prompts, key=lambda one: self.prompts[one].pairs_at_stage)]
            self.prompts[fingerprint] = Tally(replace(self.tally.policy, guardrails=()), self.tally.floor)
        self.prompts[fingerprint].add_pair(pair.differences, {}, self._probability(pair))

    def _probability(self, pair: Pair) -> float:
        return min(1.0, max(pair.probability, self.tally.floor))

    def take_proven_prompts(self) -> list[str]:
        """Fingerprints whose every gate is proven over the policy's minimums; they are forgotten here."""
        proven = [fingerprint for fingerprint, tally in self.prompts.items() if _is_proven(tally)]
        for fingerprint in proven:
            del self.prompts[fingerprint]
        return proven

    def add_marks(self, marks: str, now: float, measures: Sequence[Measure] = ()) -> None:
        """Count live exchanges by assignment, in their order; `measures` are theirs, where they are known.

        For totals each stands for as many as the probability says that it was kept with (Horvitz and Thompson); the
        two arms are compared by an even sample of their sessions: see students/unpaired.py. One user's flood, thinned
        out below what was promised, is traffic to be carried, and no more than others' when fallbacks are counted.
        """
        all_of_them, steady = 0.0, 0.0
        for number, mark in enumerate(map(Mark, marks)):
            measure = measures[number] if measures else UNKNOWN
            all_of_them += 1.0 / measure.probability
            stands_for = 1.0 / max(measure.probability, self.tally.floor)
            steady += stands_for
            self.assigned += mark.student * stands_for
            self.fallbacks += mark.fallback * stands_for
            if measure.compared:
                for metric, value in self._values(mark, measure):
                    self.tally.add_value(metric, mark.student, value)
        self.rate.add(all_of_them, self.pass_time(now), now, steady)

    def _values(self, mark: Mark, measure: Measure) -> list[tuple[str, float]]:
        """What one exchange says, each in [0, 1] and 1 the best; one that failed was not in time."""
        found = [(ERRORS, float(mark.good)), (FALLBACKS, float(not mark.fallback))]
        for metric, taken in ((FIRST_EVENT, measure.first_ms), (LATENCY, measure.duration_ms)):
            target = self.tally.target(metric)
            if target is not None and (taken is not None or not mark.good):
                found.append((metric, float(mark.good and taken is not None and taken <= target)))
        most = self.tally.target(COST)
        if most is not None and measure.cost_usd is not None:
            found.append((COST, 1.0 - min(1.0, measure.cost_usd / most)))
        return found

    def add_score(self, metric: str, score: Score) -> None:
        """Count a score that somebody gave a live answer, by assignment; the first of its session and day."""
        if not is_drawn(score.luck, score.probability, self.tally.floor):
            return
        digest = _hashed(f"{metric}\0{score.speaker}")
        if score.speaker and digest in self.spoken:
            return
        self.spoken = [*self.spoken, digest][-MOST_SPOKEN:] if score.speaker else self.spoken
        self.tally.add_value(metric, score.student, score.value)

    def pass_time(self, now: float) -> float:
        """Let the stage's hours go on to `now` (Unix seconds); how many seconds have passed since the last time."""
        elapsed_s = max(0.0, now - self.seen_at) if self.seen_at else 0.0
        self.seconds += min(elapsed_s, LONGEST_TICK_S)
        self.seen_at = now
        return elapsed_s

    def evidence(
        self, hours_at_stage: float, capacity_per_s: float | None, beside_per_s: float | None = None
    ) -> Evidence:
        """All that a decision looks at. `beside_per_s`: the traffic as the task's other rollouts have seen it."""
        rates = [rate for rate in (self.rate.per_s, beside_per_s) if rate is not None]
        return replace(
            self.tally.evidence(),
            sessions_at_stage=len(self.sessions),
            hours_at_stage=max(0.0, hours_at_stage),
            fallback_rate=self.fallbacks / self.assigned if self.assigned else None,
            capacity_share=carried(capacity_per_s, max(rates, default=None)),
            person_agreed=self.agreed == self.stage,
            attempt=self.attempt,
        )

    def to_state(self) -> dict[str, Any]:
        """JSON-ready; `standing_of` goes on identically."""
        kept = {name: getattr(self, name) for name in _KEPT}
        prompts = {fingerprint: tally.to_state() for fingerprint, tally in self.prompts.items()}
        return {"tally": self.tally.to_state(), "prompts": prompts, "rate": self.rate.to_state(), **kept}


_KEPT = (
    "stage",
    "attempt",
    "sessions",
    "assigned",
    "fallbacks",
    "seen_at",
    "seconds",
    "agreed",
    "said_until",
    "spoken",
)


def standing_of(policy: Policy, state: Mapping[str, Any]) -> Standing:
    """The standing from a rollout's `evidence`; a rollout that was just started has little more than its attempt."""
    tally = Tally.from_state(policy, state["tally"]) if "tally" in state else Tally(policy, floor_of(state))
    gates_only = replace(policy, guardrails=())
    prompts = {key: Tally.from_state(gates_only, kept) for key, kept in state.get("prompts", {}).items()}
    kept = {name: state[name] for name in _KEPT if name in state}
    return Standing(tally, prompts=prompts, rate=rate_of(state), **kept)


def _is_proven(tally: Tally) -> bool:
    evidence = tally.evidence()
    least = max(tally.policy.minimum_pairs, tally.policy.minimum_sessions)  # a session has one pair a day
    enough = evidence.pairs_at_stage >= least
    return enough and all(gate.reading is not None and gate.reading.proven for gate in evidence.gates)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
