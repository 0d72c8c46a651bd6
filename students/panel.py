"""Owns who marks an evaluation: the graders of its task, and the judges among them, who are heard beforehand."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from capture.errors import JudgeAwayError
from capture.graders.means import Judges, Means, Question
from capture.graders.registry import default_graders
from capture.licences import licences
from capture.settings import TaskSettings, secret
from students.comparison import Judge, judges_of
from students.workshop import Workshop


@dataclass(frozen=True)
class Panel:
    """The graders that can score here. `asking` are those that ask a model, `silent` says why the others cannot score.

    `heard`: the rows that every asking one has spoken on; the others are marked without them. `unlicensed`: judges that
    may gate nothing, and why.
    """

    judges: Sequence[Judge]
    asking: frozenset[str] = frozenset()
    silent: Mapping[str, str] = field(default_factory=dict)
    unlicensed: Mapping[str, str] = field(default_factory=dict)
    heard: frozenset[str] = frozenset()

    @property
    def askers(self) -> list[Judge]:
        return [judge for judge in self.judges if judge.name in self.asking]

    @property
    def plain(self) -> list[Judge]:
        """Those that ask nobody."""
        return [judge for judge in self.judges if judge.name not in self.asking]

    def of(self, exchange_id: str) -> Sequence[Judge]:
        """Those that mark this row."""
        return self.judges if exchange_id in self.heard else self.plain

    def having_heard(self, exchange_ids: set[str]) -> "Panel":
        return replace(self, heard=frozenset(exchange_ids))


def panel_of(shop: Workshop, name: str, task: TaskSettings, models: Judges) -> Panel:
    """A task's graders by all the means of the worker; judges that may never be asked are left out.

    Raises ConfigError for settings that no grader can obey.
    """
    wanted = default_graders(task)
    silent = {grader: why for grader, one in wanted.items() if (why := _closed(shop, one.judge_upstreams))}
    found = judges_of(task, Means(Remembering(models, shop), shop.python))
    silent |= dict.fromkeys(wanted.keys() - {judge.name for judge in found} - silent.keys(), _NO_PYTHON)
    judges = [judge for judge in found if judge.name not in silent]
    asking = frozenset(judge.name for judge in judges if wanted[judge.name].is_judge)
    told = licences(shop.store, name, task) if asking else {}
    unlicensed = {judge: why for judge in sorted(asking) if (why := told[judge].obstacle) is not None}
    return Panel(judges, asking, {grader: silent[grader] for grader in wanted if grader in silent}, unlicensed)


_NO_PYTHON = "Python graders are off (python_graders.allowed)"


def _closed(shop: Workshop, upstreams: frozenset[str]) -> str | None:
    """Why one of these can never be asked for a judgement, as a sentence's part."""
    known = shop.settings.upstreams
    closed = (name for name in sorted(upstreams) if name not in known or secret(known[name], worker=True) is None)
    return next((f"upstream {name} has no worker key" for name in closed), None)


class Remembering:
    """Judges that are asked each question once in a run, and are left alone while little of a rate limit is left."""

    def __init__(self, models: Judges, shop: Workshop) -> None:
        self._models, self._shop = models, shop
        self._said: dict[tuple[str, str], float | None] = {}
        self._lock = threading.Lock()

    def verdict(self, question: Question) -> float | None:
        """See Judges.verdict. Raises Stopping when the worker has to end."""
        asked = (question.version, question.input_hash)
        with self._lock:
            if asked in self._said:
                return self._said[asked]
        value = self._patiently(lambda: self._models.verdict(question), str(question.settings.upstream))
        with self._lock:
            return self._said.setdefault(asked, value)

    def _patiently(self, ask: Callable[[], float | None], upstream: str) -> float | None:
        while True:
            try:
                return ask()
            except JudgeAwayError:
                rest_s = self._shop.caps.rest_s(upstream)
                if not rest_s:
                    raise
                self._shop.pause(rest_s)
