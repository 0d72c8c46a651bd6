"""Who may do what, and the append-only record of what was done."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from sqlalchemy import insert

from capture import tasks
from capture.db import Store, Within
from capture.errors import NotFoundError, RefusedError
from capture.ids import new_id
from capture.settings import Settings, TaskSettings
from capture.tables import audit


class Role(IntEnum):
    """Each role may do everything that the one before may."""

    VIEWER = 0
    REVIEWER = 1
    OPERATOR = 2


@dataclass(frozen=True)
class Actor:
    """A person at the console, or the user who types the command."""

    name: str
    role: Role


@dataclass(frozen=True)
class Desk:
    """What a verb needs: the store, the settings, and who is asking."""

    store: Store
    settings: Settings
    actor: Actor
    clock: Callable[[], float] = field(default=time.time)

    def demand(self, role: Role, action: str) -> None:
        """Raises RefusedError when the actor's role is below `role`."""
        if self.actor.role < role:
            raise RefusedError(f"{action} needs the role {role.name.lower()}; {self.actor.name} is {self.role_name}")

    @property
    def role_name(self) -> str:
        return self.actor.role.name.lower()

    def task(self, name: str) -> TaskSettings:
        """The settings of a task, from the file or the console. Raises NotFoundError."""
        known = tasks.load_tasks(self.store)
        if name not in known:
            raise NotFoundError(f"no task {name!r}; there are: {', '.join(sorted(known)) or 'none yet'}")
        return known[name]

    @contextmanager
    def whole(self) -> Iterator["Desk"]:
        """A desk whose store is one transaction: what a verb changes and its line in the audit, or neither."""
        with self.store.write() as connection:
            yield replace(self, store=Within(connection))

    def record(self, action: str, subject: str, **detail: Any) -> None:
        """One row of the audit trail."""
        row = {"id": new_id(), "at": self.clock(), "who": self.actor.name, "action": action, "subject": subject}
        with self.store.write() as connection:
            connection.execute(insert(audit).values(**row, detail=detail))
