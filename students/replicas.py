"""Owns the names of worker replicas: each has one for as long as it lives, and the work of the dead is taken over."""

import os
import socket
from collections.abc import Callable

import psutil
from sqlalchemy import delete, select

from capture.db import Store
from capture.errors import OperationError
from students.leases import acquire, is_live, release
from students.tables import leases

PREFIX = "worker:"
ALIVE_S = 30.0
MOST_ON_ONE_HOST = 64


class SupersededError(OperationError):
    """Another replica does this one's work now: end, and start anew under a free name."""


class Replica:
    """This process's name among the workers. Durable workflows belong to a name, so a restart should get it again."""

    def __init__(
        self, store: Store, clock: Callable[[], float], host: str | None = None, pid: int | None = None
    ) -> None:
        """Claims the first free name of this host. Raises OperationError when there is none."""
        self._store, self._clock = store, clock
        self._host = host or socket.gethostname()
        self.holder = f"{self._host}:{os.getpid() if pid is None else pid}"
        self.name = self._claim()

    def _claim(self) -> str:
        for number in range(MOST_ON_ONE_HOST):
            name = self._host if number == 0 else f"{self._host}.{number}"
            self._release_dead(name)
            if self._hold(name):
                return name
        raise OperationError(f"{MOST_ON_ONE_HOST} workers run on {self._host} already")

    def _hold(self, name: str) -> bool:
        return acquire(self._store, PREFIX + name, self.holder, self._clock(), ALIVE_S) is not None

    def _release_dead(self, name: str) -> None:
        """A worker of this host that was killed cannot be waiting: its name is free at once."""
        with self._store.read() as connection:
            holder = connection.execute(select(leases.c.holder).where(leases.c.name == PREFIX + name)).scalar()
        host, _, pid = (holder or "").rpartition(":")
        if host == self._host and pid.isdecimal() and not psutil.pid_exists(int(pid)):
            release(self._store, PREFIX + name, str(holder))

    def beat(self) -> None:
        """Say that this replica lives. Raises SupersededError when another has taken its work over."""
        if not self._hold(self.name):
            raise SupersededError(f"worker {self.name} was silent for {ALIVE_S:.0f} s; another took its work over")

    def take_orphans(self) -> list[str]:
        """Names of replicas that were silent for too long, each given to one caller only: their work is ours now."""
        query = select(leases.c.name, leases.c.expires_at).where(leases.c.name.startswith(PREFIX))
        with self._store.read() as connection:
            found = connection.execute(query).all()
        silent = [row.name for row in found if not is_live(row.expires_at, self._clock(), ALIVE_S)]
        names = [str(name).removeprefix(PREFIX) for name in silent]
        return [name for name in names if name != self.name and self._hold(name)]

    def forget(self, name: str) -> None:
        """The work of an orphan is under way here: its name may go."""
        with self._store.write() as connection:
            ours = (leases.c.name == PREFIX + name) & (leases.c.holder == self.holder)
            connection.execute(delete(leases).where(ours))

    def leave(self) -> None:
        """Let others take over what is unfinished, at once."""
        release(self._store, PREFIX + self.name, self.holder)
