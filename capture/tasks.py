"""Tasks: which one a request belongs to, and where their settings are kept.

The words of a request (system prompt, fingerprint, variable text) are in `capture/prompts.py`.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import translate

from pydantic import ValidationError
from sqlalchemy import delete, select

from capture.db import Store, upsert
from capture.errors import ConfigError, RefusedError
from capture.prompts import conversation_key as conversation_key
from capture.prompts import fingerprint as fingerprint
from capture.prompts import fingerprint_parts as fingerprint_parts
from capture.prompts import system_prompt as system_prompt
from capture.prompts import variable_text as variable_text
from capture.settings import MatchSettings, Settings, TaskSettings
from capture.tables import tasks as table

TASK_HEADER = "x-stillhouse-task"


class Matcher:
    """Finds a request's task. Made once from a set of tasks; matching touches no I/O."""

    def __init__(self, tasks: Mapping[str, TaskSettings]) -> None:
        """Rules with more conditions go first, then in the order of `tasks`. A rule without any matches nothing."""
        self._names = frozenset(tasks)
        rules = [_Rule.of(name, task.match) for name, task in tasks.items()]
        self._rules = sorted((rule for rule in rules if rule.conditions), key=lambda rule: -rule.conditions)

    def match(
        self,
        model: str,
        metadata: Mapping[str, str],
        headers: Mapping[str, str],
        key_id: str | None,
        fingerprint: str | None,
    ) -> str | None:
        """The task named by the header `x-stillhouse-task` or by the model, else the first whose rule holds; or None.

        `headers` have lower-case names.
        """
        named = headers.get(TASK_HEADER)
        if named in self._names:
            return named
        if model in self._names:
            return model
        for rule in self._rules:
            if rule.holds(model, metadata, headers, key_id, fingerprint):
                return rule.task
        return None


@dataclass(frozen=True, slots=True)
class _Rule:
    task: str
    model: str | None
    glob: re.Pattern[str]
    metadata: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    key: str | None
    fingerprint: str | None

    @classmethod
    def of(cls, task: str, match: MatchSettings) -> "_Rule":
        return cls(
            task,
            match.model,
            re.compile(translate(match.model or "*")),
            tuple(match.metadata.items()),
            tuple((name.lower(), value) for name, value in match.headers.items()),
            match.key,
            match.fingerprint,
        )

    @property
    def conditions(self) -> int:
        single = (self.model, self.key, self.fingerprint)
        return len(self.metadata) + len(self.headers) + sum(part is not None for part in single)

    def holds(
        self,
        model: str,
        metadata: Mapping[str, str],
        headers: Mapping[str, str],
        key_id: str | None,
        fingerprint: str | None,
    ) -> bool:
        if self.model is not None and self.model != model and not self.glob.match(model):
            return False
        if self.key is not None and self.key != key_id:
            return False
        if self.fingerprint is not None and self.fingerprint != fingerprint:
            return False
        if self.metadata and any(metadata.get(name) != value for name, value in self.metadata):
            return False
        return not self.headers or all(headers.get(name) == value for name, value in self.headers)


def load_tasks(store: Store) -> dict[str, TaskSettings]:
    """Every task by name. Raises ConfigError for one whose settings no longer fit (written by another version)."""
    with store.read() as connection:
        rows = connection.execute(select(table.c.name, table.c.settings).order_by(table.c.name)).all()
    return {row.name: _settings(row.name, row.settings) for row in rows}


def sync_tasks(store: Store, settings: Settings, clock: Callable[[], float] = time.time) -> None:
    """Makes the store's file tasks those of the file; a console task of the same name becomes the file's."""
    rows = [_row(name, task, "file", clock()) for name, task in settings.tasks.items()]
    with store.write() as connection:
        gone = (table.c.source == "file") & table.c.name.not_in(list(settings.tasks))
        connection.execute(delete(table).where(gone))
        upsert(connection, table, rows, ["name"])


def save_task(
    store: Store, name: str, settings: TaskSettings, clock: Callable[[], float] = time.time, new: bool = False
) -> None:
    """Creates or changes a console task. Raises RefusedError for one of the file, and for a `new` one that is there."""
    with store.write() as connection:
        source = connection.execute(select(table.c.source).where(table.c.name == name)).scalar()
        if source == "file":
            raise RefusedError(f"task {name} stands in stillhouse.toml: change it there")
        if new and source is not None:
            raise RefusedError(f"task {name} is there already: open it and change it, or take another name")
        upsert(connection, table, [_row(name, settings, "console", clock())], ["name"])


def _row(name: str, task: TaskSettings, source: str, now: float) -> dict[str, object]:
    return {"name": name, "settings": task.model_dump(mode="json"), "source": source, "updated_at": now}


def _settings(name: str, value: object) -> TaskSettings:
    try:
        return TaskSettings.model_validate(value)
    except ValidationError as error:
        raise ConfigError(
            f"task {name}: its stored settings do not fit this version: {error.errors()[0]['msg']}"
        ) from error
