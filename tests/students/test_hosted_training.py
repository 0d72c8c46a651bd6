"""Training at an upstream, against a server that fails at every step: never two jobs, never a lost result."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from capture.db import Store
from capture.errors import OperationError, RefusedError, UpstreamAwayError
from capture.settings import PriceSettings, UpstreamSettings
from students.tables import hosted_runs
from students.training import Artefact, Progress, TrainingPlan
from students.training.hosted import HostedTrainer, Pace
from tests.factories.store import new_store
from tests.fakes.tuning_server import Fault, TuningServer

PACE = Pace(poll_s=0.01, longest_pause_s=0.02, settle_s=0.5, patience_s=60, timeout_s=0.15)
HASTY = replace(PACE, settle_s=0.0, patience_s=0.1, timeout_s=0.05)
STEPS = ["upload", "file", "files", "create", "jobs", "job", "events"]
FAULTS: list[Fault] = ["500", "429", "lost", "hang", "nonsense", "html"]


class Scene:
    def __init__(self, store: Store, server: TuningServer, folder: Path) -> None:
        self.store, self.server, self.folder = store, server, folder

    def trainer(self, pace: Pace = PACE, *, training_allowed: bool = True, base_url: str = "") -> HostedTrainer:
        settings = UpstreamSettings(
            base_url=base_url or self.server.url, worker_key_env="TUNING_KEY", training_allowed=training_allowed
        )
        return HostedTrainer(
            "far", settings, self.store, {"small-*": PriceSettings(input=1, output=2, training=3)}, pace=pace
        )

    def plan(self, name: str = "ftjob-a", rows: int = 12, text: str = "ticket") -> TrainingPlan:
        file = self.folder / f"{name}.jsonl"
        lines = (
            {"messages": [{"role": "user", "content": f"{text} {n}"}, {"role": "assistant", "content": "billing"}]}
            for n in range(rows)
        )
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return TrainingPlan(
            base="small-1",
            base_name="small-1",
            rows=(str(file),),
            folder="",
            run_folder="",
            name=name,
            suffix="mine",
            seed=5,
            hyperparameters={"n_epochs": 2, "batch_size": "auto"},
        )

    def trained(
        self, trainer: HostedTrainer | None = None, plan: TrainingPlan | None = None
    ) -> tuple[list[Progress], Artefact]:
        trainer = trainer or self.trainer()
        run = trainer.start(plan or self.plan())
        told = list(trainer.watch(run))
        made = trainer.artefact(run)
        assert made is not None
        return told, made


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("TUNING_KEY", "sk-tuning")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody")
    store = new_store(tmp_path)
    with TuningServer() as server:
        yield Scene(store, server, tmp_path)
    store.close()


def test_a_job_with_everything_that_was_asked_for(scene: Scene) -> None:
    told, made = scene.trained()
    (job,) = scene.server.jobs.values()
    assert job["asked"] == {
        "model": "small-1",
        "training_file": "file-1",
        "metadata": {"stillhouse_run": "ftjob-a"},
        "suffix": "mine",
        "seed": 5,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    }
    assert (made.model, made.trained_tokens, made.rows, made.cost_usd) == ("ft:small-1:org::1", 2_000_000, 12, 6.0)
    assert (made.steps, made.loss) == (4, 0.2)
    said = [one.said for one in told if one.said]
    assert said == ["job ftjob-1 at far", *(f"step {number}" for number in range(5))]
    sent = scene.server.headers[0]
    assert sent["authorization"] == "Bearer sk-tuning"
    assert "openai-organization" not in sent


def test_what_it_would_take(scene: Scene) -> None:
    estimate = scene.trainer().estimate(scene.plan())
    assert estimate.rows == 12
    assert 12 * 2 * 10 < estimate.tokens < 12 * 2 * 16
    assert estimate.cost_usd == pytest.approx(estimate.tokens * 3e-6)
    other = HostedTrainer("far", UpstreamSettings(base_url="http://127.0.0.1:1/v1"), scene.store, {})
    assert other.estimate(scene.plan()).cost_usd is None


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
def test_one_job_and_its_result_whatever_fails(scene: Scene, step: str, fault: Fault) -> None:
    scene.server.fail(step, fault, times=2)
    _, made = scene.trained()
    assert made.model == "ft:small-1:org::1"
    assert len(scene.server.jobs) == 1
    assert len(scene.server.files) == 1


def test_everything_fails_at_once(scene: Scene) -> None:
    for step in STEPS:
        for fault in FAULTS:
            scene.server.fail(step, fault)
    scene.trained()
    assert (len(scene.server.jobs), len(scene.server.files)) == (1, 1)


def test_a_request_that_arrives_when_nobody_waits_any_more(scene: Scene) -> None:
    scene.server.fail("create", "late")
    _, made = scene.trained()
    assert (made.model, len(scene.server.jobs)) == ("ft:small-1:org::1", 1)


def test_one_that_arrives_later_than_anybody_could_expect_is_cancelled(scene: Scene) -> None:
    scene.server.statuses = ["queued", *["running"] * 30, "succeeded"]
    scene.server.fail("create", "late")
    trainer = scene.trainer(HASTY)
    run = trainer.start(scene.plan())
    list(trainer.watch(run))
    going = [job for job in scene.server.jobs.values() if job["status"] != "cancelled"]
    assert len(going) == 1


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_a_worker_that_was_killed_anywhere_goes_on_with_the_same_job(scene: Scene, stop_after: int) -> None:
    scene.server.fail("create", "lost")
    plan = scene.plan()
    first = scene.trainer()
    watched = first.watch(first.start(plan))
    for _ in range(stop_after):
        next(watched)
    watched.close()
    _, made = scene.trained(scene.trainer(), plan)
    assert made.model == "ft:small-1:org::1"
    assert (len(scene.server.jobs), len(scene.server.files)) == (1, 1)


def test_with_its_memory_lost_the_job_is_found_by_its_metadata(scene: Scene) -> None:
    scene.trained()
    with scene.store.write() as connection:
        connection.execute(hosted_runs.delete())
    _, made = scene.trained()
    assert (made.model, len(scene.server.jobs)) == ("ft:small-1:org::1", 1)


def test_a_server_without_metadata(scene: Scene) -> None:
    scene.server.keeps_metadata = False
    scene.server.fail("create", "lost")
    scene.trained()
    scene.trained(plan=scene.plan("ftjob-b"))  # the same rows: another run, hence another job
    assert (len(scene.server.jobs), len(scene.server.files)) == (2, 1)


def test_a_server_that_lists_no_jobs_is_asked_once(scene: Scene) -> None:
    scene.server.lists_jobs = False
    scene.trained()
    scene.server.fail("create", "lost")
    with pytest.raises(OperationError, match="lists no jobs, so whether the one of ftjob-b was created cannot be told"):
        scene.trained(plan=scene.plan("ftjob-b"))
    assert len(scene.server.jobs) == 2


def test_azure(scene: Scene) -> None:
    scene.server.preparing = 3
    settings = UpstreamSettings(
        base_url=scene.server.url,
        kind="azure",
        worker_key_env="TUNING_KEY",
        training_allowed=True,
        api_version="2025-1",
    )
    _, made = scene.trained(HostedTrainer("far", settings, scene.store, {}, pace=PACE))
    assert (made.model, made.cost_usd, scene.server.calls["upload"]) == ("ft:small-1:org::1", None, 1)
    assert all(sent["api-key"] == "sk-tuning" and "authorization" not in sent for sent in scene.server.headers)
    assert all("api-version=2025-1" in query for query in scene.server.queries)


def test_the_same_rows_are_uploaded_once(scene: Scene) -> None:
    scene.trained()
    scene.trained(plan=scene.plan("ftjob-b"))
    scene.trained(plan=scene.plan("ftjob-c", text="other"))
    assert len(scene.server.files) == 2
    assert [job["training_file"] for job in scene.server.jobs.values()] == ["file-1", "file-1", "file-2"]


def test_a_file_that_was_deleted_there_is_uploaded_again(scene: Scene) -> None:
    scene.trained()
    scene.server.files.clear()
    scene.server.files["file-0"] = {"id": "file-0", "filename": "another", "status": "processed"}
    scene.trained(plan=scene.plan("ftjob-b"))
    assert list(scene.server.files) == ["file-0", "file-2"]


def test_a_job_that_fails_says_why(scene: Scene) -> None:
    scene.server.statuses = ["running", "failed"]
    scene.server.failure = {"code": "bad", "message": "the loss is a nonsense", "param": None}
    with pytest.raises(OperationError, match="job ftjob-1 failed: the loss is a nonsense"):
        scene.trained()


@pytest.mark.parametrize("when", ["before", "meanwhile", "away"])
def test_cancelled(scene: Scene, when: str) -> None:
    scene.server.statuses = ["running"]
    trainer = scene.trainer(base_url="http://127.0.0.1:1/v1" if when == "away" else "")
    run = trainer.start(scene.plan())
    watched = trainer.watch(run)
    if when != "before":
        next(watched)
    trainer.cancel(run)
    list(watched)
    assert trainer.artefact(run) is None
    assert [job["status"] for job in scene.server.jobs.values()] == ["cancelled"] * (when == "meanwhile")


def test_one_that_succeeded_before_the_wish_to_cancel_keeps_its_result(scene: Scene) -> None:
    scene.server.statuses = ["succeeded"]
    trainer = scene.trainer()
    run = trainer.start(scene.plan())
    next(trainer.watch(run))
    scene.server.look("ftjob-1")
    scene.server.fail("cancel", "401")
    trainer.cancel(run)
    list(trainer.watch(run))
    assert trainer.artefact(run) is not None


def test_refused_before_anything_is_sent(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError, match="training_allowed = false"):
        scene.trainer(training_allowed=False).start(scene.plan())
    with pytest.raises(RefusedError, match="9 rows, at least 10"):
        scene.trainer().start(scene.plan(rows=9))
    monkeypatch.delenv("TUNING_KEY")
    with pytest.raises(RefusedError, match="worker_key_env"):
        scene.trainer().start(scene.plan())
    assert not scene.server.calls


def test_a_key_that_is_not_good_ends_it_while_no_job_can_be_there(scene: Scene) -> None:
    scene.server.fail("jobs", "401")
    with pytest.raises(RefusedError, match="status 401"):
        scene.trained()


def test_a_key_that_is_rotated_meanwhile_does_not(scene: Scene) -> None:
    scene.server.fail("job", "401", times=10)
    told, _ = scene.trained()
    assert sum("status 401" in (one.said or "") for one in told) == 1


def test_a_server_that_stays_away_is_given_up(scene: Scene) -> None:
    with pytest.raises(UpstreamAwayError, match="given up"):
        scene.trained(scene.trainer(HASTY, base_url="http://127.0.0.1:1/v1"))


def test_success_without_a_model_is_nonsense(scene: Scene) -> None:
    trainer = scene.trainer(HASTY)
    run = trainer.start(scene.plan())
    next(trainer.watch(run))
    (job,) = scene.server.jobs.values()
    job.update(finished_at=1, status="succeeded")
    with pytest.raises(UpstreamAwayError, match="names no model"):
        list(trainer.watch(run))


def test_what_it_remembers_holds_no_rows_and_no_key(scene: Scene) -> None:
    scene.trained()
    with scene.store.read() as connection:
        kept = repr(connection.execute(select(hosted_runs)).all())
    assert "ticket" not in kept
    assert "sk-tuning" not in kept
