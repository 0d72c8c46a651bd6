"""Carries the loop on: begins a turn when enough rows came, and takes each turn a step further when its job has ended.

The jobs themselves are durable workflows of their own rows (students/workflows.py). A turn only names them: ids follow
from the turn's, so a step that a crash cut short is repeated without making anything twice.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from sqlalchemy import Table, func, select

from capture.datasets import Filters, list_datasets, queue_build
from capture.db import Store
from capture.errors import RefusedError, UsageError
from capture.settings import Settings, TaskSettings
from capture.tables import datasets
from students.acceptance import accepted, has_many
from students.asking import Asked
from students.bar import beats
from students.jobs import LOCAL
from students.queueing import Evaluation, FineTune, queue_evaluation, queue_fine_tune
from students.report import Report
from students.rollout_start import Start, start
from students.rollouts import list_rollouts
from students.tables import evaluations, fine_tunes, loop_turns, rollouts
from students.turns import LOOP, STEPS, Clock, Fresh, Turn, begin, end, go_on, moving_turns

log = structlog.get_logger(__name__)

Tasks = Callable[[], Mapping[str, TaskSettings]]

COUNT_EVERY_S = 60.0
"""How often a task's new rows are counted at most, once there may be enough: that reads all of them."""


class Turning:
    """The loops of all tasks. `tick` is called again and again by one thread of each worker."""

    def __init__(self, store: Store, settings: Settings, tasks: Tasks, clock: Clock) -> None:
        self._store, self._settings, self._tasks, self._clock = store, settings, tasks, clock
        self._steps = {"build": self._build, "train": self._train, "evaluate": self._evaluate, "rollout": self._roll}
        self._counted_at: dict[str, float] = {}

    def tick(self) -> int:
        """Carry on what is under way and begin what is due; how many turns went a step further."""
        tasks = self._tasks()
        going = moving_turns(self._store)
        moved = sum(self._go_on(turn, tasks.get(turn.task)) for turn in going)
        busy = {turn.task for turn in going}
        return moved + sum(self._begin(name, task) for name, task in tasks.items() if name not in busy)

    def fresh(self, name: str, task: TaskSettings) -> Fresh:
        """The rows that a turn begun now would be about."""
        span = (last_look(self._store, name), self._clock())
        return accepted(self._store, name, task, self._settings.upstreams, span)

    def _begin(self, name: str, task: TaskSettings) -> bool:
        """A turn by itself: when its rows are there, and no rollout is under way that it would have to wait for."""
        wanted = task.loop.after_rows
        if wanted is None or not has_many(self._store, name, last_look(self._store, name), wanted):
            return False
        since_s = self._clock() - self._counted_at.get(name, -math.inf)
        if 0 <= since_s < COUNT_EVERY_S or _has_rollout(self._store, name):
            return False
        fresh = self.fresh(name, task)
        self._counted_at[name] = fresh.until
        if fresh.rows < wanted:
            return False
        try:
            turn = begin(self._store, name, task.loop, fresh, (LOOP, self._clock))
        except RefusedError:  # another worker was first
            return False
        log.info("a turn begins", task=name, turn=turn.id, rows=fresh.rows)
        return True

    def _go_on(self, turn: Turn, task: TaskSettings | None) -> bool:
        if task is None:
            return end(self._store, turn, "failed", f"task {turn.task} is gone", self._clock)
        if turn.state == "waiting":
            return False
        if turn.step in turn.settings.wait_for_person and turn.step not in turn.approved:
            return self._say(turn, {"state": "waiting"}, f"waits for a person before it may {turn.step}")
        try:
            return self._steps[turn.step](turn, task)
        except UsageError as error:
            return end(self._store, turn, "failed", f"{turn.step}: {error}", self._clock)

    def _say(self, turn: Turn, changes: dict[str, Any], text: str) -> bool:
        return go_on(self._store, turn, changes, text, self._clock)

    def _next(self, turn: Turn, changes: dict[str, Any], text: str) -> bool:
        step = STEPS[STEPS.index(turn.step) + 1]
        return self._say(turn, {**changes, "step": step}, text)

    def _build(self, turn: Turn, _: TaskSettings) -> bool:
        dataset_id = turn.named("ds_")
        row = self._row(datasets, dataset_id)
        if row is None:
            queue_build(self._store, turn.task, Filters(until=turn.until), self._clock, dataset_id)
            return self._say(turn, {"dataset_id": dataset_id}, f"builds dataset {dataset_id}")
        if row.state == "failed":
            return end(self._store, turn, "ended", f"no dataset: {row.error}", self._clock)
        if row.state != "ready":
            return False
        return self._next(turn, {"dataset_id": dataset_id}, f"dataset {turn.task}@{row.version} is ready")

    def _train(self, turn: Turn, task: TaskSettings) -> bool:
        fine_tune_id = turn.named("ftjob-")
        row = self._row(fine_tunes, fine_tune_id)
        if row is None:
            wanted = FineTune(
                id=fine_tune_id,
                task=turn.task,
                dataset_id=turn.dataset_id,
                base=task.training.base,
                trainer=LOCAL,
                settings=task.training,
            )
            with self._store.write() as connection:
                queue_fine_tune(connection, wanted, self._clock())
            return self._say(turn, {"fine_tune_id": fine_tune_id}, f"trains {task.training.base}, {fine_tune_id}")
        if row.state in ("failed", "cancelled"):
            reason = row.error or "no reason was recorded"
            return end(self._store, turn, "failed", f"the fine-tune {row.state}: {reason}", self._clock)
        if row.state != "succeeded":
            return False
        changes = {"fine_tune_id": fine_tune_id, "student_id": row.student_id}
        return self._next(turn, changes, f"student {row.student_id} is trained")

    def _evaluate(self, turn: Turn, task: TaskSettings) -> bool:
        evaluation_id = turn.named("ev_")
        row = self._row(evaluations, evaluation_id)
        if row is None:
            incumbent = _incumbent(self._store, turn.task)
            asked = Asked(few_shot=task.evaluation.few_shot, leave_out=incumbent is not None)
            wanted = Evaluation(
                id=evaluation_id,
                task=turn.task,
                dataset_id=turn.dataset_id,
                students=[student for student in (turn.student_id, incumbent) if student],
                asked=msgspec.to_builtins(asked),
            )
            with self._store.write() as connection:
                queue_evaluation(connection, wanted, self._clock())
            beside = f" beside the incumbent {incumbent}" if incumbent else ""
            changes = {"evaluation_id": evaluation_id, "incumbent_id": incumbent}
            return self._say(turn, changes, f"evaluates it{beside}, {evaluation_id}")
        if row.state == "failed":
            return end(self._store, turn, "failed", f"the evaluation failed: {row.error}", self._clock)
        if row.state != "succeeded":
            return False
        worth, why = judged(turn, msgspec.convert(row.report, Report), row.students)
        if not worth:
            return end(self._store, turn, "ended", f"not rolled out: {why}", self._clock)
        return self._next(turn, {"evaluation_id": evaluation_id}, why)

    def _roll(self, turn: Turn, task: TaskSettings) -> bool:
        """Waits while another rollout is under way; one of this student that a person started counts as this turn's."""
        own = [one for one in list_rollouts(self._store, turn.task) if one.student_id == turn.student_id]
        if own:
            text = f"rollout {own[0].id} has begun, in shadow"
            changes = {"rollout_id": own[0].id}
            if not go_on(self._store, turn, changes, text, self._clock):
                return False
            return end(self._store, turn, "rolled_out", text, self._clock)
        if _has_rollout(self._store, turn.task):
            return False
        reason = f"turn {turn.id} of the loop"
        asked = Start(task=turn.task, student=str(turn.student_id), who=LOOP, reason=reason)
        start(self._store, asked, task, self._clock, python=self._settings.python_graders.allowed)
        return True

    def _row(self, table: Table, row_id: str) -> Any:
        with self._store.read() as connection:
            return connection.execute(select(table).where(table.c.id == row_id)).one_or_none()


