"""Owns the playing of traffic through the functions that decide live: many runs at once, the same verdicts."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from students.assignment import position
from students.drift import Drift, alarms
from students.evidence import Floats, Harm, MeanTest, NonInferiority, Paths, Reading, guardrail_alpha, paths
from students.policy import Policy
from students.rollouts import NEEDS_PERSON
from students.tally import EVERYWHERE, DriftEvidence, Evidence, GateEvidence, GuardrailEvidence
from students.verdicts import Verdict, decide

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Traffic:
    """Some runs of the same length; what goes wrong differs from run to run."""

    session: NDArray[np.int64]
    """Of each request, [requests]."""
    student_bad: Bools
    """Whether the student answers it wrongly, [runs, requests]."""
    taken: NDArray[np.int64]
    """The requests that become pairs, in the order in which their evidence arrives, [pairs]."""
    arrives: Floats
    """How many requests have been made when each pair's evidence is there, rising, [pairs]."""
    differences: Mapping[str, Floats]
    """By grader, [runs, pairs]; NaN where it has no difference."""
    places: Mapping[str, Bools]
    """By slice, as "language=de": which pairs lie in it, [runs or 1, pairs]."""
    silent: Bools
    """Requests that the teacher answers whatever the share is, since the controller has long been silent."""
    requests_per_hour: float
    probabilities: Floats | None = None
    """Of each pair, that its exchange was kept with, [runs, pairs], floored; None: all alike."""
    floor: float = 1.0
    """The smallest of them that was promised."""

    @property
    def runs(self) -> int:
        return len(self.student_bad)

    @property
    def pairs(self) -> int:
        return len(self.taken)


@dataclass(frozen=True)
class Look:
    """One look of the controller: after so many pairs and hours, what it decided, and the wrong answers served."""

    pairs: int
    hours: float
    verdict: Verdict
    bad_answers: int


@dataclass(frozen=True)
class Ending:
    """What became of one run; pairs and hours are 0 where it did not get there."""

    reason: str
    full_at: int = 0
    rolled_back_at: int = 0
    rolled_back_h: float = 0.0
    bad_answers: int = 0


class Batch:
    """Some runs of traffic under one policy, with what every test would say after each `tick_every` pairs."""

    def __init__(self, policy: Policy, traffic: Traffic, tick_every: int, name: str = "simulated") -> None:
        self.policy, self.traffic, self.tick_every, self._name = policy, traffic, tick_every, name
        keys = np.arange(int(traffic.session.max()) + 1 if traffic.session.size else 0)
        self._positions = np.array([position(name, str(key)) for key in keys])
        self._gates = {grader: _Followed(policy, traffic, grader, tick_every) for grader in policy.gates}
        self._guards = list(_guards(policy, traffic, tick_every))

    @property
    def proven_at(self) -> NDArray[np.int64]:
        """The pair with which the first gate was proven, [runs]; 0 for never."""
        return self._gates[self.policy.gates[0]].way.proven_at

    def looks(self, run: int) -> Iterator[Look]:
        """One rollout under `decide`, a look after every `tick_every` pairs until it is rolled back, asks a person how
        it goes on, or traffic ends. Where it only waits for a person's leave, that is given at once."""
        stage, entered, served, bad_answers = 0, 0, 0, 0
        for pairs in range(self.tick_every, self.traffic.pairs + 1, self.tick_every):
            by_now = self._requests(pairs)
            bad_answers += self._served_badly(run, slice(served, by_now), self.policy.shares[stage])
            served = by_now
            verdict = decide(self.policy, stage, self._evidence(run, pairs, entered))
            yield Look(pairs, self._hours(pairs), verdict, bad_answers)
            if verdict.kind == "roll_back" or verdict.reason == NEEDS_PERSON:
                return
            if verdict.stage > stage:
                stage, entered = verdict.stage, pairs

    def thinned(self, share: float, source: np.random.Generator) -> "Batch":
        """The same runs with only that part of the pairs once a run is at full. A pair that is not asked for still
        counts as a place in the order, so that pair numbers go on to be sessions."""
        full_at = np.array([self.play(run).full_at for run in range(self.traffic.runs)])
        places = np.arange(1, self.traffic.pairs + 1)
        beyond = (full_at[:, None] > 0) & (places > full_at[:, None])
        unasked = beyond & (source.random(beyond.shape) >= share)
        thin = {name: np.where(unasked, np.nan, values) for name, values in self.traffic.differences.items()}
        return Batch(self.policy, replace(self.traffic, differences=thin), self.tick_every, self._name)

    def play(self, run: int) -> Ending:
        last, full_at = None, 0
        for look in self.looks(run):
            last = look
            if look.verdict.kind == "advance" and look.verdict.stage == len(self.policy.shares) - 1:
                full_at = look.pairs
        if last is None:
            return Ending("no_traffic")
        if last.verdict.kind != "roll_back":
            return Ending(last.verdict.reason, full_at, bad_answers=last.bad_answers)
        return Ending(last.verdict.reason, full_at, last.pairs, last.hours, last.bad_answers)

    def _requests(self, pairs: int) -> int:
        return min(math.ceil(float(self.traffic.arrives[pairs - 1])), len(self.traffic.session))

    def _hours(self, pairs: int) -> float:
        return float(self.traffic.arrives[pairs - 1]) / self.traffic.requests_per_hour if pairs else 0.0

    def _served_badly(self, run: int, requests: slice, share: float) -> int:
        """Wrong answers that the student gave to clients."""
        traffic = self.traffic
        served = (self._positions[traffic.session[requests]] < share) & ~traffic.silent[requests]
        return int(np.count_nonzero(traffic.student_bad[run, requests] & served))

    def _evidence(self, run: int, pairs: int, entered: int) -> Evidence:
        here = self.traffic.taken[entered:pairs]
        return Evidence(
            gates=tuple(gate.evidence(run, pairs) for gate in self._gates.values()),
            guardrails=tuple(replace(empty, reading=way.reading(run, pairs)) for empty, way in self._guards),
            drifts=tuple(gate.drift_evidence(run, pairs) for gate in self._gates.values() if gate.seen(run, pairs)),
            pairs_at_stage=pairs - entered,
            sessions_at_stage=int(np.unique(self.traffic.session[here]).size),
            hours_at_stage=self._hours(pairs) - self._hours(entered),
            person_agreed=True,
        )


