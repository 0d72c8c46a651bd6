"""Jobs on clients' files, from the queue to the student: by the local trainer's stand-in, and by a real hosted one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from capture.errors import NotFoundError, RefusedError
from capture.prompts import hashed
from capture.settings import FineTuningSettings, PriceSettings, Settings, UpstreamSettings, ViewSettings
from students import fine_tuning
from students.job_files import Upload, delete_file, keep, list_files, path_of
from students.job_rows import viewed
from students.jobs import Asked, Client, cancel_job, create_job, list_events, list_jobs, load_job
from students.registry import load_student, server_of
from students.training.hosted import HostedTrainer, Pace
from tests.factories.store import add_exchange, new_store
from tests.fakes.tuning_server import TuningServer
from tests.students.test_workflows import NOW, Scene, wait_for

ANYBODY = Client()
PACE = Pace(poll_s=0.01, longest_pause_s=0.02, settle_s=0.5, patience_s=60, timeout_s=1)
ANSWER = {"role": "assistant", "content": "billing"}


def line(number: int, **more: Any) -> dict[str, Any]:
    asked = [{"role": "developer", "content": "Sort."}, {"role": "user", "content": f"ticket {number}"}]
    return {"messages": [*asked, ANSWER], **more}


class JobScene(Scene):
    """A store and workflows, with an upstream that trains."""

    def __init__(self, folder: Path, server: TuningServer) -> None:
        store = new_store(folder)
        super().__init__(store, folder)
        far = UpstreamSettings(
            base_url=server.url, training_allowed=True, worker_key_env="TUNING_KEY", fine_tuning=("small-*",)
        )
        known = {**self.shop.settings.upstreams, "far": far}
        prices = {"small-1": PriceSettings(input=1, output=1, training=2)}
        bases = FineTuningSettings(bases=("tiny",))
        self.shop.settings = Settings(data=self.shop.data, upstreams=known, fine_tuning=bases, prices=prices)
        hosted = HostedTrainer("far", far, store, prices, self.shop.pause, PACE)
        self.shop.trainers = {"local": self.trainer, "far": hosted}

    def file(self, lines: list[dict[str, Any]], key_id: str | None = None) -> str:
        folder = self.shop.data / "files"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "upload.new"
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
        return keep(self.store, self.shop.data, Upload(path, "f.jsonl", key_id), FineTuningSettings(), lambda: NOW)

    def job(self, lines: list[dict[str, Any]], client: Client = ANYBODY, **asked: Any) -> str:
        wish = Asked(**{"model": "tiny", "training_file": self.file(lines, client.key_id), **asked})
        return create_job(self.store, self.shop.settings, self.shop.load_tasks(), wish, client, lambda: NOW)

    def rows_of(self, job_id: str) -> list[dict[str, Any]]:
        text = (fine_tuning.folder_of(self.shop, job_id) / "rows.jsonl").read_bytes()
        return [msgspec.json.decode(one) for one in text.splitlines()]

    def ended(self, job_id: str) -> Any:
        with self.workflows() as workflows:
            workflows.start_queued()
            wait_for(lambda: self.row(job_id).state in fine_tuning.FINISHED)
        return self.row(job_id)


@pytest.fixture
def server() -> Iterator[TuningServer]:
    with TuningServer() as server:
        yield server


@pytest.fixture
def scene(tmp_path: Path, server: TuningServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobScene]:
    monkeypatch.setenv("TUNING_KEY", "sk-tuning")
    scene = JobScene(tmp_path, server)
    scene.trainer.leave.release(50)
    yield scene
    scene.client.close()
    scene.store.close()


def test_a_clients_file_becomes_its_own_student(scene: JobScene) -> None:
    held = scene.file([line(99)], "key-1")
    job_id = scene.job([line(n) for n in range(12)], Client("key-1"), suffix="my triage", validation_file=held, seed=4)
    row = scene.ended(job_id)
    assert (row.state, row.error) == ("succeeded", None)
    student = load_student(scene.store, row.student_id)
    assert student.name.startswith("ft:tiny::my-triage:")
    assert (student.key_id, student.task, student.dataset_id, student.kind) == ("key-1", "", None, "local")
    assert (student.view.context_tokens, student.view.max_tokens) == (2048, 1024)
    assert server_of(scene.store, student.id) is not None
    (plan,) = scene.trainer.starts
    assert (plan.seed, plan.name, len(plan.validation_rows)) == (4, job_id, 1)
    rows = scene.rows_of(job_id)
    assert [one["role"] for one in rows[0]["messages"]] == ["system", "user", "assistant"]
    assert len(rows) == 12
    assert load_job(scene.store, job_id, "key-1").model == student.name
    with pytest.raises(NotFoundError):
        load_job(scene.store, job_id, "key-2")


def test_a_job_for_a_task_sees_what_its_students_see(scene: JobScene) -> None:
    job_id = scene.job([line(n) for n in range(12)], metadata={"task": "triage"})
    row = scene.ended(job_id)
    student = load_student(scene.store, row.student_id)
    assert (student.task, student.view.max_tokens) == ("triage", 99)
    assert student.name.startswith("ft:tiny:triage::")


def test_weights_stay_with_their_messages_whatever_is_dropped() -> None:
    messages = [
        {"role": "system", "content": "Sort."},
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {**ANSWER, "weight": 0},
        {"role": "user", "content": "b"},
        {**ANSWER, "weight": 1},
    ]
    seen = viewed({"messages": messages}, ViewSettings(system_prompt="drop"), tools=False)
    assert seen["messages"] == [{"role": "user", "content": "a"}, *messages[2:]]


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]}, "line 13 .* more than text"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [CALL]}]}, "knows none"),
        (line(1, tools=[{"type": "function", "function": {"name": "f"}}]), "base tiny knows none"),
    ],
)
def test_what_this_base_cannot_learn_fails_with_its_reason(scene: JobScene, bad: dict[str, Any], reason: str) -> None:
    row = scene.ended(scene.job([*(line(n) for n in range(12)), bad]))
    assert (row.state, row.student_id) == ("failed", None)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(row.error)


def test_a_file_that_was_deleted_before_its_job_began(scene: JobScene) -> None:
    job_id = scene.job([line(n) for n in range(12)])
    (file,) = list_files(scene.store, None, NOW, after=None, limit=9, newest_first=True)
    delete_file(scene.store, scene.shop.data, file.id, None, NOW)
    row = scene.ended(job_id)
    assert (row.state, "was deleted" in row.error) == ("failed", True)


def test_a_lost_file_is_no_silent_success(scene: JobScene) -> None:
    job_id = scene.job([line(n) for n in range(12)])
    shutil.rmtree(scene.shop.data / "files")
    assert scene.ended(job_id).state == "failed"
    assert not path_of(scene.shop.data, "file-x").exists()


def test_a_hosted_job_becomes_a_student_at_its_upstream(scene: JobScene, server: TuningServer) -> None:
    lines = [line(n) for n in range(12)]
    job_id = scene.job(lines, Client("key-1"), model="small-1", suffix="mine")
    row = scene.ended(job_id)
    assert (row.state, row.error, row.trained_tokens, row.cost_usd) == ("succeeded", None, 2_000_000, 4.0)
    student = load_student(scene.store, row.student_id)
    assert (student.name, student.kind, student.key_id) == ("ft:small-1:org::1", "registered", "key-1")
    assert (student.upstream, student.upstream_model, student.folder) == ("far", "ft:small-1:org::1", None)
    assert server_of(scene.store, student.id) is None
    assert scene.rows_of(job_id) == lines  # as they came: nobody's view is between
    said = [event.message for event in list_events(scene.store, job_id, after=None, limit=50)][::-1]
    assert said[:2] == [f"Created job {job_id}", f"12 training rows from file {row.asked['training_file']}"]
    assert "tokens to train on, about 0.00 USD" in said[2]
    assert "job ftjob-1 at far" in said
    (job,) = server.jobs.values()
    assert job["asked"]["suffix"] == "mine"


def test_a_hosted_job_outlives_its_worker(scene: JobScene, server: TuningServer) -> None:
    server.statuses = ["queued", *["running"] * 100_000]
    job_id = scene.job([line(n) for n in range(12)], model="small-1")
    with scene.workflows() as workflows:
        workflows.start_queued()
        wait_for(lambda: server.calls["job"] > 3)
    assert scene.row(job_id).state == "running"
    server.statuses = ["succeeded"]
    for job in server.jobs.values():
        job["looks"] = -1
    with scene.workflows():
        wait_for(lambda: scene.row(job_id).state == "succeeded")
    assert (len(server.jobs), len(server.files)) == (1, 1)


def test_what_runs_at_an_upstream_keeps_nothing_here_waiting(scene: JobScene, server: TuningServer) -> None:
    server.statuses = ["running"]
    far = scene.job([line(n) for n in range(12)], model="small-1")
    near = scene.job([line(n) for n in range(12)])
    with scene.workflows() as workflows:
        workflows.start_queued()
        wait_for(lambda: scene.row(near).state == "succeeded")
        assert scene.row(far).state == "running"
        cancel_job(scene.store, far, None, lambda: NOW)
        wait_for(lambda: scene.row(far).state == "cancelled")
    assert [job["status"] for job in server.jobs.values()] == ["cancelled"]
    assert [job.id for job in list_jobs(scene.store, None, after=None, limit=9, tags={})] == [near, far]


def test_terms_and_keys_are_asked_before_anything_is_queued(scene: JobScene) -> None:
    upstream = scene.shop.settings.upstreams["far"].model_copy(update={"training_allowed": False})
    known = {**scene.shop.settings.upstreams, "far": upstream}
    scene.shop.settings = scene.shop.settings.model_copy(update={"upstreams": known})
    with pytest.raises(RefusedError, match="training_allowed = false"):
        scene.job([line(n) for n in range(12)], model="small-1")
    with pytest.raises(RefusedError, match=r"name one of other in metadata\.task"):
        scene.job([line(n) for n in range(12)], Client("key-1", ("other",)), metadata={"task": "triage"})


def captured(scene: JobScene, upstream: str, number: int, said: str) -> None:
    request = {"messages": line(number)["messages"][:-1]}
    digest = hashed("content", f"ticket {number}")
    add_exchange(scene.store, request=request, answer=said, upstream=upstream, content_hash=digest)


def test_answers_of_a_provider_that_forbids_training_are_found_in_a_file(scene: JobScene) -> None:
    shut = UpstreamSettings(base_url="http://127.0.0.1:1/v1")
    known = {**scene.shop.settings.upstreams, "shut": shut}
    scene.shop.settings = scene.shop.settings.model_copy(update={"upstreams": known})
    lines = [line(n) for n in range(12)]
    for upstream, number, said in (("shut", 3, "another"), ("shut", 5, "billing"), ("stand-in", 5, "billing")):
        captured(scene, upstream, number, said)
    first, second = scene.job(lines), scene.job([*lines, line(13)])
    assert scene.ended(first).state == "succeeded"
    captured(scene, "shut", 13, "billing")
    row = scene.ended(second)
    assert (row.state, "line 13 of " in row.error, "'shut', whose terms" in row.error) == ("failed", True, True)
