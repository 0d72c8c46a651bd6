"""Durable workflows: started once, failing with a reason, going on where they were; fine-tunes by a fake trainer."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select, update

import students.tables as tables
from capture.db import Store
from capture.errors import RefusedError
from capture.settings import Settings, TaskSettings, TeacherSettings, TrainingSettings, UpstreamSettings, ViewSettings
from students import fine_tuning
from students.clients import Client
from students.registry import load_student, server_of
from students.training import Artefact, Estimate, Progress, TrainingPlan
from students.workflows import Workflows
from students.workshop import Workshop
from tests.factories.examined import put_dataset
from tests.factories.store import new_store

NOW = 1_800_000_000.0


class FakeTrainer:
    """Five steps, each waiting for leave; remembers its runs as a real one would, in the run's folder."""

    def __init__(self) -> None:
        self.leave = threading.Semaphore(0)
        self.starts: list[TrainingPlan] = []
        self.plans: dict[str, TrainingPlan] = {}
        self.cancelled: set[str] = set()
        self.steps: list[int] = []
        self.refusal: str | None = None

    def estimate(self, plan: TrainingPlan) -> Estimate:  # noqa: ARG002 -- the protocol's
        return Estimate(rows=0, tokens=0, seconds=0, cost_usd=0)

    def start(self, plan: TrainingPlan) -> str:
        if self.refusal:
            raise RefusedError(self.refusal)
        self.starts.append(plan)
        self.plans[plan.run_folder] = plan
        return plan.run_folder

    def _done(self, run: str) -> int:
        state = Path(run) / "step"
        return int(state.read_text()) if state.exists() else 0

    def watch(self, run: str) -> Iterator[Progress]:
        Path(run).mkdir(parents=True, exist_ok=True)
        for step in range(self._done(run) + 1, 6):
            while not self.leave.acquire(timeout=0.01):
                yield Progress(step=step - 1, total_steps=5)
            if run in self.cancelled:
                return
            self.steps.append(step)
            (Path(run) / "step").write_text(str(step))
            yield Progress(step=step, total_steps=5, loss=1.0 / step, tokens_per_s=100.0, seconds_left=5.0 - step)

    def cancel(self, run: str) -> None:
        self.cancelled.add(run)

    def artefact(self, run: str) -> Artefact | None:
        if run in self.cancelled or self._done(run) < 5:
            return None
        folder = Path(self.plans[run].folder)
        folder.mkdir(parents=True, exist_ok=True)
        return Artefact(
            folder=str(folder),
            weights_hash="abc",
            trained_tokens=1234,
            rows=20,
            dropped={"too long": 2},
            steps=5,
            loss=0.2,
            validation_loss=None,
            seconds=1.0,
        )


class Scene:
    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.trainer = store, FakeTrainer()
        task = TaskSettings(
            teacher=TeacherSettings(upstream="stand-in", model="large"), view=ViewSettings(max_tokens=99)
        )
        upstream = UpstreamSettings(base_url="http://127.0.0.1:1/v1", training_allowed=True)
        settings = Settings(data=folder / "data", upstreams={"stand-in": upstream})
        self.client = Client()
        trainers = {"local": self.trainer}
        self.shop = Workshop(
            store,
            settings,
            self.client,
            lambda: {"triage": task},
            lambda: NOW,
            trainers=trainers,
            models=Models(folder),
        )

    @contextmanager
    def workflows(self, executor: str = "a") -> Iterator[Workflows]:
        """As one start of a worker: launched, and closed as it would be on SIGTERM."""
        self.shop.stopping = threading.Event()
        workflows = Workflows(self.shop, executor)
        workflows.launch()
        try:
            yield workflows
        finally:
            self.shop.stopping.set()
            workflows.close()

    def fine_tune(self, fine_tune_id: str = "ftjob-1", **changes: Any) -> str:
        values = {
            "id": fine_tune_id,
            "task": "triage",
            "dataset_id": "ds_1",
            "base": "tiny",
            "trainer": "local",
            "settings": TrainingSettings(base="tiny", epochs=2, seed=5).model_dump(mode="json"),
            "state": "queued",
            "cancel_asked": False,
            "progress": {},
            "created_at": NOW,
            **changes,
        }
        with self.store.write() as connection:
            connection.execute(insert(tables.fine_tunes).values(values))
        return fine_tune_id

    def row(self, fine_tune_id: str = "ftjob-1") -> Any:
        with self.store.read() as connection:
            query = select(tables.fine_tunes).where(tables.fine_tunes.c.id == fine_tune_id)
            return connection.execute(query).one()

    def events(self) -> list[str]:
        with self.store.read() as connection:
            return list(connection.execute(select(tables.fine_tune_events.c.message)).scalars())


