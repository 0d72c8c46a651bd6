"""Owns the comparison of two arms by values that come without a partner: feedback, outcomes, latency, cost.

**Known sampling probabilities.** A difference of two means cannot be weighted as a pair is: the mean of one weighted
value is that value. So values are thinned first. What was kept with a probability p ≥ floor is drawn with floor / p:
each request of the traffic is then among the drawn with the probability floor, whatever p depended on (the request, or,
as a stratum of labels does, the answer), and they are compared as if nothing had been sampled. It costs little: what is
kept least often is what one knows least of, weighted or not. A rate common to all leaves all of them in.
"""

from collections.abc import Mapping
from typing import Any, Self

from capture.sampling import uniform
from students.evidence import MeanTest


def luck_of(exchange_id: str) -> float:
    """A number in [0, 1) of the exchange's own, the same for everything that is compared of it."""
    return uniform("even", exchange_id)


def is_drawn(luck: float, probability: float, floor: float) -> bool:
    """Whether what was kept with `probability` is compared; below the floor it counts as if kept with that."""
    return luck * probability < floor


class TwoSample:
    """Compares unpaired values in [0, 1] (1 is good) of two arms that were assigned at random, by any test of a mean.

    The values have to be independent given their arms: one of each session. They are gathered until both arms have one;
    then the difference of the two means goes to the test as one pair. How many values a block has depends on the
    assignment alone, never on the values, so its expected difference is that of the arms, and the test stays valid at
    any stopping time. Blocks close as traffic comes, so both sides of one are of the same time. Start anew when the
    shares change.
    """

    def __init__(self, test: MeanTest) -> None:
        self.test = test
        self._sums = [0.0, 0.0]
        self._counts = [0, 0]
        self.values = [0, 0]
        """How many values the student's and the teacher's assignments have brought."""

    def update(self, student: bool, value: float) -> None:
        """Count one value in [0, 1] of a request that was assigned to the student, or else to the teacher."""
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"a value must lie inside [0, 1], not {value}")
        side = 0 if student else 1
        self._sums[side] += value
        self._counts[side] += 1
        self.values[side] += 1
        if all(self._counts):
            ours, theirs = (total / count for total, count in zip(self._sums, self._counts, strict=True))
            self.test.update(ours - theirs)
            self._sums, self._counts = [0.0, 0.0], [0, 0]

    def to_state(self) -> dict[str, Any]:
        return {"test": self.test.to_state(), "sums": self._sums, "counts": self._counts, "values": self.values}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], kind: type[MeanTest]) -> Self:
        """Go on from `to_state`; `kind` is the class of the test inside."""
        comparison = cls(kind.from_state(state["test"]))
        comparison._sums, comparison._counts = list(state["sums"]), list(state["counts"])
        comparison.values = list(state["values"])
        return comparison
