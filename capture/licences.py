"""Whether a judge may decide anything: how often it agrees with people's reviews, measured with an exact interval."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select, tuple_

from capture.db import Store
from capture.graders import graders_of
from capture.intervals import clopper_pearson
from capture.settings import JudgeSettings, TaskSettings
from capture.tables import exchanges, reviews, scores

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
    told = reviewed(store, name, {judge: found.versions[judge] for judge in sorted(found.judges)})
    reading = {judge for judge in told if found.graders[judge].needs_reference}
    return {judge: licence_of(judge, pairs, task.judges, reads=judge in reading) for judge, pairs in told.items()}


def reviewed(
    store: Store, name: str, versions: Mapping[str, str], newest: int | None = None
) -> dict[str, list[tuple[bool, bool]]]:
    """(people said good, the grader said good) of each exchange that has both, by grader; `versions`: those of now.

    People say it by an exchange's last review, a grader from `PASSES` on. `newest`: only so many reviews; None: all.
    """
    told: dict[str, list[tuple[bool, bool]]] = {grader: [] for grader in versions}
    columns = (reviews.c.id, reviews.c.exchange_id, reviews.c.verdict, reviews.c.reviewed_at)
    of_task = select(*columns).join(exchanges, exchanges.c.id == reviews.c.exchange_id).where(exchanges.c.task == name)
    chosen = of_task.order_by(reviews.c.id.desc()).limit(newest).subquery()
    among = scores.c.exchange_id.in_(select(chosen.c.exchange_id))
    of_now = tuple_(scores.c.grader, scores.c.version).in_(sorted(versions.items()))
    given = select(scores).where(of_now, among)
    with store.read() as connection:
        said = connection.execute(select(chosen).order_by(chosen.c.reviewed_at, chosen.c.id))
        good = {row.exchange_id: row.verdict == "accept" for row in said}
        for row in connection.execute(given):
            if row.exchange_id in good:  # its review may have come since
                told[row.grader].append((good[row.exchange_id], row.value >= PASSES))
    return told


def licence_of(grader: str, told: list[tuple[bool, bool]], settings: JudgeSettings, *, reads: bool = False) -> Licence:
    """`told`: (people said good, the judge said good) by exchange. `reads`: the judge is shown a reference."""
    good = [judge for person, judge in told if person]
    bad = [not judge for person, judge in told if not person]
    agreed = sum(good) + sum(bad)
    low, high = clopper_pearson(agreed, len(told), settings.confidence)
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


def licensed(store: Store, name: str, task: TaskSettings) -> list[str]:
    """The task's judges that may gate something."""
    return [judge for judge, one in licences(store, name, task).items() if one.obstacle is None]
