"""Owns recorded traffic: the pairs that a rollout kept, as the simulator plays them again, in order or drawn anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select

from capture.db import Store
from capture.errors import RefusedError
from students.playing import Traffic
from students.rollouts import load_rollout, paired_at
from students.slices import UNPROVEN
from students.tables import pairs
from students.tally import floor_of

MOST_PAIRS = 5_000


@dataclass(frozen=True)
class Recorded:
    """One pair, as far as decisions look at it. `bad`: the student lost to the teacher by the first gate."""

    at: float
    """Unix seconds."""
    differences: dict[str, float]
    slices: dict[str, str]
    probability: float = 1.0
    """With which its exchange was kept; the part that was paired is common to all and left out."""


@dataclass(frozen=True)
class Recording:
    """A rollout's pairs in their order, with the smallest probability that was promised when it began."""

    pairs: Sequence[Recorded]
    floor: float = 1.0


def recorded_pairs(store: Store, rollout_id: str) -> Recording:
    """The scored pairs of a rollout in their order, MOST_PAIRS at most, without those of unproven prompt versions.

    Raises RefusedError where there is none, NotFoundError without the rollout.
    """
    rollout = load_rollout(store, rollout_id)
    floor = floor_of(rollout.evidence)
    scored = (pairs.c.rollout_id == rollout_id) & pairs.c.state.in_(("scored", "consumed"))
    columns = (pairs.c.created_at, pairs.c.differences, pairs.c.slices, pairs.c.probability, pairs.c.stage)
    query = select(*columns).where(scored)
    with store.read() as connection:
        rows = connection.execute(query.order_by(pairs.c.created_at, pairs.c.id).limit(MOST_PAIRS)).all()
    found = [
        Recorded(
            row.created_at,
            row.differences,
            row.slices,
            min(1.0, max(floor, row.probability / paired_at(rollout, row.stage))),
        )
        for row in rows
        if UNPROVEN not in row.slices
    ]
    if not found:
        raise RefusedError(f"rollout {rollout_id} has no scored pairs to play again")
    return Recording(found, floor)


def as_recorded(recording: Recording, gate: str) -> Traffic:
    """The recording itself, as one run."""
    return _traffic(recording, gate, np.arange(len(recording.pairs))[None])


def drawn_anew(recording: Recording, gate: str, runs: int, source: np.random.Generator) -> Traffic:
    """Runs of the recording's length, each drawn from it with replacement: pairs are one a session and day, so they
    are drawn one by one. What drifted in the recording does not drift in these."""
    count = len(recording.pairs)
    return _traffic(recording, gate, source.integers(0, count, (runs, count)))


def _traffic(recording: Recording, gate: str, drawn: Any) -> Traffic:
    recorded, count = recording.pairs, len(recording.pairs)
    graders = sorted({name for one in recorded for name in one.differences})
    differences = {name: np.array([one.differences.get(name, np.nan) for one in recorded])[drawn] for name in graders}
    if gate not in differences:
        raise RefusedError(f"no recorded pair has a difference by {gate}; there are: {', '.join(graders) or 'none'}")
    places = sorted({f"{name}={value}" for one in recorded for name, value in one.slices.items()})
    inside = {place: np.array([place in _places(one) for one in recorded])[drawn] for place in places}
    hours = max((recorded[-1].at - recorded[0].at) / 3600, 1e-9)
    kept = np.array([one.probability for one in recorded])[drawn]
    return Traffic(
        session=np.arange(count),
        student_bad=differences[gate] < 0,
        taken=np.arange(count),
        arrives=np.arange(1.0, count + 1.0),
        differences=differences,
        places=inside,
        silent=np.zeros(count, dtype=bool),
        requests_per_hour=count / hours,
        probabilities=kept,
        floor=recording.floor,
    )


def _places(one: Recorded) -> set[str]:
    return {f"{name}={value}" for name, value in one.slices.items()}
