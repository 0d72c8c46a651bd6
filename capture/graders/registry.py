"""Which grader a task's settings name, and which graders a task has that names none."""

from collections.abc import Callable

from capture.graders.grader import Grader
from capture.graders.heuristics import FAULTS, Heuristic
from capture.graders.json_fields import JsonFields
from capture.graders.json_schema import make_json_schema
from capture.graders.string_check import StringCheck
from capture.graders.text_similarity import TextSimilarity
from capture.graders.tool_calls import ToolCalls
from capture.settings import GraderSettings, TaskSettings

KINDS: dict[str, Callable[[str, GraderSettings], Grader]] = {
    "json_fields": JsonFields,
    "json_schema": make_json_schema,
    "text_similarity": TextSimilarity,
    "string_check": StringCheck,
    "tool_calls": ToolCalls,
    **dict.fromkeys(FAULTS, Heuristic),
}


def make_grader(name: str, settings: GraderSettings) -> Grader:
    """Raises ConfigError for settings that no grader can obey."""
    return KINDS[settings.type](name, settings)


def default_graders(task: TaskSettings) -> dict[str, GraderSettings]:
    """The task's own graders, or what suits its kind: the first compares with the teacher, the second with truth."""
    if task.graders:
        return dict(task.graders)
    kind, options = _usual(task)
    return {
        "agreement": GraderSettings(type=kind, against="teacher", **options),
        "correctness": GraderSettings(type=kind, against="truth", **options),
    }


def _usual(task: TaskSettings) -> tuple[str, dict[str, object]]:
    if task.kind == "tools":
        return "tool_calls", {}
    if task.kind == "text":
        return "text_similarity", {}
    if task.kind == "extraction":
        return "json_fields", {}
    return ("json_fields", {"fields": {task.label: 1.0}}) if task.label else ("string_check", {})
