"""OpenAI's own distillation recipe with the unmodified SDK and nothing changed but `base_url`: stored completions,
a JSONL file of them, a fine-tuning job, its model called by name. Gateway, worker and student server are real."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.acceptance import small_world
from tests.fakes.chat_server import ChatServer
from tests.fakes.processes import free_port

ROWS = 12
VOCABULARY = 512  # of the tiny base
WITHIN_S = 400  # on a machine that is busy with other things; alone it takes seconds
CONFIG = """
[gateway]
port = {port}
metrics_port = {metrics_port}

[upstreams.provider]
base_url = "{url}"
training_allowed = true

[fine_tuning]
bases = ["tiny"]

[students]
first_port = {first_port}
"""
PROCESSES = ("gateway", "students.worker", "students.server")


@contextmanager
def stillhouse(folder: Path, url: str) -> Iterator[int]:
    """Its processes over a data folder; the gateway's port."""
    port, metrics_port, first_port = free_port(), free_port(), free_port()
    config = folder / "stillhouse.toml"
    config.write_text(CONFIG.format(port=port, metrics_port=metrics_port, first_port=first_port, url=url))
    with ExitStack() as running:
        for module in PROCESSES:
            log = running.enter_context((folder / f"{module}.log").open("wb"))
            line = [sys.executable, "-m", module, "--config", str(config), "--data", str(folder / "data")]
            process = subprocess.Popen(line, stdout=log, stderr=log)
            running.callback(_ended, process)
        yield port


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()


def until(met: Callable[[], Any], folder: Path) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while not (found := met()):
        logs = "\n".join((folder / f"{module}.log").read_text()[-1500:] for module in PROCESSES)
        assert time.monotonic() < deadline, logs
        time.sleep(0.2)
    return found


def ask(client: OpenAI, model: str, text: str, **more: Any) -> Any:
    messages: Any = [{"role": "system", "content": "Sort."}, {"role": "user", "content": text}]
    return client.chat.completions.create(model=model, messages=messages, **more)


def collect(client: OpenAI, path: Path, folder: Path) -> None:
    """The completions that were stored, as training lines."""
    tags = {"app": "recipe"}

    def stored() -> list[Any]:
        return list(client.chat.completions.list(model=small_world.MODEL, metadata=tags, limit=10))

    until(lambda: len(stored()) == ROWS, folder)
    with path.open("w") as lines:
        for completion in stored():
            asked = client.chat.completions.messages.list(completion.id)
            said = {"role": "assistant", "content": completion.choices[0].message.content}
            messages = [*({"role": one.role, "content": one.content} for one in asked), said]
            lines.write(json.dumps({"messages": messages}) + "\n")


@pytest.mark.timeout(1000)
def test_the_recipe(tmp_path: Path) -> None:
    def teacher(request: dict[str, Any]) -> Any:
        answer = json.dumps(small_world.read(request["messages"][-1]["content"]))
        return 200, {**completion_of(answer), "id": f"chatcmpl-{len(provider.requests)}"}

    with ChatServer(teacher) as provider, stillhouse(tmp_path, provider.url) as port:
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-client", max_retries=9)
        for ticket in islice(small_world.stream(5, ROWS, 0), ROWS):
            ask(client, small_world.MODEL, ticket.text, store=True, metadata={"app": "recipe"})

        collect(client, tmp_path / "distilled.jsonl", tmp_path)
        with (tmp_path / "distilled.jsonl").open("rb") as rows:
            file = client.files.create(file=rows, purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=file.id,
            suffix="recipe",
            seed=7,
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4}}},
        )

        def ended() -> FineTuningJob | None:
            now = client.fine_tuning.jobs.retrieve(job.id)
            return now if now.status in ("succeeded", "failed", "cancelled") else None

        done = until(ended, tmp_path)
        assert (done.status, done.error) == ("succeeded", None)
        events = client.fine_tuning.jobs.list_events(job.id, limit=50)
        losses = [one.data["train_loss"] for one in events if isinstance(one.data, dict) and one.type == "metrics"]
        assert 0 < losses[0] < math.log(VOCABULARY)  # the newest comes first: better than guessing a token
        assert done.trained_tokens > 0

        model = done.fine_tuned_model
        assert model.startswith("ft:tiny::recipe:")
        until(lambda: model in [one.id for one in client.models.list()], tmp_path)
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": "my invoice today"}], max_completion_tokens=16
        )
        assert raw.headers["x-stillhouse-arm"] == "student"
        assert raw.parse().choices[0].message.content is not None
        asked = [request["model"] for request in provider.requests]
        assert asked == [small_world.MODEL] * ROWS
        client.close()


def completion_of(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"object": "chat.completion", "created": 1, "model": small_world.MODEL, "choices": [choice]}
