"""The worker's wiring: ship, score, build, fine-tune, evaluate, pair, and tick the rollouts, until told to stop.

`python -m students.worker --config FILE --data FOLDER`.
"""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from capture.db import Store, open_store
from capture.discovery import digest
from capture.errors import StoreAwayError
from capture.exchange import Answer, Exchange
from capture.graders.means import Means
from capture.graders.python_process import PythonProcesses
from capture.judges import TaskJudges
from capture.migrations import upgrade
from capture.redact import Redacted, Redactor, load_secret
from capture.retention import sweep
from capture.scoring import judge_next, score_new
from capture.settings import Settings, TaskSettings
from capture.ship import Shipper
from capture.tasks import load_tasks, sync_tasks
from students import bases
from students.clients import Client
from students.controller import LEASE, tick
from students.entry import enter
from students.greedy import served_greedily
from students.jobs import LOCAL
from students.judging import Judging
from students.leases import release, was_last
from students.loops import Loop, Loops
from students.observing import Observer, forget_ended
from students.pairing import Pairer, Redact, Stored
from students.pairs import Sweeper, forget_answers, forget_erased
from students.registry import let_sleep
from students.replicas import Replica, SupersededError
from students.training import Trainer
from students.training.hosted import HostedTrainer
from students.training.local import LocalTrainer
from students.turning import Turning
from students.workflows import Workflows
from students.workshop import Workshop

log = structlog.get_logger(__name__)

SHIP_EVERY_S = 0.2
SCORE_EVERY_S = 0.5
TICK_EVERY_S = 1.0
BEAT_EVERY_S = 5.0
FORGET_EVERY_S = 60.0
RETAIN_EVERY_S = 60.0
DISCOVER_EVERY_S = 10.0
END_WITHIN_S = 8.0
STORE_RETRY_S = 2.0


class Tasks:
    """The tasks of now: the store's, looked up again at most once a second."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[str, TaskSettings] = {}
        self._looked_at = -1e9
        self._lock = threading.Lock()

    def __call__(self) -> dict[str, TaskSettings]:
        with self._lock:
            if time.monotonic() - self._looked_at >= TICK_EVERY_S:
                self._found = load_tasks(self._store)
                self._looked_at = time.monotonic()
            return self._found


@dataclass(frozen=True)
class _Staff:
    """Everybody that the loops of one worker work with."""

    shop: Workshop
    tasks: Tasks
    trainer: LocalTrainer
    observer: Observer
    pairer: Pairer
    judging: Judging
    shipper: Shipper
    python: PythonProcesses | None
    replica: Replica
    workflows: Workflows


def run(settings: Settings, stopping: threading.Event, clock: Callable[[], float] = time.time) -> None:
    """The whole worker, until `stopping` is set and everything has ended. A store that is away is waited for."""
    store = open_store(settings.store_url)
    if not _prepared(store, settings, stopping):
        return
    staff = _staff(store, settings, stopping, clock)
    loops = Loops(_loops(staff), stopping)
    staff.workflows.launch()
    staff.pairer.start()
    loops.start()
    log.info("worker runs", store=store.engine.dialect.name, holder=staff.replica.holder)
    stopping.wait()
    late = loops.join(END_WITHIN_S)
    _close(staff)
    log.info("worker stopped", late=late)


def _staff(store: Store, settings: Settings, stopping: threading.Event, clock: Callable[[], float]) -> _Staff:
    tasks, trainer, observer = Tasks(store), LocalTrainer(), Observer(settings.prices)
    shop = Workshop(
        store,
        settings,
        Client(),
        tasks,
        clock,
        stopping,
        models=lambda name: bases.pull(name, settings.models_folder, allow_hub=settings.students.allow_hub),
    )
    shop.trainers = {LOCAL: trainer, **_hosted(shop)}
    python = PythonProcesses(settings.python_graders) if settings.python_graders.allowed else None
    shop.python, shop.greedily = python, partial(served_greedily, shop)
    pairer = Pairer(shop, redactor(settings))

    def on_stored(
        exchange: Exchange, request: dict[str, Any], answer: Answer, task: str | None, probability: float
    ) -> None:
        observer.see(exchange, answer, probability)
        pairer.offer(Stored(exchange, request, answer, probability), task)

    replica = Replica(store, clock)
    return _Staff(
        shop=shop,
        tasks=tasks,
        trainer=trainer,
        observer=observer,
        pairer=pairer,
        shipper=Shipper(store, settings, tasks(), on_stored, clock),
        judging=Judging(shop),
        python=python,
        replica=replica,
        workflows=Workflows(shop, replica.name),
    )


def _loops(staff: _Staff) -> list[Loop]:
    shop, tasks, replica, workflows = staff.shop, staff.tasks, staff.replica, staff.workflows
    store, settings, clock = shop.store, shop.settings, shop.clock
    means, turning = Means(python=staff.python), Turning(store, settings, tasks, clock)

    def judges_of(name: str, task: TaskSettings) -> TaskJudges:
        return TaskJudges(store, settings, (name, task), shop.caps, clock)

    return [
        Loop("ship", lambda: _ship(staff.shipper, tasks), SHIP_EVERY_S),
        Loop("score", lambda: score_new(store, tasks(), clock, means=means), SCORE_EVERY_S),
        Loop("judge", lambda: judge_next(store, tasks(), judges_of, clock), TICK_EVERY_S),
        Loop("pair", lambda: _pair(staff.pairer, tasks), TICK_EVERY_S),
        Loop("judge pairs", lambda: _judge_pairs(staff), TICK_EVERY_S),
        Loop("truths", _sweeping(store, tasks, means), SCORE_EVERY_S),
        Loop("rollouts", lambda: _tick(staff), TICK_EVERY_S),
        Loop("workflows", workflows.start_queued, TICK_EVERY_S),
        Loop("turns", turning.tick, TICK_EVERY_S),
        Loop("replicas", lambda: _beat(replica, workflows, shop.stopping), BEAT_EVERY_S),
        Loop("discover", lambda: digest(store, clock), DISCOVER_EVERY_S),
        Loop("retain", lambda: _retain(store, tasks, settings, clock), RETAIN_EVERY_S),
        Loop("forget", lambda: forget_erased(store) + forget_ended(store), FORGET_EVERY_S),
        Loop("sleep", lambda: let_sleep(store, settings.students.idle_s, clock), FORGET_EVERY_S),
    ]


def _close(staff: _Staff) -> None:
    """In this order: first who works, then what is worked with."""
    staff.trainer.close()
    if staff.python is not None:
        staff.python.close()
    staff.pairer.stop()
    staff.workflows.close()
    release(staff.shop.store, LEASE, staff.replica.holder)
    staff.replica.leave()
    staff.shop.client.close()
    staff.shop.store.close()


def _hosted(shop: Workshop) -> dict[str, Trainer]:
    """A trainer for each upstream of the file; those that may not train say so when they are asked."""
    known = shop.settings.upstreams.items()
    return {name: HostedTrainer(name, one, shop.store, shop.settings.prices, shop.pause) for name, one in known}


def _prepared(store: Store, settings: Settings, stopping: threading.Event) -> bool:
    """Tables and the file's tasks; False when the worker is to stop before the store was there."""
    while not stopping.is_set():
        try:
            upgrade(store)
            sync_tasks(store, settings)
            return True
        except StoreAwayError as error:
            log.warning("store away at the start", error=str(error)[:200])
            stopping.wait(STORE_RETRY_S)
    return False


