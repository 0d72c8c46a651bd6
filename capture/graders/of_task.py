"""All graders of one task, each given what it compares with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from capture.exchange import Answer
from capture.graders.grader import Grader
from capture.graders.means import Means
from capture.graders.registry import NO_MEANS, default_graders, make_grader
from capture.graders.sample import Json, Sample, is_message, json_of
from capture.settings import TaskSettings


@dataclass(frozen=True)
class TaskGraders:
    """A task's graders by name, in the task's order. Build with `graders_of`."""

    graders: Mapping[str, Grader]
    against: Mapping[str, str]
    label: str | None
    judges: frozenset[str] = frozenset()
    """Those that ask a model."""

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """Each grader's version."""
        return {name: grader.version for name, grader in self.graders.items()}

    @cached_property
    def parted(self) -> tuple["TaskGraders", "TaskGraders"]:
        """The graders that ask no model, and those that do."""
        asking = {name: one for name, one in self.graders.items() if name in self.judges}
        plain = {name: one for name, one in self.graders.items() if name not in self.judges}
        return replace(self, graders=plain), replace(self, graders=asking)

    def score(
        self,
        output: Answer | Json,
        *,
        request: dict[str, Any],
        truth: Json = None,
        teacher: Answer | Json = None,
        known: Mapping[str, float] = MappingProxyType({}),
    ) -> dict[str, float]:
        """Scores by grader, of those that have something to judge by; `known` ones are taken as they are.

        `truth`, `teacher`: None where there is none. A grader against truth never sees the teacher's output, nor one
        against the teacher the truth.
        """
        references = {"truth": reference_of(truth, self.label), "teacher": teacher}
        scores = dict(known)
        for name, grader in self.graders.items():
            if name in known:
                continue
            sample = Sample(output=output, reference=references[self.against[name]], request=request)
            value = grader.score(sample)
            if value is not None:
                scores[name] = value
        return scores


def graders_of(task: TaskSettings, means: Means = NO_MEANS) -> TaskGraders:
    """Raises ConfigError for a grader that cannot work as configured."""
    settings = default_graders(task)
    graders = {name: make_grader(name, one, means) for name, one in settings.items()}
    judges = frozenset(name for name, one in settings.items() if one.is_judge)
    return TaskGraders(graders, {name: one.against for name, one in settings.items()}, task.label, judges)


def reference_of(truth: Json, label: str | None) -> Json:
    """A truth as a reference. A bare value, where the task's label is a part of the answer, is that part's."""
    if truth is None or not label or isinstance(truth, dict | list) or is_message(truth):
        return truth
    if isinstance(truth, str) and isinstance(json_of(truth), dict):
        return truth
    for step in reversed(label.removeprefix("/").split("/")):
        truth = {step.replace("~1", "/").replace("~0", "~"): truth}
    return truth
