"""One view: training, evaluation, shadow and serving show a student the very same tokens of a request."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from transformers import AutoTokenizer

from capture.datasets import Row
from capture.settings import Settings, UpstreamSettings, ViewSettings
from gateway.arms import Asked, student_leg
from students import bases
from students.answering import asking
from students.clients import Client, student_target
from students.exams import Exam
from students.job_rows import line_of
from students.pairing import Pairer
from students.registry import register_upstream
from students.sittings import sittings
from students.training.rows import encode_row
from students.view import StudentFacts
from students.workshop import Workshop
from tests.factories.routing import settings_of, snapshot_of, student_of
from tests.factories.store import new_store
from tests.fakes.chat_server import ChatServer

TARGET = {"role": "assistant", "content": '{"category": "billing"}'}
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {"messages": [{"role": "system", "content": "Sort."}, {"role": "user", "content": "the card is gone"}]},
    "reasoning": {
        "messages": [
            {
                "role": "developer",
                "content": [{"type": "text", "text": "Sort."}, {"type": "text", "text": "Be brief."}],
            },
            {"role": "user", "content": "the card is gone", "name": "ann"},
            {"role": "assistant", "content": "Which one?", "refusal": None},
            {"role": "user", "content": [{"type": "text", "text": "the blue one"}]},
        ],
        "max_completion_tokens": 40,
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
        "temperature": 0.3,
    },
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(bases.pull("tiny", tmp_path_factory.mktemp("models")))


@pytest.mark.usefixtures("worker_key")
@pytest.mark.parametrize("system_prompt", ["keep", "drop"])
@pytest.mark.parametrize("name", list(REQUESTS))
def test_all_four_show_the_same_tokens(
    tmp_path: Path, tokenizer: Any, client: Client, name: str, system_prompt: Any
) -> None:
    request = REQUESTS[name]
    view = ViewSettings(system_prompt=system_prompt)
    store = new_store(tmp_path)
    row = Row(exchange_id="a" * 32, request=request, target=TARGET, conversation="c", started_at=0.0)
    with ChatServer(lambda _: TARGET["content"]) as server:
        upstreams = {"own": UpstreamSettings(base_url=server.url, worker_key_env="WORKER_KEY")}
        settings = Settings(upstreams=upstreams)
        student = register_upstream(store, "triage", "small", ("own", upstreams), view, lambda: 0.0)
        (sitting,) = sittings([student], (), greedy=False, shots=())
        shop: Any = SimpleNamespace(client=client)
        asking(shop, student_target(settings, student, None), sitting.body)(Exam(row, None, None))  # type: ignore[arg-type]
        redact: Any = None
        pairer = Pairer(Workshop(store, settings, client, dict, lambda: 0.0), redact)
        found: Any = SimpleNamespace(
            kind="shadow",
            request=request,
            watched=SimpleNamespace(student=student, rollout=SimpleNamespace(task="triage")),
        )
        pairer._ask_student(found)
        evaluated, shadowed = server.requests
    store.close()
    served = _served(request, view, tmp_path)
    lesson = encode_row(line_of(row, view, tools=False), tokenizer)
    assert lesson is not None
    last = max(at for at, taught in enumerate(lesson.learnt) if not taught)  # before the last answer begins
    learnt = list(lesson.ids[: last + 1])
    assert [_prompt(tokenizer, body) for body in (evaluated, shadowed, served)] == [learnt] * 3
    bodies = [
        {key: value for key, value in one.items() if key not in ("path", "model")} for one in (evaluated, shadowed)
    ]
    assert bodies == [{key: value for key, value in served.items() if key != "model"}] * 2


def _served(request: dict[str, Any], view: ViewSettings, folder: Path) -> dict[str, Any]:
    """The body that the gateway sends to the student."""
    live = student_of(facts=StudentFacts(frozenset(), tools=False, view=view))
    asked = Asked(
        task="triage",
        route="chat.completions",
        request=request,
        headers=(),
        upstream="own",
        fingerprint=None,
        session=None,
        stream=False,
    )
    leg = student_leg(live, asked, snapshot_of(settings_of(folder)))
    assert leg is not None
    body: dict[str, Any] = msgspec.json.decode(leg.body or b"")
    return body


def _prompt(tokenizer: Any, body: dict[str, Any]) -> list[int]:
    """As a server renders it."""
    ids: list[int] = tokenizer.apply_chat_template(
        body["messages"], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return ids
