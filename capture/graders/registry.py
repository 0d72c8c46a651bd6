"""Which grader a task's settings name, and which graders a task has that names none."""

from collections.abc import Callable

from capture.graders.grader import Grader
from capture.graders.heuristics import FAULTS, Heuristic
from capture.graders.json_fields import JsonFields
from capture.graders.json_schema import make_json_schema
from capture.graders.means import Means
from capture.graders.models import make_model_grader
from capture.graders.multi import make_multi
from capture.graders.python import PythonGrader
from capture.graders.string_check import make_string_check
from capture.graders.text_similarity import make_text_similarity
from capture.graders.tool_calls import ToolCalls
from capture.settings import GraderSettings, TaskSettings

KINDS: dict[str, Callable[[str, GraderSettings], Grader]] = {
    "json_fields": JsonFields,
    "json_schema": make_json_schema,
    "text_similarity": make_text_similarity,
    "string_check": make_string_check,
    "tool_calls": ToolCalls,
    "language": Heuristic,
    **dict.fromkeys(FAULTS, Heuristic),
}
_BY_MEANS: dict[str, Callable[[str, GraderSettings, Means], Grader]] = {
    "score_model": make_model_grader,
    "label_model": make_model_grader,
    "python": PythonGrader,
}
NO_MEANS = Means()


def make_grader(name: str, settings: GraderSettings, means: Means = NO_MEANS) -> Grader:
    """Raises ConfigError for settings that no grader can obey."""
    if settings.type == "multi":
        return make_multi(
            name, settings, {part: make_grader(part, one, means) for part, one in settings.graders.items()}
        )
    if settings.type in _BY_MEANS:
        return _BY_MEANS[settings.type](name, settings, means)
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