def redactor(settings: Settings) -> Redact:
    """How a pair's request and answers become what may be kept: as their exchange's own were, by the task's rules."""
    secret = load_secret(settings.data)

    def redact(task: TaskSettings, request: dict[str, Any], answer: Answer, exchange_id: str) -> Redacted:
        return Redactor(task.redaction, secret).redact(request, answer, exchange_id)

    return redact


def _beat(replica: Replica, workflows: Workflows, stopping: threading.Event) -> int:
    try:
        replica.beat()
    except SupersededError as error:
        log.error("worker ends", reason=str(error))
        stopping.set()
        return 0
    for name in replica.take_orphans():
        log.info("taking over", replica=name, workflows=workflows.take_over(name))
        replica.forget(name)
    return 0


def _ship(shipper: Shipper, tasks: Tasks) -> int:
    shipper.tasks = tasks()
    return shipper.ship_once()


def _pair(pairer: Pairer, tasks: Tasks) -> int:
    pairer.refresh(tasks())
    return 0


def _judge_pairs(staff: _Staff) -> int:
    """Only where the controller ticks: it has to know who cannot be heard."""
    if was_last(staff.shop.store, LEASE, staff.replica.holder):
        return staff.judging.turn(staff.tasks())
    staff.judging.stand_down()
    return 0


def _sweeping(store: Store, tasks: Tasks, means: Means) -> Callable[[], int]:
    sweeper = Sweeper(store, means)
    return lambda: sweeper.sweep(tasks())


def _retain(store: Store, tasks: Tasks, settings: Settings, clock: Callable[[], float]) -> int:
    return sweep(store, tasks(), settings.capture.retention, clock, purge=forget_answers)


def _tick(staff: _Staff) -> int:
    store = staff.shop.store
    staff.observer.flush(store)
    obstacles, unheard = dict(staff.pairer.obstacles), staff.judging.unheard(staff.tasks())
    found = tick(store, staff.shop.clock, staff.replica.holder, obstacles, unheard)
    for verdict in found.verdicts:
        log.info("verdict", kind=verdict.kind, reason=verdict.reason, share=verdict.share, sentence=verdict.sentence)
    return 0


if __name__ == "__main__":
    sys.exit(enter("stillhouse worker", run, None))
