"""Verbs of the loop that iterates: begin a turn by hand, let a waiting one go on, stop one."""

from capture import tasks as task_store
from capture.errors import NotFoundError
from console.access import Desk, Role
from students import turns
from students.turning import Turning


def begin_turn(desk: Desk, task: str) -> turns.Turn:
    """Begins a turn now, however many new rows there are. Raises RefusedError while another is under way."""
    desk.demand(Role.OPERATOR, "beginning a turn of the loop")
    tasks = task_store.load_tasks(desk.store)
    if task not in tasks:
        raise NotFoundError(f"no task {task!r}; there are: {', '.join(sorted(tasks)) or 'none yet'}")
    fresh = Turning(desk.store, desk.settings, lambda: tasks, desk.clock).fresh(task, tasks[task])
    turn = turns.begin(desk.store, task, tasks[task].loop, fresh, (desk.actor.name, desk.clock))
    desk.record("loop.begin", turn.id, task=task, rows=fresh.rows)
    return turn


def approve_turn(desk: Desk, turn_id: str) -> turns.Turn:
    """Lets a turn that waits for a person enter its step."""
    desk.demand(Role.OPERATOR, "letting a turn go on")
    turn = turns.approve(desk.store, turn_id, desk.actor.name, desk.clock)
    desk.record("loop.approve", turn_id, step=turn.step)
    return turn


def stop_turn(desk: Desk, turn_id: str, reason: str = "") -> turns.Turn:
    """Ends a turn, and with it a fine-tune that is under way; a rollout that it started goes on."""
    desk.demand(Role.OPERATOR, "stopping a turn")
    turn = turns.stop(desk.store, turn_id, desk.actor.name, reason, desk.clock)
    desk.record("loop.stop", turn_id, reason=reason)
    return turn