class Models:
    """Stands for students.bases: a folder for every name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str) -> Path:
        return self._folder / "models" / name


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    store = new_store(tmp_path)
    put_dataset(store, "ds_1", 1)
    scene = Scene(store, tmp_path)
    yield scene
    scene.client.close()
    store.close()


def wait_for(met: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_plan_is_what_the_settings_say_within_what_the_base_can(scene: Scene) -> None:
    training = TrainingSettings(base="tiny", max_tokens=9999, validation=0.1, patience=3, adapter=True)
    fine_tuning.write_rows(scene.shop, scene.fine_tune(settings=training.model_dump(mode="json")))
    plan = fine_tuning.plan_of(scene.shop, scene.row())
    assert (plan.max_tokens, plan.validation, plan.patience, plan.adapter) == (2048, 0.1, 3, True)
    scene.fine_tune("ftjob-2", settings=training.model_copy(update={"validation": 0.0}).model_dump(mode="json"))
    fine_tuning.write_rows(scene.shop, "ftjob-2")
    assert fine_tuning.plan_of(scene.shop, scene.row("ftjob-2")).patience == 0


def test_a_view_has_no_more_context_than_the_base(scene: Scene) -> None:
    wide = scene.shop.load_tasks()["triage"].model_copy(update={"view": ViewSettings(context_tokens=50_000)})
    scene.shop.load_tasks = lambda: {"triage": wide}
    fine_tuning.write_rows(scene.shop, scene.fine_tune())
    assert fine_tuning.load_lesson(scene.shop, "ftjob-1").view["context_tokens"] == 2048


def test_a_fine_tune_becomes_a_student_that_is_wanted(scene: Scene) -> None:
    scene.trainer.leave.release(5)
    fine_tune = scene.fine_tune()
    with scene.workflows() as workflows:
        assert workflows.start_queued() == 1
        wait_for(lambda: scene.row().state == "succeeded")
    row = scene.row()
    student = load_student(scene.store, row.student_id)
    assert (student.kind, student.fine_tune_id, student.dataset_id) == ("local", fine_tune, "ds_1")
    assert (student.folder, student.weights_hash) == (f"students/{fine_tune}", "abc")
    assert (student.fingerprints, student.view.max_tokens) == ({"f" * 16}, 99)
    assert (row.trained_tokens, row.ended_at) == (1234, NOW)
    assert server_of(scene.store, student.id) is not None
    plan = scene.trainer.starts[0]
    assert (plan.base_name, plan.epochs, plan.seed) == ("tiny", 2, 5)
    lines = [msgspec.json.decode(line) for line in Path(plan.rows[0]).read_bytes().splitlines()]
    assert len(lines) == 20
    assert [message["role"] for message in lines[0]["messages"]] == ["system", "user", "assistant"]
    assert any("too long" in message for message in scene.events())


def test_started_once_however_often_it_is_asked(scene: Scene) -> None:
    scene.fine_tune()
    with scene.workflows() as workflows:
        assert workflows.start_queued() == 1
        wait_for(lambda: scene.row().progress != {})
        assert [workflows.start_queued() for _ in range(3)] == [0, 0, 0]
        scene.trainer.leave.release(5)
        wait_for(lambda: scene.row().state == "succeeded")
    assert len(scene.trainer.starts) == 1


def test_one_at_a_time_in_the_order_of_asking(scene: Scene) -> None:
    scene.fine_tune("ftjob-2", created_at=NOW + 1)
    scene.fine_tune("ftjob-1")
    with scene.workflows() as workflows:
        assert workflows.start_queued() == 1
        wait_for(lambda: scene.row("ftjob-1").state == "running")
        assert workflows.start_queued() == 0
        assert scene.row("ftjob-2").state == "queued"
        scene.trainer.leave.release(10)
        wait_for(lambda: scene.row("ftjob-1").state == "succeeded")
        assert workflows.start_queued() == 1
        wait_for(lambda: scene.row("ftjob-2").state == "succeeded")


def test_a_stopped_worker_goes_on_where_it_was(scene: Scene) -> None:
    scene.fine_tune()
    scene.trainer.leave.release(3)
    with scene.workflows() as workflows:
        workflows.start_queued()
        wait_for(lambda: len(scene.trainer.steps) == 3)
    assert scene.row().state == "running"
    scene.trainer.leave.release(5)
    with scene.workflows():
        wait_for(lambda: scene.row().state == "succeeded")
    assert scene.trainer.steps == [1, 2, 3, 4, 5]
    assert scene.trainer.starts[0] == scene.trainer.starts[1]


def test_another_replica_goes_on_when_it_takes_over(scene: Scene) -> None:
    scene.fine_tune()
    scene.trainer.leave.release(3)
    with scene.workflows("a") as workflows:
        workflows.start_queued()
        wait_for(lambda: len(scene.trainer.steps) == 3)
    scene.trainer.leave.release(5)
    with scene.workflows("b") as workflows:
        assert workflows.start_queued() == 0
        assert workflows.take_over("a") == 1
        wait_for(lambda: scene.row().state == "succeeded")
    assert scene.trainer.steps == [1, 2, 3, 4, 5]


def test_with_the_workflows_database_lost_it_goes_on_too(scene: Scene) -> None:
    scene.fine_tune()
    scene.trainer.leave.release(3)
    with scene.workflows() as workflows:
        workflows.start_queued()
        wait_for(lambda: len(scene.trainer.steps) == 3)
    for path in scene.shop.data.glob("workflows.db*"):
        path.unlink()
    scene.trainer.leave.release(5)
    with scene.workflows() as workflows:
        assert workflows.start_queued() == 1
        wait_for(lambda: scene.row().state == "succeeded")
    assert scene.trainer.steps == [1, 2, 3, 4, 5]


def test_a_refused_training_says_why(scene: Scene) -> None:
    scene.trainer.refusal = "base tiny has no chat template"
    scene.fine_tune()
    with scene.workflows() as workflows:
        workflows.start_queued()
        wait_for(lambda: scene.row().state == "failed")
    assert scene.row().error == "base tiny has no chat template"
    assert scene.row().student_id is None


def test_an_unknown_trainer_is_refused(scene: Scene) -> None:
    scene.fine_tune(trainer="nowhere")
    with scene.workflows() as workflows:
        workflows.start_queued()
        wait_for(lambda: scene.row().state == "failed")
    assert "no trainer 'nowhere'" in scene.row().error


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_cancelled_fine_tune_leaves_no_student(scene: Scene, when: str) -> None:
    scene.fine_tune(cancel_asked=when == "before")
    with scene.workflows() as workflows:
        workflows.start_queued()
        if when == "meanwhile":
            wait_for(lambda: scene.row().progress != {})
            with scene.store.write() as connection:
                connection.execute(update(tables.fine_tunes).values(cancel_asked=True))
            wait_for(lambda: bool(scene.trainer.cancelled))
            scene.trainer.leave.release(1)
        wait_for(lambda: scene.row().state == "cancelled")
    assert (scene.row().student_id, scene.row().ended_at) == (None, NOW)


def test_the_rows_file_is_the_same_bytes_each_time(scene: Scene) -> None:
    scene.fine_tune()
    rows = fine_tuning.folder_of(scene.shop, "ftjob-1") / "rows.jsonl"
    fine_tuning.write_rows(scene.shop, "ftjob-1")
    first = rows.read_bytes()
    fine_tuning.write_rows(scene.shop, "ftjob-1")
    assert rows.read_bytes() == first
