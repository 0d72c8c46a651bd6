"""A task and upstreams whose exchanges may be trained on, as the store's factory makes them."""

from typing import Any

from capture.settings import DatasetSettings, GraderSettings, TaskSettings, TeacherSettings, UpstreamSettings
from tests.factories.store import NOON

LATER = NOON * 2
UPSTREAMS = {
    "teacher": UpstreamSettings(base_url="http://127.0.0.1:1/v1", training_allowed=True),
    "closed": UpstreamSettings(base_url="http://127.0.0.1:2/v1", training_allowed=False),
}


def task_of(**more: Any) -> TaskSettings:
    """A task labelled by `/category`, graded against truth, that asks for one row; `more` are its other settings."""
    settings = {
        "label": "/category",
        "graders": {"fields": GraderSettings(type="json_fields", against="truth")},
        "dataset": DatasetSettings(minimum_rows=1),
    }
    return TaskSettings(teacher=TeacherSettings(upstream="teacher", model="gpt-4.1"), **(settings | more))
