"""Verbs of the loop that iterates: begin a turn by hand, let a waiting one go on, stop one."""

from console.access import Desk, Role
from students import turns
from students.turning import Turning


def begin_turn(desk: Desk, task: str) -> turns.Turn:
    """Begins a turn now, however many new rows there are. Raises RefusedError while another is under way."""
    desk.demand(Role.OPERATOR, "beginning a turn of the loop")
    settings = desk.task(task)
    fresh = Turning(desk.store, desk.settings, lambda: {task: settings}, desk.clock).fresh(task, settings)
    with desk.whole() as own:
        turn = turns.begin(own.store, task, settings.loop, fresh, (own.actor.name, own.clock))
        own.record("loop.begin", turn.id, task=task, rows=fresh.rows)
    return turn


def approve_turn(desk: Desk, turn_id: str) -> turns.Turn:
    """Lets a turn that waits for a person enter its step."""
    desk.demand(Role.OPERATOR, "letting a turn go on")
    with desk.whole() as own:
        turn = turns.approve(own.store, turn_id, own.actor.name, own.clock)
        own.record("loop.approve", turn_id, step=turn.step)
    return turn


def stop_turn(desk: Desk, turn_id: str, reason: str = "") -> turns.Turn:
    """Ends a turn, and with it a fine-tune that is under way; a rollout that it started goes on."""
    desk.demand(Role.OPERATOR, "stopping a turn")
    with desk.whole() as own:
        turn = turns.stop(own.store, turn_id, own.actor.name, reason, own.clock)
        own.record("loop.stop", turn_id, reason=reason)
    return turn
