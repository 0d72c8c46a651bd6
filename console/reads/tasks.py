"""Owns what the page Tasks shows: tasks with where they come from, and their prompt versions."""

import difflib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from capture.db import Store
from capture.errors import UsageError
from capture.graders.registry import default_graders
from capture.settings import GraderSettings, TaskSettings
from capture.tables import exchanges, tasks
from capture.tables import prompt_versions as versions


@dataclass(frozen=True)
class TaskRow:
    name: str
    settings: TaskSettings
    from_file: bool
    updated_at: float


@dataclass(frozen=True)
class PromptVersion:
    fingerprint: str
    template: str
    first_seen: float
    last_seen: float
    exchanges: int


def list_tasks(store: Store) -> list[TaskRow]:
    """By name."""
    with store.read() as connection:
        rows = connection.execute(select(tasks).order_by(tasks.c.name)).all()
    return [
        TaskRow(row.name, TaskSettings.model_validate(row.settings), row.source == "file", row.updated_at)
        for row in rows
    ]


def busiest(store: Store) -> str | None:
    """The task with most of the newest hundred exchanges: what a reader most likely came for."""
    newest = select(exchanges.c.task).order_by(exchanges.c.id.desc()).limit(100).subquery()
    known = select(newest.c.task).join(tasks, tasks.c.name == newest.c.task)
    grouped = known.group_by(newest.c.task).order_by(func.count().desc(), newest.c.task)
    with store.read() as connection:
        return connection.scalar(grouped.limit(1))


def graders_of(task: TaskSettings) -> dict[str, GraderSettings]:
    """A task's graders in their order: its own, or those that its kind brings along."""
    return dict(default_graders(task))


def grader_names(store: Store, task: str | None) -> list[str]:
    """Of one task or of all, each once."""
    found = [one.settings for one in list_tasks(store) if task is None or one.name == task]
    return list(dict.fromkeys(name for settings in found for name in graders_of(settings)))


def prompt_versions(store: Store, task: str, limit: int = 100) -> list[PromptVersion]:
    """The versions last seen first."""
    columns = [versions.c[name] for name in PromptVersion.__dataclass_fields__]
    chosen = select(*columns).where(versions.c.task == task).order_by(versions.c.last_seen.desc()).limit(limit)
    with store.read() as connection:
        return [PromptVersion(*row) for row in connection.execute(chosen)]


def prompt_diff(old: PromptVersion, new: PromptVersion) -> str:
    """The lines that came and went, as a unified diff; empty where the texts are the same."""
    names = old.fingerprint, new.fingerprint
    lines = difflib.unified_diff(old.template.splitlines(), new.template.splitlines(), *names, lineterm="", n=3)
    return "\n".join(lines)


def parsed(text: str) -> dict[str, Any]:
    """Settings as typed. Raises UsageError for anything that is no JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError("a task's settings are a JSON object")
    return value