@dataclass(frozen=True)
class _Way:
    """One test over all runs, and what it would read after so many pairs."""

    test: MeanTest
    differences: Floats
    weights: Floats | None
    way: Paths

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        return np.cumsum(~np.isnan(self.differences), axis=1)

    @cached_property
    def means(self) -> Floats:
        """After each pair, 0 before the first that happened."""
        weights = np.ones_like(self.differences) if self.weights is None else self.weights
        total = np.cumsum(np.where(np.isnan(self.differences), 0.0, weights), axis=1)
        return np.nancumsum(self.differences * weights, axis=1) / np.where(total == 0, 1.0, total)

    def reading(self, run: int, pairs: int) -> Reading:
        """What the live test would read. Decisions look at no bounds, so those are not followed."""
        proven_at, refuted_at = int(self.way.proven_at[run]), int(self.way.refuted_at[run])
        count = int(self.counts[run, pairs - 1])
        return replace(
            self.test.reading(),
            count=count,
            mean=float(self.means[run, pairs - 1]),
            proven=0 < proven_at <= pairs,
            refuted=0 < refuted_at <= pairs,
            proven_at=proven_at if proven_at <= pairs else 0,
            log_wealth=float(self.way.trail[run, pairs // self.way.every - 1]),
        )


class _Followed:
    """One gate: its test and its drift detector."""

    def __init__(self, policy: Policy, traffic: Traffic, grader: str, every: int) -> None:
        missing = np.full((traffic.runs, traffic.pairs), np.nan)
        differences = traffic.differences.get(grader, missing)
        self.grader = grader
        self._drift = Drift(policy.margin, policy.pairs_between_false_alarms, traffic.floor)
        self._alarm_at = alarms(differences, self._drift, traffic.probabilities)
        self._followed = _followed(
            NonInferiority(policy.margin, policy.alpha, traffic.floor), differences, traffic, every
        )
        self.way = self._followed.way

    def seen(self, run: int, pairs: int) -> bool:
        return bool(self._followed.counts[run, pairs - 1])

    def evidence(self, run: int, pairs: int) -> GateEvidence:
        return GateEvidence(self.grader, self._followed.reading(run, pairs) if self.seen(run, pairs) else None)

    def drift_evidence(self, run: int, pairs: int) -> DriftEvidence:
        alarmed = 0 < self._alarm_at[run] <= pairs
        return DriftEvidence(self.grader, self._drift.smallest, self._drift.run_length, 0.0, bool(alarmed))


def _followed(test: MeanTest, differences: Floats, traffic: Traffic, every: int) -> _Way:
    kept = traffic.probabilities
    weights = None if kept is None else test.floor / kept
    return _Way(test, differences, weights, paths(differences, test, kept, every))


def _guards(policy: Policy, traffic: Traffic, every: int) -> Iterator[tuple[GuardrailEvidence, _Way]]:
    """Each harm test in its order of appearance, as a tally opens them; the reading in it is still empty."""
    everywhere = np.ones((1, traffic.pairs), dtype=bool)
    found = []
    for number, guard in enumerate(policy.guardrails):
        if guard.metric not in traffic.differences:
            continue
        differences = traffic.differences[guard.metric]
        for place, inside in ((EVERYWHERE, everywhere), *sorted(traffic.places.items())):
            within = np.where(inside, differences, np.nan)
            appears = (~np.isnan(within)).any(axis=0)
            if appears.any():
                found.append((int(appears.argmax()), number, place, within))
    for order, (_, number, place, within) in enumerate(sorted(found, key=lambda one: one[:3]), start=1):
        guard = policy.guardrails[number]
        test = Harm(guard.smallest, guardrail_alpha(policy.alpha, order), traffic.floor)
        empty = GuardrailEvidence(guard.metric, place, guard.smallest, test.alpha, test.reading())
        yield empty, _followed(test, within, traffic, every)
