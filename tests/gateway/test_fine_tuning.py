"""`/v1/fine_tuning/jobs` by the unmodified SDK: what is offered, refused, listed, cancelled; no worker takes part."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from sqlalchemy import select, update

from capture import keys
from capture.db import Store, open_store
from capture.ids import new_id
from capture.migrations import upgrade
from capture.settings import ViewSettings
from students.registry import Training, let_sleep, load_student, register_local, want
from students.tables import fine_tune_events, fine_tunes, student_servers
from tests.factories.routing import settings_of
from tests.fakes.gateway import GatewayServer
from tests.fakes.upstream import Conversation, ScriptedUpstream, response
from tests.gateway.test_files import client_of, lines

CONFIG = """
[gateway]
keys = "{keys}"
default_upstream = "far"

[upstreams.far]
base_url = "http://127.0.0.1:{port}/v1"
training_allowed = true
worker_key_env = "FAR_KEY"
fine_tuning = ["gpt-small*"]

[upstreams.shut]
base_url = "http://127.0.0.1:1/v1"
models = ["shut-*"]

[fine_tuning]
bases = ["tiny"]

[tasks.triage]
match = {{ metadata = {{ app = "triage" }} }}
teacher = {{ upstream = "far", model = "gpt-4.1" }}
training = {{ epochs = 7, learning_rate = 0.01, seed = 3 }}

