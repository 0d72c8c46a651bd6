"""Serves a student a second time, without chance: `transformers serve` keeps the sampling of its first request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

from capture.errors import UpstreamAwayError
from students.keeping import Keeper, Ports
from students.processor import dtype_on
from students.registry import Server, Student
from students.samples import sample_of
from students.served import ServedStudent, ServerState, Serving, device_of
from students.workshop import POLL_S, SERVED_WITHIN_S, Workshop

PORTS_FURTHER = 200
"""Its ports begin so far behind the student server's own: both look for free ones."""


@contextmanager
def served_greedily(shop: Workshop, student: Student) -> Iterator[Server]:
    """A server of a local student that says the likeliest each time, up for as long as the block runs.

    Raises UpstreamAwayError when it is not up in time, Stopping when the worker has to end.
    """
    settings, device = shop.settings.students, device_of(Path("/dev"))
    serving = Serving(
        logs=shop.data / "logs" / "students",
        first_port=settings.first_port + PORTS_FURTHER,
        memory_mb=settings.memory_mb,
        device=device,
        dtype=dtype_on(device),
    )
    sample = sample_of(shop.store, student)
    wanted = ServedStudent(
        id=f"{student.id}-greedy",
        folder=shop.data / str(student.folder),
        max_tokens=sample.max_tokens,
        prompts=sample.prompts,
    )
    told: SimpleQueue[ServerState] = SimpleQueue()
    keeper = Keeper(wanted, serving, Ports(serving.host, serving.first_port), told.put)
    try:
        yield _ready(shop, student, told)
    finally:
        keeper.end()


def _ready(shop: Workshop, student: Student, told: SimpleQueue[ServerState]) -> Server:
    deadline = time.monotonic() + SERVED_WITHIN_S
    detail = f"not up within {SERVED_WITHIN_S:.0f} s"
    while time.monotonic() < deadline:
        shop.check()
        try:
            state = told.get(timeout=POLL_S)
        except Empty:
            continue
        if state.state == "ready":
            return Server(student.id, "ready", state.url, state.served_model, state.capacity_per_s, None, shop.clock())
        if state.state == "dead":
            detail = str(state.detail)
            break
    raise UpstreamAwayError(f"student {student.name} could not be served without chance in its sampling: {detail}")
