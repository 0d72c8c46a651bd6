"""Which rows go into which step, and how fast each step learns: pure functions of the plan."""

import math
import random
from collections.abc import Sequence

WARM_UP = 0.05  # of the steps
FLOOR = 0.05  # of the peak: what the learning rate ends at
_POOL = 8  # batches whose rows are sorted by length together: little padding, still well mixed


def schedule(lengths: Sequence[int], batch_size: int, epochs: float, seed: int) -> list[tuple[int, ...]]:
    """The rows (by index) of every step. Each epoch sees each row once, in an order of its own.

    A part of an epoch is its first batches. The same arguments give the same schedule, so a run that goes on at step n
    sees what an undisturbed one would.
    """
    if not lengths:
        return []
    steps: list[tuple[int, ...]] = []
    for epoch in range(math.ceil(epochs)):
        batches = _epoch(lengths, batch_size, random.Random(f"{seed}:{epoch}"))  # noqa: S311 -- order, not secrecy
        steps += batches[: math.ceil(len(batches) * min(1.0, epochs - epoch))]
    return steps


def epoch_ends(count: int, batch_size: int, steps: int) -> frozenset[int]:
    """The steps, counted from 1, after which an epoch is over; the last one always is."""
    per_epoch = math.ceil(count / batch_size)
    return frozenset(range(per_epoch, steps + 1, per_epoch)) | {steps}


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first steps, then half a cosine down to a floor. `step` counts from 0."""
    warm = max(1, round(steps * WARM_UP))
    if step < warm:
        return peak * (step + 1) / warm
    left = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    return peak * (FLOOR + (1 - FLOOR) * left)


def shared_prefix(rows: Sequence[Sequence[int]], limit: int) -> int:
    """How many tokens all rows begin with, at most `limit`."""
    shortest = min(limit, *(len(row) for row in rows))
    first = rows[0]
    return next((at for at in range(shortest) if any(row[at] != first[at] for row in rows)), shortest)


def _epoch(lengths: Sequence[int], batch_size: int, draw: random.Random) -> list[tuple[int, ...]]:
    order = list(range(len(lengths)))
    draw.shuffle(order)
    batches = []
    for start in range(0, len(order), batch_size * _POOL):
        pool = sorted(order[start : start + batch_size * _POOL], key=lambda row: (lengths[row], row))
        batches += [tuple(pool[at : at + batch_size]) for at in range(0, len(pool), batch_size)]
    draw.shuffle(batches)
    return batches