[tasks.closed]
match = {{ metadata = {{ app = "closed" }} }}
teacher = {{ upstream = "shut", model = "gpt-4.1" }}
"""
FAR_JOB = {
    "id": "ftjob-far",
    "object": "fine_tuning.job",
    "created_at": 1,
    "model": "gpt-old",
    "status": "paused",
    "training_file": "file-far",
    "hyperparameters": {},
    "organization_id": "o",
    "result_files": [],
    "seed": 1,
}


def script(talk: Conversation) -> None:
    while (request := talk.read_request()) is not None:
        listing = request.start.startswith(b"GET /v1/fine_tuning/jobs?") or b"jobs HTTP" in request.start
        page: Any = {"object": "list", "data": [FAR_JOB], "has_more": False}
        found = page if listing and request.start.startswith(b"GET") else FAR_JOB
        talk.send(response(json.dumps(found).encode()))


@dataclass
class Scene:
    gateway: GatewayServer
    store: Store
    upstream: ScriptedUpstream

    def key(self, tasks: tuple[str, ...] = ()) -> OpenAI:
        secret, _ = keys.create(self.store, self.gateway.settings.data, "k", tasks, None, lambda: 1.0)
        self.gateway.app.state.snapshots.refresh()
        return client_of(self.gateway, **{"x-stillhouse-key": secret})

    def row(self, job_id: str) -> Any:
        with self.store.read() as connection:
            return connection.execute(select(fine_tunes).where(fine_tunes.c.id == job_id)).one()

    def change(self, job_id: str, **values: Any) -> None:
        with self.store.write() as connection:
            connection.execute(update(fine_tunes).where(fine_tunes.c.id == job_id).values(**values))


@contextmanager
def scene_of(folder: Path, mode: str) -> Iterator[Scene]:
    with ScriptedUpstream(script) as upstream:
        settings = settings_of(folder, CONFIG.format(keys=mode, port=upstream.port))
        store = open_store(settings.store_url)
        upgrade(store)
        with GatewayServer(settings) as gateway:
            yield Scene(gateway, store, upstream)
        store.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_of(tmp_path, "off") as scene:
        yield scene


@pytest.fixture
def client(scene: Scene) -> Iterator[OpenAI]:
    with client_of(scene.gateway) as client:
        yield client


@pytest.fixture
def file_id(client: OpenAI) -> str:
    return client.files.create(file=("f", lines()), purpose="fine-tune").id


def test_a_job_is_queued_as_it_was_asked_for(client: OpenAI, scene: Scene, file_id: str) -> None:
    held = client.files.create(file=("v", lines(3)), purpose="fine-tune").id
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file_id,
        validation_file=held,
        suffix="mine",
        seed=11,
        metadata={"task": "triage", "run": r"\u0000"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 0.5}},
        },
    )
    assert (job.status, job.model, job.training_file, job.validation_file) == ("queued", "tiny", file_id, held)
    assert (job.seed, job.metadata, job.fine_tuned_model) == (11, {"task": "triage", "run": r"\u0000"}, None)
    assert job.hyperparameters.n_epochs == 2
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    row = scene.row(job.id)
    assert (row.trainer, row.task, row.dataset_id, row.base) == ("local", "triage", None, "tiny")
    settings = row.settings
    assert (settings["epochs"], settings["learning_rate"], settings["seed"]) == (2, 0.005, 11)
    assert [one.message for one in client.fine_tuning.jobs.list_events(job.id)] == [f"Created job {job.id}"]
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []


def test_auto_means_the_tasks_own_settings(client: OpenAI, scene: Scene, file_id: str) -> None:
    auto: Any = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    tags = {"task": "triage"}
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file_id, hyperparameters=auto, metadata=tags)
    assert (scene.row(job.id).settings["epochs"], job.seed) == (7, 3)


def test_a_model_of_an_upstream_goes_to_its_trainer(client: OpenAI, scene: Scene, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model="gpt-small-2", training_file=file_id)
    assert scene.row(job.id).trainer == "far"
    assert scene.upstream.requests == []


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"model": "huge"}, 404, "cannot be fine-tuned here; these can: tiny, gpt-small"),
        ({"model": "shut-1"}, 404, "cannot be fine-tuned here"),
        ({"training_file": f"file-{'0' * 32}"}, 404, "No such File object"),
        ({"validation_file": f"file-{'0' * 32}"}, 404, "No such File object"),
        ({"metadata": {"task": "closed"}}, 400, "terms of task closed"),
        ({"method": {"type": "dpo"}}, 400, "'dpo' is not supported"),
        ({"method": {"type": "guess"}}, 400, "Invalid enum value 'guess'"),
        ({"hyperparameters": {"n_epochs": 51}}, 400, "n_epochs"),
        ({"hyperparameters": {"batch_size": 0}}, 400, "batch_size"),
        ({"suffix": "x" * 65}, 400, "length <= 64"),
        ({"metadata": {"k": "v" * 513}}, 400, "512 characters"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, 400, "integrations"),
        ({"seed": "no"}, 400, "seed"),
        ({"seed": 2**80}, 400, "int"),
        ({"suffix": "a\0"}, 400, "U+0000"),
    ],
)
def test_refused(client: OpenAI, scene: Scene, file_id: str, changes: dict[str, Any], status: int, reason: str) -> None:
    asked: dict[str, Any] = {"model": "tiny", "training_file": file_id, **changes}
    with pytest.raises(openai.APIStatusError) as refused:
        client.fine_tuning.jobs.create(**asked)
    assert refused.value.status_code == status
    assert reason in refused.value.message
    assert refused.value.type == "invalid_request_error"
    assert client.get("/fine_tuning/jobs?limit=1", cast_to=dict[str, Any])["data"][0]["id"] == "ftjob-far"


def test_too_few_lines(client: OpenAI) -> None:
    few = client.files.create(file=("f", lines(9)), purpose="fine-tune").id
    with pytest.raises(openai.BadRequestError, match=r"has 9 example\(s\), but must have at least 10"):
        client.fine_tuning.jobs.create(model="tiny", training_file=few)


def test_jobs_of_the_provider_are_its_own(client: OpenAI, scene: Scene) -> None:
    job = client.fine_tuning.jobs.create(model="gpt-old", training_file="file-far")
    assert (job.id, job.status) == ("ftjob-far", "paused")
    sent = scene.upstream.requests[-1]
    assert json.loads(sent.body) == {"model": "gpt-old", "training_file": "file-far"}
    assert sent.header(b"authorization") == b"Bearer sk-client"
    assert client.fine_tuning.jobs.retrieve("ftjob-far").model == "gpt-old"
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.fine_tuning.jobs.create(model="tiny", training_file="file-far")


def test_listed_newest_first_by_metadata_and_before_the_providers(client: OpenAI, file_id: str) -> None:
    made = [
        client.fine_tuning.jobs.create(model="tiny", training_file=file_id, metadata={"n": str(number % 2)}).id
        for number in range(4)
    ]
    page = client.fine_tuning.jobs.list(limit=3)
    assert ([one.id for one in page.data], page.has_more) == (made[:0:-1], True)
    after = client.fine_tuning.jobs.list(limit=3, after=made[1])
    assert ([one.id for one in after.data], after.has_more) == ([made[0], "ftjob-far"], False)
    tagged = client.fine_tuning.jobs.list(limit=2, metadata={"n": "1"})
    assert [one.id for one in tagged.data] == [made[3], made[1]]


def test_cancelled_at_once_while_it_waits(client: OpenAI, scene: Scene, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file_id)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert client.fine_tuning.jobs.list_events(job.id).data[0].message == "cancelled"
    with pytest.raises(openai.BadRequestError, match="already cancelled"):
        client.fine_tuning.jobs.cancel(job.id)


def test_asked_to_stop_while_it_runs(client: OpenAI, scene: Scene, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file_id)
    scene.change(job.id, state="running", progress={"seconds_left": 60.0})
    left_s = (client.fine_tuning.jobs.retrieve(job.id).estimated_finish or 0) - time.time()
    assert 0 < left_s <= 60
    assert client.fine_tuning.jobs.cancel(job.id).status == "running"
    assert scene.row(job.id).cancel_asked
    for verb in (client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.BadRequestError, match="cannot be paused"):
            verb(job.id)


def test_a_failed_job_says_why(client: OpenAI, scene: Scene, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file_id)
    scene.change(job.id, state="failed", error="9 usable rows (3 too long)", ended_at=5.0)
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert (failed.status, failed.finished_at) == ("failed", 5)
    assert failed.error is not None
    assert failed.error.message == "9 usable rows (3 too long)"


def finished(scene: Scene, job_id: str, key_id: str | None = None) -> str:
    """As the worker leaves a job."""
    made = Training(
        job_id, "", "tiny", None, "students/x", "abc", ViewSettings(), [], False, suffix="mine", key_id=key_id
    )
    student = register_local(scene.store, made, lambda: 1.0)
    progress = {"step": 6, "total_steps": 6, "loss": 0.5, "validation_loss": 0.6}
    scene.change(job_id, state="succeeded", student_id=student.id, trained_tokens=99, ended_at=9.0, progress=progress)
    event = {"id": new_id("ftevent-"), "fine_tune_id": job_id, "at": 8.0, "level": "info", "message": "step 6"}
    with scene.store.write() as connection:
        connection.execute(fine_tune_events.insert().values(**event, data=progress))
    return student.name


def test_a_finished_job_names_its_model_and_metrics(client: OpenAI, scene: Scene, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file_id)
    name = finished(scene, job.id)
    assert name.startswith("ft:tiny::mine:")
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert (done.status, done.fine_tuned_model, done.trained_tokens, done.finished_at) == ("succeeded", name, 99, 9)
    event = client.fine_tuning.jobs.list_events(job.id, limit=1)
    assert (event.has_more, event.data[0].type) == (True, "metrics")
    assert event.data[0].data == {"step": 6, "total_steps": 6, "train_loss": 0.5, "full_valid_loss": 0.6}
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert (checkpoint.fine_tuned_model_checkpoint, checkpoint.step_number) == (name, 6)
    assert checkpoint.metrics.full_valid_loss == 0.6


def test_each_key_sees_its_own_jobs_and_models(tmp_path: Path) -> None:
    with scene_of(tmp_path, "required") as scene, scene.key() as one, scene.key() as other:
        file = one.files.create(file=("f", lines()), purpose="fine-tune").id
        job = one.fine_tuning.jobs.create(model="tiny", training_file=file)
        calls: list[Callable[[str], Any]] = [
            other.fine_tuning.jobs.retrieve,
            other.fine_tuning.jobs.cancel,
            other.fine_tuning.jobs.list_events,
            other.fine_tuning.jobs.checkpoints.list,
        ]
        for call in calls:
            with pytest.raises(openai.NotFoundError, match="Could not find fine tune"):
                call(job.id)
        assert job.id not in [found.id for found in other.fine_tuning.jobs.list()]
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            other.fine_tuning.jobs.create(model="tiny", training_file=file)
        name = finished(scene, job.id, scene.row(job.id).key_id)
        registry_wants(scene, name)
        asked: Any = {"model": name, "messages": [{"role": "user", "content": "x"}]}
        with pytest.raises(openai.NotFoundError):
            other.chat.completions.create(**asked)
        with pytest.raises(openai.InternalServerError, match="not being served") as away:
            one.chat.completions.create(**asked)
        assert away.value.response.headers["retry-after"] == "5"


def test_a_model_that_sleeps_is_woken_by_whoever_asks_for_it(client: OpenAI, scene: Scene, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file_id)
    name = finished(scene, job.id)
    registry_wants(scene, name)
    student = load_student(scene.store, name)
    assert let_sleep(scene.store, 60, lambda: 60.0) == 0
    assert let_sleep(scene.store, 60, lambda: 61.0) == 1
    scene.gateway.app.state.snapshots.refresh()
    assert name not in [model.id for model in client.models.list()]
    with pytest.raises(openai.InternalServerError, match="not being served"):
        client.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}])
    deadline = time.monotonic() + 30
    while (asked_at := wanted_at(scene, student.id)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert asked_at > 1_000_000


def test_a_model_that_its_upstream_trained_is_asked_there_as_it_is(client: OpenAI, scene: Scene, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model="gpt-small-1", training_file=file_id)
    name = "ft:gpt-small-1:org::abc"
    made = Training(job.id, "", "gpt-small-1", None, None, None, ViewSettings(), [], True, "far", name)
    student = register_local(scene.store, made, lambda: 1.0)
    scene.change(job.id, state="succeeded", student_id=student.id)
    scene.gateway.app.state.snapshots.refresh()
    assert client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model == name
    asked: Any = {"messages": [{"role": "developer", "content": "x"}], "reasoning_effort": "low", "n": 3}
    client.chat.completions.create(model=name, **asked)
    sent = scene.upstream.requests[-1]
    assert json.loads(sent.body) == {"model": name, **asked}
    assert sent.header(b"authorization") == b"Bearer sk-client"
    assert name in [model.id for model in client.models.list()]


def test_what_others_want_served_does_not_sleep(scene: Scene) -> None:
    made = Training("ftjob-x", "triage", "tiny", "ds_1", "students/x", "abc", ViewSettings(), [], False)
    student = register_local(scene.store, made, lambda: 1.0)
    want(scene.store, student.id, lambda: 1.0)
    assert let_sleep(scene.store, 60, lambda: 1000.0) == 0


def wanted_at(scene: Scene, student_id: str) -> float | None:
    with scene.store.read() as connection:
        query = select(student_servers.c.wanted_at).where(student_servers.c.student_id == student_id)
        found: float | None = connection.execute(query).scalar_one()
        return found


def registry_wants(scene: Scene, name: str) -> None:

    want(scene.store, load_student(scene.store, name).id, lambda: 1.0)
    scene.gateway.app.state.snapshots.refresh()


def test_a_key_for_certain_tasks_has_to_name_one(tmp_path: Path) -> None:
    with scene_of(tmp_path, "required") as scene, scene.key(("triage",)) as client:
        file = client.files.create(file=("f", lines()), purpose="fine-tune").id
        with pytest.raises(openai.BadRequestError, match=r"name one of triage in metadata\.task"):
            client.fine_tuning.jobs.create(model="tiny", training_file=file)
        job = client.fine_tuning.jobs.create(model="tiny", training_file=file, metadata={"task": "triage"})
        assert scene.row(job.id).task == "triage"
