"""A controller that is killed with SIGKILL again and again counts every pair once: no more, no less."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import func, select

import students.tables as tables
from capture.db import Store, open_store
from capture.migrations import upgrade
from students.rollouts import Rollout, load_rollout
from tests.factories.clock import Clock
from tests.factories.moving import POLICY, add_pairs, begin, count_of_gate
from tests.fakes.processes import wait_until

PAIRS, KILLS = 1_000, 4
WITHIN_S = 90.0
LOOP = """
import sys, time
from capture.db import open_store
from students.controller import tick
store = open_store(sys.argv[1])
while True:
    tick(store, time.time, 'controller')
"""
"""A controller alone, without the pause that a worker makes between two ticks."""


@contextmanager
def controller(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Each takes the name of the one before, so that none has to wait for a lease to run out."""
    process = subprocess.Popen([sys.executable, "-c", LOOP, url])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def consumed(store: Store) -> int:
    with store.read() as connection:
        query = select(func.count()).where(tables.pairs.c.state == "consumed")
        return int(connection.execute(query).scalar_one())


def counted(store: Store, rollout: Rollout) -> int:
    found = load_rollout(store, rollout.id)
    return count_of_gate(found) if found.evidence.get("tally") else 0


@pytest.mark.timeout(400)
def test_pairs_and_wealth_are_written_together_whenever_it_dies(database_url: str) -> None:
    store = open_store(database_url)
    upgrade(store)
    policy = POLICY.model_copy(update={"minimum_pairs": 100_000, "undecided_after_pairs": 200_000})
    rollout = begin(store, Clock(time.time()), policy=policy)
    for _ in range(KILLS):
        before = consumed(store)
        add_pairs(store, rollout, [0.0] * (PAIRS // KILLS))
        with controller(database_url):
            wait_until(lambda before=before: consumed(store) > before, WITHIN_S)
        assert counted(store, rollout) == consumed(store)
    with controller(database_url):
        wait_until(lambda: consumed(store) == PAIRS, WITHIN_S)
    assert counted(store, rollout) == PAIRS
    store.close()
