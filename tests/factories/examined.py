"""Holdouts with known answers, and the scene of an evaluation on them: made rows, a workshop, students that are up."""

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import insert, select, update

import students.tables as tables
from capture.datasets.row import Row, encode_row
from capture.db import Store
from capture.ids import new_id
from capture.settings import GraderSettings, Settings, TaskSettings, TeacherSettings, UpstreamSettings, ViewSettings
from capture.tables import dataset_rows, datasets
from students.clients import Client
from students.registry import Student, Training, ensure_base, register_local, want
from students.report import Report
from students.workshop import Workshop

NOW = 1_800_000_000.0
LABELS = ("card", "loan", "account")
ROWS = 40


def clock() -> float:
    return NOW


def row_of(number: int, split: str) -> Row:
    """The truth is by the number; the teacher is wrong on every tenth."""
    truth = LABELS[number % 3]
    said = "other" if number % 10 == 9 else truth
    return Row(
        exchange_id=f"{split}{number:030x}",
        request={
            "messages": [
                {"role": "system", "content": "Sort the ticket."},
                {"role": "user", "content": f"{split} ticket {number}: the {truth} is not what it was"},
            ],
            "temperature": 0.4,
        },
        target={"role": "assistant", "content": json.dumps({"category": said})},
        label=said,
        fingerprint="f" * 16,
        conversation=f"c{number}",
        truth={"category": truth},
        started_at=NOW,
    )


def put_dataset(store: Store, dataset_id: str, version: int, holdout_like: str = "holdout") -> None:
    """20 rows to train on, ROWS to examine on."""
    train = [row_of(number, "train") for number in range(20)]
    put_rows(store, dataset_id, version, train, [row_of(number, holdout_like) for number in range(ROWS)])


def put_rows(store: Store, dataset_id: str, version: int, train: Sequence[Row], holdout: Sequence[Row]) -> None:
    """A dataset of these rows that is ready."""
    rows = [("train", row) for row in train] + [("holdout", row) for row in holdout]
    with store.write() as connection:
        values = {"id": dataset_id, "task": "triage", "version": version, "state": "ready", "hash": "h"}
        connection.execute(insert(datasets).values(**values, filters={}, card={}, created_at=NOW))
        lines = [
            {
                "dataset_id": dataset_id,
                "position": position,
                "split": split,
                "exchange_id": row.exchange_id,
                "row": encode_row(row),
            }
            for position, (split, row) in enumerate(rows)
        ]
        connection.execute(insert(dataset_rows), lines)


def answering(wrong: Collection[int]) -> Callable[[dict[str, Any]], str]:
    """Answers by the ticket's number, wrong on some."""

    def answer(request: dict[str, Any]) -> str:
        text = request["messages"][-1]["content"]
        number = int(text.split()[2].removesuffix(":"))
        return json.dumps({"category": "nothing" if number in wrong else LABELS[number % 3]})

    return answer


class Scene:
    """A workshop with one task, whose teacher is at upstream `stand-in`."""

    def __init__(
        self, store: Store, client: Client, teacher_url: str = "http://127.0.0.1:1/v1", **graders: GraderSettings
    ) -> None:
        self.store = store
        task = TaskSettings(
            label="/category",
            teacher=TeacherSettings(upstream="stand-in", model="large"),
            graders=graders or {"category": GraderSettings(type="json_fields", against="truth")},
        )
        settings = Settings(upstreams={"stand-in": UpstreamSettings(base_url=teacher_url, worker_key_env="WORKER_KEY")})
        self.shop = Workshop(store, settings, client, lambda: {"triage": task}, clock)

    def student(self, fine_tune: str = "ft_1", url: str = "", dataset: str = "ds_1") -> Student:
        made = Training(
            fine_tune_id=fine_tune,
            task="triage",
            base="tiny",
            dataset_id=dataset,
            folder="x",
            weights_hash="w",
            view=ViewSettings(),
            fingerprints=["f" * 16],
            tools=False,
        )
        student = register_local(self.store, made, clock)
        self.serve(student.id, url)
        return student

    def base(self) -> Student:
        return ensure_base(self.store, "triage", "tiny", ViewSettings(), clock)

    def serve(self, student_id: str, url: str) -> None:
        want(self.store, student_id, clock)
        values = {"state": "ready", "url": url, "served_model": "m", "seen_at": NOW}
        with self.store.write() as connection:
            row = tables.student_servers.c.student_id == student_id
            connection.execute(update(tables.student_servers).where(row).values(values))

    def evaluate(self, *students: Student, dataset: str | None = "ds_1", **asked: Any) -> str:
        """A queued evaluation's id."""
        evaluation_id = new_id("ev_")
        values = {
            "id": evaluation_id,
            "task": "triage",
            "dataset_id": dataset,
            "students": [student.id for student in students],
            "asked": {"with_base": False, **asked},
            "state": "queued",
            "progress": {},
            "report": {},
            "created_at": NOW,
        }
        with self.store.write() as connection:
            connection.execute(insert(tables.evaluations).values(values))
        return evaluation_id

    def row(self, evaluation_id: str) -> Any:
        with self.store.read() as connection:
            query = select(tables.evaluations).where(tables.evaluations.c.id == evaluation_id)
            return connection.execute(query).one()

    def report(self, evaluation_id: str) -> Report:
        return msgspec.convert(self.row(evaluation_id).report, Report)
