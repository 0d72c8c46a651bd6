"""Whether a judge may decide anything: how often it agrees with people's reviews, measured with an exact interval."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select

from capture import reviews
from capture.db import Store
from capture.graders import graders_of
from capture.settings import JudgeSettings, TaskSettings
from capture.tables import exchanges, scores

PASSES = 0.5
"""A judge calls an output good from this score on."""


@dataclass(frozen=True)
class Licence:
    """A judge against people: of `good` outputs that they accepted it agreed on `good_agreed`; `bad` are the others.

    `low`, `high`: the exact interval of the share agreed on. `obstacle`: why the judge decides nothing; None: it may.
    """

    grader: str
    good: int
    good_agreed: int
    bad: int
    bad_agreed: int
    low: float
    high: float
    obstacle: str | None

    @property
    def agreement(self) -> float:
        """The share agreed on; nan of nothing."""
        reviewed = self.good + self.bad
        return (self.good_agreed + self.bad_agreed) / reviewed if reviewed else math.nan


def licences(store: Store, name: str, task: TaskSettings) -> dict[str, Licence]:
    """The licence of each of the task's judges, by the scores that its version of now gave to reviewed exchanges."""
    found = graders_of(task)
    versions = {judge: found.graders[judge].version for judge in sorted(found.judges)}
    told: dict[str, list[tuple[bool, bool]]] = {judge: [] for judge in versions}
    with store.read() as connection:
        columns = select(scores.c.exchange_id, scores.c.grader, scores.c.version, scores.c.value)
        chosen = columns.join(exchanges, exchanges.c.id == scores.c.exchange_id)
        rows = connection.execute(chosen.where(exchanges.c.task == name, scores.c.grader.in_(versions))).all()
        latest = reviews.latest(connection, sorted({row.exchange_id for row in rows}))
    for row in rows:
        if row.exchange_id in latest and row.version == versions[row.grader]:
            told[row.grader].append((latest[row.exchange_id].verdict == "accept", row.value >= PASSES))
    reading = {judge for judge in versions if found.graders[judge].needs_reference}
    return {judge: licence_of(judge, pairs, task.judges, reads=judge in reading) for judge, pairs in told.items()}


def licence_of(grader: str, told: list[tuple[bool, bool]], settings: JudgeSettings, *, reads: bool = False) -> Licence:
    """`told`: (people said good, the judge said good) by exchange. `reads`: the judge is shown a reference."""
    good = [judge for person, judge in told if person]
    bad = [not judge for person, judge in told if not person]
    agreed = sum(good) + sum(bad)
    low, high = interval(agreed, len(told), settings.confidence)
    obstacle = _obstacle((good, bad), low, settings)
    if reads:
        obstacle = "it is shown a reference, which reviews make: they cannot vouch for it"
    return Licence(grader, len(good), sum(good), len(bad), sum(bad), low, high, obstacle)


def _obstacle(sides: tuple[list[bool], list[bool]], low: float, settings: JudgeSettings) -> str | None:
    names = ("accepted", "rejected or corrected")
    for name, side in zip(names, sides, strict=True):
        if len(side) < settings.minimum_of_each:
            return f"{len(side)} of the exchanges that it scored were {name}; {settings.minimum_of_each} are needed"
    if low < settings.threshold:
        return f"it agrees with people at least {low:.0%} of the time, {settings.threshold:.0%} are needed"
    for name, side in zip(names, sides, strict=True):
        if sum(side) / len(side) < settings.threshold:
            return f"of what people {name} it agrees on {sum(side)} of {len(side)}, {settings.threshold:.0%} are needed"
    return None


def interval(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """The exact interval of a proportion (Clopper & Pearson 1934); (0, 1) of nothing."""
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _root(lambda p: _at_least(successes, n, p) - tail)
    high = 1.0 if successes == n else _root(lambda p: _at_least(successes + 1, n, p) - (1 - tail))
    return low, high


def _at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) for X binomial(n, p) with 0 < p < 1, summed in logarithms."""
    first = math.lgamma(n + 1)
    terms = (
        first - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k, n + 1)
    )
    return math.fsum(math.exp(term) for term in terms)


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def licensed(store: Store, name: str, task: TaskSettings) -> list[str]:
    """The task's judges that may gate something."""
    return [judge for judge, one in licences(store, name, task).items() if one.obstacle is None]
