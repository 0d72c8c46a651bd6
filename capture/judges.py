"""Asking judges: through the `openai` SDK, only where a task allows it, within its caps, and once for each question."""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import httpx2
import openai
import structlog
from sqlalchemy import select

from capture.assemble import answer_from, json_object
from capture.db import Store, upsert
from capture.errors import JudgeAwayError
from capture.exchange import Answer, Usage
from capture.graders.means import Question
from capture.prices import cost_usd
from capture.sdk import open_client, remaining
from capture.settings import Settings, TaskSettings, secret
from capture.tables import judgements

PURPOSE = "judge"
ATTEMPTS = 3
"""Tries for an answer that can be understood; the SDK repeats what failed on the way by itself."""

RETRIES = 2
TIMEOUT_S = 60.0

_REFUSED = (openai.BadRequestError, openai.UnprocessableEntityError)

_log = structlog.get_logger(__name__)


class Purse(Protocol):
    """What background calls may cost, and what they did."""

    def obstacle(
        self, task: str, upstream: str, cap_usd: float | None, purposes: Sequence[str] = ...
    ) -> str | None: ...

    def note_remaining(self, upstream: str, remaining: float | None) -> None: ...

    def write(self, task: str, purpose: str, upstream: str, model: str, answer: Answer) -> None: ...


class TaskJudges:
    """The judges of one task for one run: a context that holds its connections. Thread-safe."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        task: tuple[str, TaskSettings],
        purse: Purse,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._settings, self._purse, self._clock = store, settings, purse, clock
        self._name, self._task = task
        self._spent_usd = 0.0
        self._clients: dict[str, openai.OpenAI] = {}
        self._opened = ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> "TaskJudges":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def verdict(self, question: Question) -> float | None:
        """A score in [0, 1], from memory where this was asked before; None where the judge said nothing usable.

        Raises JudgeAwayError while it cannot be asked.
        """
        known = self._known(question)
        if known is not None:
            return known
        upstream, model = str(question.settings.upstream), str(question.settings.model)
        client = self._client(upstream, self._admitted(upstream))
        for _ in range(ATTEMPTS):
            try:
                said = self._asked(client, question, upstream, model)
            except _REFUSED as error:  # the same question would be refused again
                _log.warning("a judge refused a question", **self._of(question), status=error.status_code)
                return None
            value = question.read(said)
            if value is not None:
                self._remember(question, value)
                return value
        _log.warning("a judge gave no verdict", **self._of(question), attempts=ATTEMPTS)
        return None

    def _of(self, question: Question) -> dict[str, str]:
        return {"task": self._name, "grader": question.grader}

    def _client(self, upstream: str, key: str) -> openai.OpenAI:
        with self._lock:
            if upstream not in self._clients:
                known = self._settings.upstreams[upstream]
                made = open_client(known, key, retries=RETRIES, timeout_s=TIMEOUT_S)
                self._clients[upstream] = self._opened.enter_context(made)
            return self._clients[upstream]

    def _admitted(self, upstream: str) -> str:
        """The key to ask with. Raises JudgeAwayError where the task, a cap or a missing key forbids it."""
        judges = self._task.judges
        if upstream not in judges.upstreams or upstream not in self._settings.upstreams:
            raise JudgeAwayError(f"task {self._name} does not allow its judges at upstream {upstream}")
        key = secret(self._settings.upstreams[upstream], worker=True)
        if key is None:
            raise JudgeAwayError(f"upstream {upstream} has no worker key (worker_key_env), so its judges are off")
        self._check_caps(upstream)
        return key

    def _check_caps(self, upstream: str) -> None:
        judges, rollout = self._task.judges, self._task.rollout
        why = self._purse.obstacle(self._name, upstream, judges.spend_cap_usd, (PURPOSE,))
        why = why or self._purse.obstacle(self._name, upstream, rollout.spend_cap_usd)
        if why is None and judges.run_cap_usd is not None and self._spent_usd >= judges.run_cap_usd:
            why = f"this run's cap of {judges.run_cap_usd:.2f} USD is reached"
        if why is not None:
            raise JudgeAwayError(why)

    def _asked(self, client: openai.OpenAI, question: Question, upstream: str, model: str) -> Any:
        """What the judge said, as JSON; None where it is none. Raises JudgeAwayError, and `_REFUSED` as it came."""
        self._check_caps(upstream)
        chosen = dict(question.settings.sampling_params)
        if "max_completions_tokens" in chosen:  # OpenAI's grader shape has its own word for it
            chosen["max_completion_tokens"] = chosen.pop("max_completions_tokens")
        messages: Any = [dict(one) for one in question.messages]
        body: dict[str, Any] = {"temperature": 0, **chosen, "response_format": question.shape}
        try:
            raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, **body)
            answer = answer_from(json_object(raw.content) or {})
        except _REFUSED:
            raise
        except (openai.OpenAIError, httpx2.HTTPError, ValueError, AttributeError, TypeError) as error:
            raise JudgeAwayError(f"judge {model} at upstream {upstream}: {type(error).__name__}") from error
        self._purse.note_remaining(upstream, remaining(raw.headers))
        if answer.message or answer.usage:
            self._pay(upstream, model, answer.usage)
        if not answer.message:
            raise JudgeAwayError(f"judge {model} at upstream {upstream}: what it answered is no completion")
        try:
            return json.loads(answer.text)
        except (ValueError, RecursionError):
            return None

    def _pay(self, upstream: str, model: str, usage: Usage | None) -> None:
        self._purse.write(self._name, PURPOSE, upstream, model, Answer(message={}, usage=usage))
        with self._lock:
            self._spent_usd += cost_usd(model, usage, self._settings.prices) or 0.0

    def _known(self, question: Question) -> float | None:
        same = (judgements.c.version == question.version) & (judgements.c.input_hash == question.input_hash)
        with self._store.read() as connection:
            return connection.scalar(select(judgements.c.value).where(same))

    def _remember(self, question: Question, value: float) -> None:
        row = {"version": question.version, "input_hash": question.input_hash, "value": value}
        with self._store.write() as connection:
            upsert(connection, judgements, [{**row, "judged_at": self._clock()}], ["version", "input_hash"])
