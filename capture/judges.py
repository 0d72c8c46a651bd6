"""Asking judges: through the `openai` SDK, only where a task allows it, within its caps, and once for each question."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import httpx2
import openai
import structlog
from sqlalchemy import select

from capture.db import Store, upsert
from capture.errors import JudgeAwayError
from capture.exchange import Answer, Usage
from capture.graders.means import Question
from capture.prices import cost_usd
from capture.settings import Settings, TaskSettings, UpstreamSettings, secret
from capture.tables import judgements

PURPOSE = "judge"
ATTEMPTS = 3
"""Tries for an answer that can be understood; the SDK repeats what failed on the way by itself."""

TIMEOUT_S = 60.0
AZURE_VERSION = "2024-10-21"

_log = structlog.get_logger(__name__)


class Purse(Protocol):
    """What background calls may cost, and what they did."""

    def obstacle(
        self, task: str, upstream: str, cap_usd: float | None, purposes: Sequence[str] = ...
    ) -> str | None: ...

    def note_remaining(self, upstream: str, remaining: float | None) -> None: ...

    def write(self, task: str, purpose: str, upstream: str, model: str, answer: Answer) -> None: ...


class TaskJudges:
    """The judges of one task for one run. Thread-safe."""

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
        self._lock = threading.Lock()

    def verdict(self, question: Question) -> float | None:
        """A score in [0, 1], from memory where this was asked before; None where the judge said nothing usable.

        Raises JudgeAwayError while it cannot be asked.
        """
        known = self._known(question)
        if known is not None:
            return known
        upstream, model = str(question.settings.upstream), str(question.settings.model)
        key = self._admitted(upstream)
        with _client(self._settings.upstreams[upstream], key) as client:
            for _ in range(ATTEMPTS):
                value = question.read(self._asked(client, question, upstream, model))
                if value is not None:
                    self._remember(question, value)
                    return value
        _log.warning("a judge gave no verdict", task=self._name, grader=question.grader, attempts=ATTEMPTS)
        return None

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
        """What the judge said, as JSON; None where it is none."""
        self._check_caps(upstream)
        chosen = dict(question.settings.sampling_params)
        if "max_completions_tokens" in chosen:  # OpenAI's grader shape has its own word for it
            chosen["max_completion_tokens"] = chosen.pop("max_completions_tokens")
        messages: Any = [dict(one) for one in question.messages]
        body: dict[str, Any] = {"temperature": 0, **chosen, "response_format": question.shape}
        try:
            raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, **body)
            said = raw.parse()
        except openai.OpenAIError as error:
            raise JudgeAwayError(f"judge {model} at upstream {upstream}: {type(error).__name__}") from error
        self._purse.note_remaining(upstream, _remaining(raw.headers))
        usage = said.usage and Usage(input_tokens=said.usage.prompt_tokens, output_tokens=said.usage.completion_tokens)
        self._pay(upstream, model, usage or None)
        text = said.choices[0].message.content if said.choices else None
        try:
            return json.loads(text or "")
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


@contextmanager
def _client(upstream: UpstreamSettings, key: str) -> Iterator[openai.OpenAI]:
    """No redirects, no proxies and no organisation from the environment."""
    with httpx2.Client(trust_env=False, follow_redirects=False) as http:
        common: dict[str, Any] = {"api_key": key, "http_client": http, "max_retries": 2, "timeout": TIMEOUT_S}
        client = (
            openai.AzureOpenAI(base_url=upstream.base_url, api_version=upstream.api_version or AZURE_VERSION, **common)
            if upstream.kind == "azure"
            else openai.OpenAI(base_url=upstream.base_url, **common)
        )
        client.organization = client.project = None
        yield client


def _remaining(headers: Mapping[str, str]) -> float | None:
    """The smallest part left of any rate limit that the headers tell of."""
    parts = []
    for kind in ("requests", "tokens"):
        try:
            limit = float(headers[f"x-ratelimit-limit-{kind}"])
            parts.append(float(headers[f"x-ratelimit-remaining-{kind}"]) / limit)
        except (KeyError, ValueError, ZeroDivisionError):
            continue
    return min(parts, default=None)
