"""Serves local students: keeps exactly those served that are wanted, each by a process of its own."""

import logging
import threading
from collections.abc import Callable, Sequence

from students.keeping import HEALTH_EVERY_S, POLL_S, Keeper, Ports
from students.served import Report, ServedStudent, ServerState, Serving

__all__ = ["HEALTH_EVERY_S", "Report", "ServedStudent", "ServerState", "Serving", "serve_students"]

log = logging.getLogger(__name__)


def serve_students(
    wanted: Callable[[], Sequence[ServedStudent]], report: Report, stop: threading.Event, serving: Serving
) -> None:
    """Keeps exactly the wanted students served until `stop` is set; returns when all have ended.

    `wanted` is asked every POLL_S; when it raises, the error is logged and the students of before stay. `report` is
    called from one thread a student, at each change and every HEALTH_EVERY_S as a sign of life.
    """
    ports = Ports(serving.host, serving.first_port)
    keepers: dict[str, Keeper] = {}
    while not stop.is_set():
        try:
            now = {student.id: student for student in wanted()}
        except Exception:
            log.exception("which students are wanted cannot be read; serving goes on as before")
            now = {keeper.student.id: keeper.student for keeper in keepers.values()}
        for gone in [id_ for id_, keeper in keepers.items() if now.get(id_) != keeper.student]:
            keepers.pop(gone).end()
        for student in now.values():
            if student.id not in keepers:
                keepers[student.id] = Keeper(student, serving, ports, report)
        stop.wait(POLL_S)
    for keeper in keepers.values():
        keeper.stop.set()
    for keeper in keepers.values():
        keeper.end()