def judged(turn: Turn, report: Report, students: list[str]) -> tuple[bool, str]:
    """Whether the new student is worth a rollout, and why, for a person to read."""
    bar = report.bar
    own = next((arm for arm in report.arms if arm.student_id == turn.student_id), None)
    if bar is None or own is None:
        return False, "the evaluation says nothing of it"
    if bar.standings.get(own.student_id) == "misses":
        return False, f"it is more than {100 * bar.margin:g} points below the teacher on {', '.join(bar.gates)}"
    incumbents = [student for student in students if student != turn.student_id]
    if not incumbents:
        return True, "it does not miss the bar, and there is no incumbent to beat"
    proven = turn.settings.proof == "interval"
    if beats(own, incumbents[0], bar.gates, proven=proven):
        return True, f"it beats the incumbent {incumbents[0]} on {', '.join(bar.gates)}"
    return False, f"it does not beat the incumbent {incumbents[0]} on {', '.join(bar.gates)}"


def last_look(store: Store, task: str) -> float:
    """Until when rows have been taken: by the last turn, or the newest dataset if that is later."""
    with store.read() as connection:
        turned = connection.execute(select(func.max(loop_turns.c.until)).where(loop_turns.c.task == task)).scalar()
    built = [card.filters.get("until") or 0.0 for card in list_datasets(store, task, limit=10) if card.state == "ready"]
    return max([turned or 0.0, *built])


def _incumbent(store: Store, task: str) -> str | None:
    query = select(rollouts.c.student_id).where(rollouts.c.task == task, rollouts.c.state == "full")
    with store.read() as connection:
        found = connection.execute(query.order_by(rollouts.c.created_at.desc()).limit(1)).scalar()
    return None if found is None else str(found)


def _has_rollout(store: Store, task: str) -> bool:
    moving = (rollouts.c.task == task) & rollouts.c.state.in_(("running", "paused"))
    with store.read() as connection:
        return connection.execute(select(rollouts.c.id).where(moving).limit(1)).scalar() is not None
