"""One task's rollouts in a store, with pairs and observations put beside them for a controller to count."""

import time
from typing import Any

from sqlalchemy import insert, update

import students.tables as tables
from capture.db import Store
from capture.ids import new_id
from capture.settings import (
    GraderSettings,
    RolloutSettings,
    TaskSettings,
    TeacherSettings,
    UpstreamSettings,
    ViewSettings,
)
from students import rollouts
from students.observing import UNKNOWN, Measure
from students.registry import Training, register_local, register_upstream
from students.rollout_start import Start, start
from students.rollouts import Rollout
from tests.factories.clock import Clock

POLICY = RolloutSettings(shares=(0.25, 0.95), margin=0.1, minimum_pairs=5, minimum_sessions=5)
TASK = TaskSettings(
    kind="classification",
    teacher=TeacherSettings(upstream="stand-in", model="large"),
    graders={"category": GraderSettings(type="json_fields", against="truth", fields={"category": 1.0})},
    rollout=POLICY,
)


def new_student(store: Store, clock: Clock, model: str = "small") -> str:
    upstreams = {"stand-in": UpstreamSettings(base_url="http://127.0.0.1:1/v1")}
    return register_upstream(store, "triage", model, ("stand-in", upstreams), ViewSettings(), clock).id


def begin(store: Store, clock: Clock, **options: Any) -> Rollout:
    student = options.pop("student", None) or new_student(store, clock)
    request = Start(task="triage", student=student, who="tester", reason="a test", force=True, **options)
    return start(store, request, TASK, clock)


def begin_served(store: Store, task: TaskSettings, prompt_version: str, url: str) -> Rollout:
    """A rollout of task `triage` by the real clock; its student knows this prompt version and is up at `url`."""
    known = [prompt_version]
    made = Training("ftjob-1", "triage", "tiny", "ds_1", "students/1", "w", ViewSettings(), known, tools=False)
    student = register_local(store, made, time.time)
    asked = Start("triage", student.id, "tester", reason="a test", force=True)
    rollout = start(store, asked, task, time.time)
    values = {"state": "ready", "url": url, "served_model": "m", "seen_at": time.time()}
    with store.write() as connection:
        connection.execute(update(tables.student_servers).values(values))
    return rollout


def be_served(store: Store, rollout: Rollout, capacity_per_s: float, clock: Clock) -> None:
    """The rollout's student is up, and was measured."""
    measured = {"state": "ready", "capacity_per_s": capacity_per_s, "seen_at": clock.now}
    with store.write() as connection:
        connection.execute(insert(tables.student_servers).values(student_id=rollout.student_id, **measured))


def add_pairs(
    store: Store,
    rollout: Rollout,
    differences: list[float],
    state: str = "scored",
    prompt: str = "",
    grader: str = "category",
    probability: float = 1.0,
) -> list[str]:
    rows = [
        {
            "id": new_id(),
            "rollout_id": rollout.id,
            "exchange_id": new_id(),
            "session": new_id(),
            "day": "2027-01-01",
            "slices": {"prompt": prompt, "unproven": "prompt"}
            if prompt
            else {"language": "de" if number % 2 else "en"},
            "stage": rollout.stage,
            "probability": probability,
            "teacher_output": "{}",
            "differences": {grader: difference},
            "student_scores": {},
            "teacher_scores": {},
            "state": state,
            "served": False,
            "created_at": 0.0,
        }
        for number, difference in enumerate(differences)
    ]
    with store.write() as connection:
        connection.execute(insert(tables.pairs), rows)
    return [row["id"] for row in rows]


def observe(store: Store, rollout: Rollout, marks: str, measure: Measure = UNKNOWN) -> None:
    measures = [measure.to_list() for _ in marks]
    row = {"id": new_id(), "rollout_id": rollout.id, "marks": marks, "measures": measures}
    with store.write() as connection:
        connection.execute(insert(tables.observations).values(row))


def verdict_rows(store: Store, rollout: Rollout) -> list[tuple[str, str]]:
    return [(row.kind, row.reason) for row in rollouts.list_verdicts(store, rollout.id)]


def count_of_gate(rollout: Rollout) -> int:
    return int(rollout.evidence["tally"]["gates"]["category"]["count"])
